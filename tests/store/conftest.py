"""Object storage for the store's tests: moto's server in place of S3, where the extra `s3` and moto are installed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest


@pytest.fixture
def s3_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a fresh bucket; other processes reach it through the environment."""
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed; the extra `s3` brings it")
    server = pytest.importorskip("moto.server", reason="moto is not installed: its pins do not go with the others")
    thread = server.ThreadedMotoServer(port=0, verbose=False)
    thread.start()
    try:
        host, port = thread.get_host_and_port()
        values = {"ENDPOINT_URL": f"http://{host}:{port}", "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x"}
        for name, value in {**values, "DEFAULT_REGION": "us-east-1"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        s3fs.S3FileSystem.clear_instance_cache()
        bucket = f"team-{uuid.uuid4().hex}"
        s3fs.S3FileSystem().mkdir(bucket)
        yield f"s3://{bucket}"
    finally:
        thread.stop()
