"""A real PostgreSQL server for the session, on a unix socket in a folder of its own, and a fresh database per test."""

from __future__ import annotations

import os
import pwd
import shutil
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


def _start(programs: Path, folder: Path) -> subprocess.Popen[bytes]:
    who = _other_user()
    if who:
        os.chown(folder, who["user"], who["group"])
    data, log = folder / "data", folder / "log"
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    made = subprocess.run(
        [programs / "initdb", "-D", data, "-U", "nbops", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8"],
        **who, env=environment, cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        raise RuntimeError(f"initdb failed: {made.stderr}")
    options = {
        "listen_addresses": "", "unix_socket_directories": str(folder), "fsync": "off", "max_connections": "100",
        "full_page_writes": "off", "synchronous_commit": "off", "shared_buffers": "32MB",
    }  # fmt: skip
    arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    with log.open("wb") as stream:
        return subprocess.Popen(
            [programs / "postgres", "-D", data, *arguments],
            **who, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
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
    # A short path of its own: a socket's path has about 100 characters, and the other user must be able to enter.
    folder = Path(tempfile.mkdtemp(prefix="nbops-pg-", dir="/tmp"))
    folder.chmod(0o755)
    process = None
    try:
        process = _start(programs, folder)
        _wait_until_ready(programs, folder, process)
        yield PostgresServer(folder)
    finally:
        if process is not None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The SQLAlchemy URL of a fresh, empty database that is dropped after the test."""
    name = f"t_{uuid.uuid4().hex}"
    postgres_server.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    yield postgres_server.url(name)
    postgres_server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
