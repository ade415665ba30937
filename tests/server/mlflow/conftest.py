"""A server of our own in a process, and a way to ask it."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

TOKEN = "a-token-for-tests"
PEOPLE = {"vera": "viewer", "bert": "editor", "anna": "approver"}


class Server:
    """`nbops mlflow-server` over the workspace in a folder, with one token or with a file of users."""

    def __init__(self, folder: Path, *, users: Path | None = None) -> None:
        self.folder = folder
        self.users = users
        self.tokens: dict[str, str] = {}
        self.process: subprocess.Popen[str] | None = None
        self.uri = ""

    def start(self) -> None:
        access = ["--token", TOKEN] if self.users is None else ["--users", str(self.users)]
        words = ["mlflow-server", *access, "--workspace", str(self.folder), "--until-stdin-closes"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nbops", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.uri = self.process.stdout.readline().strip().partition("=")[2]

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.stop()

    def stop(self) -> None:
        if self.process is not None:
            for stream in (self.process.stdin, self.process.stdout):
                if stream is not None:
                    stream.close()
            self.process.wait(20)
        self.process = None

    def send(
        self, method: str, path: str, body: bytes = b"", *, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Return status and body; the path goes out as it is written here."""
        place = urlsplit(self.uri)
        connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=30)
        try:
            head = {"Authorization": f"Bearer {TOKEN}"} if headers is None else headers
            connection.request(method, place.path + path, body=body, headers=head)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def ask(self, method: str, path: str, fields: Any = None, *, who: str = "") -> tuple[int, Any]:
        """Return status and JSON of one call of the interface, by the one token or by one of the users."""
        body = b"" if fields is None else json.dumps(fields).encode()
        status, text = self.send(method, f"/api/2.0/mlflow/{path}", body, headers=self.head(who) if who else None)
        return status, json.loads(text)

    def good(self, method: str, path: str, fields: Any = None, *, who: str = "") -> Any:
        """Return the JSON of a call that must succeed."""
        status, answer = self.ask(method, path, fields, who=who)
        assert status == 200, answer
        return answer

    def head(self, who: str) -> dict[str, str]:
        """Return the header by which a user is known."""
        return {"Authorization": f"Bearer {self.tokens[who]}"}

    def new_run(self, **fields: Any) -> str:
        """Open a run and return its id."""
        made = self.good("POST", "runs/create", {"experiment_id": "0", "start_time": 1_700_000_000_000, **fields})
        id: str = made["run"]["info"]["run_id"]
        return id


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests of a module."""
    found = Server(tmp_path_factory.mktemp("mlflow"))
    found.start()
    yield found
    found.stop()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Server]:
    """A server over the test's own folder, not started yet; it can be started again."""
    found = Server(tmp_path)
    yield found
    found.stop()


def with_people(folder: Path) -> Server:
    """Return a server that is not started yet, for a viewer, an editor and an approver."""
    made = Server(folder, users=folder / "users.toml")
    for name, role in PEOPLE.items():
        words = ["-m", "nbops", "mlflow-server", "--new-user", name, "--role", role]
        said = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True)
        made.tokens[name] = said.stderr.split()[-1]
        with (folder / "users.toml").open("a") as file:
            file.write(said.stdout)
    return made


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for a viewer, an editor and an approver, for the tests of a module."""
    found = with_people(tmp_path_factory.mktemp("team"))
    found.start()
    yield found
    found.stop()


@pytest.fixture
def fresh_team(tmp_path: Path) -> Iterator[Server]:
    """The same over the test's own folder, not started yet."""
    found = with_people(tmp_path)
    yield found
    found.stop()
