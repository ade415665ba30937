"""A real PostgreSQL server for the session, on a unix socket in a folder of its own, and a fresh database per test."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tools import require

START_S = 30.0


@dataclass(frozen=True)
class PostgresServer:
    """A running server: its socket's folder, and the name of the superuser."""

    folder: Path
    user: str = "nbops"

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of `database`."""
        return f"postgresql+psycopg://{self.user}@/{database}?host={self.folder}"

    def execute(self, statement: str) -> None:
        """Run one statement outside a transaction in the maintenance database."""
        import psycopg

        with psycopg.connect(dbname="postgres", user=self.user, host=str(self.folder), autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]


def _other_user() -> dict[str, Any]:
    """Return the arguments that start a process as somebody else: initdb and postgres refuse to run as root."""
    if os.geteuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _make(programs: Path, folder: Path) -> None:
    who = _other_user()
    if who:
        os.chown(folder, who["user"], who["group"])
    data = folder / "data"
    made = subprocess.run(
        [programs / "initdb", "-D", data, "-U", "nbops", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8"],
        **who, env=ENVIRONMENT, cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        raise RuntimeError(f"initdb failed: {made.stderr}")


def _start(programs: Path, folder: Path, *, durable: bool = False) -> subprocess.Popen[bytes]:
    options = {
        "listen_addresses": "", "unix_socket_directories": str(folder), "fsync": "off", "max_connections": "100",
        "full_page_writes": "off", "synchronous_commit": "on" if durable else "off", "shared_buffers": "32MB",
    }  # fmt: skip
    arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    with (folder / "log").open("ab") as stream:
        return subprocess.Popen(
            [programs / "postgres", "-D", folder / "data", *arguments],
            **_other_user(), env=ENVIRONMENT, cwd=folder, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            start_new_session=True,
        )  # fmt: skip


def _wait_until_ready(programs: Path, folder: Path, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        if subprocess.run([programs / "pg_isready", "-q", "-h", folder], check=False).returncode == 0:
            return
        time.sleep(0.05)
    raise RuntimeError(f"PostgreSQL did not start: {(folder / 'log').read_text(errors='replace')[-2000:]}")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server for the whole session, stopped and wiped at its end."""
    programs = require("postgres")
    pytest.importorskip("psycopg", reason="psycopg is not installed; the extra `postgres` brings it")
    outage = Outage(programs)
    try:
        outage.start()
        yield PostgresServer(outage.folder)
    finally:
        outage.remove()


class Outage:
    """A server that a test may stop as if its power went, and start again."""

    def __init__(self, programs: Path) -> None:
        # A short path of its own: a socket's path has about 100 characters, and the other user must be able to enter.
        self.folder = Path(tempfile.mkdtemp(prefix="nbops-pg-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.url = PostgresServer(self.folder).url("postgres")
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        _make(programs, self.folder)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = _start(self._programs, self.folder, durable=True)
        _wait_until_ready(self._programs, self.folder, self._process)

    def stop(self, *, number: int = signal.SIGQUIT) -> None:
        """Stop it: at once, unless another signal is given; connections break."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def remove(self) -> None:
        """Stop it for good."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def outage() -> Iterator[Outage]:
    """A server of the test's own, which runs."""
    pytest.importorskip("psycopg", reason="psycopg is not installed; the extra `postgres` brings it")
    server = Outage(require("postgres"))
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The SQLAlchemy URL of a fresh, empty database that is dropped after the test."""
    name = f"t_{uuid.uuid4().hex}"
    postgres_server.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    yield postgres_server.url(name)
    postgres_server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
