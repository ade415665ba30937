"""Object storage for the store's tests: moto's server in place of S3, where the extra `s3` and moto are installed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest


class S3Server:
    """moto's server on a port of its own; what it holds outlives a stop."""

    def __init__(self, threaded: Any) -> None:
        self._threaded = threaded
        self._server: Any = None
        self.port = 0

    def start(self) -> None:
        """Let it answer."""
        self._server = self._threaded(port=self.port, verbose=False)
        self._server.start()
        _, self.port = self._server.get_host_and_port()

    def stop(self) -> None:
        """Let nobody answer at its port."""
        if self._server is not None:
            self._server.stop()
        self._server = None


@pytest.fixture
def s3_server() -> Iterator[S3Server]:
    """A server that runs, and can be stopped and started."""
    pytest.importorskip("s3fs", reason="s3fs is not installed; the extra `s3` brings it")
    module = pytest.importorskip("moto.server", reason="moto is not installed: its pins do not go with the others")
    server = S3Server(module.ThreadedMotoServer)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3_bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a fresh bucket; other processes reach it through the environment."""
    import s3fs

    values = {"ENDPOINT_URL": f"http://127.0.0.1:{s3_server.port}", "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x"}
    for name, value in {**values, "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    s3fs.S3FileSystem.clear_instance_cache()
    bucket = f"team-{uuid.uuid4().hex}"
    s3fs.S3FileSystem().mkdir(bucket)
    return f"s3://{bucket}"
