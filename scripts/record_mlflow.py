"""Record what MLflow's own server answers to the requests of the conformance test.

    python -m venv /tmp/mlflow && /tmp/mlflow/bin/pip install mlflow
    .venv/bin/python scripts/record_mlflow.py /tmp/mlflow/bin/python

starts that MLflow over an empty SQLite database, asks the sequence of ``tests/support/mlflow_sequence`` of it, and
writes ``tests/server/mlflow/golden/PART.json``. Look through the changes before they are committed: the test then says
where nbops differs from what is new.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "server" / "mlflow" / "golden"
sys.path.insert(0, str(ROOT / "tests" / "support"))

from mlflow_sequence import PARTS  # noqa: E402
from mlflow_sequence.replaying import replay  # noqa: E402

_START_S = 120.0


@contextmanager
def mlflow_server(python: str, folder: Path) -> Iterator[str]:
    """Run MLflow's server over an empty database; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["server", "--port", str(port), "--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    words += ["--artifacts-destination", str(folder / "files"), "--serve-artifacts"]
    process = subprocess.Popen(
        [python, "-m", "mlflow", *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
    )  # fmt: skip
    try:
        _wait(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def _wait(port: int) -> None:
    """Return when the server answers."""
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.2)
        finally:
            connection.close()
    raise SystemExit(f"MLflow did not answer within {_START_S:g} s")


def version_of(python: str) -> str:
    """Return the version of MLflow that a Python has."""
    told = subprocess.run(
        [python, "-c", "import mlflow; print(mlflow.__version__)"], capture_output=True, text=True, check=True
    )
    return told.stdout.strip()


def _kept(told: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of an answer: all of a good one; of a refusal the code, not the words."""
    if told["status"] == 200:
        return told
    return {
        "status": told["status"],
        "answer": {key: told["answer"][key] for key in told["answer"] if key == "error_code"},
    }


def main() -> None:
    """Record every part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", help="the Python of an environment with MLflow's server")
    python = parser.parse_args().python
    version = version_of(python)
    with tempfile.TemporaryDirectory() as folder, mlflow_server(python, Path(folder)) as uri:
        answers = replay(uri, [ask for part in PARTS.values() for ask in part])
    GOLDEN.mkdir(exist_ok=True)
    for name, asks in PARTS.items():
        lines = [f"{json.dumps(ask.name)}: {json.dumps(_kept(answers[ask.name]), ensure_ascii=False)}" for ask in asks]
        text = f'{{"mlflow": {json.dumps(version)}, "answers": {{\n' + ",\n".join(lines) + "\n}}\n"  # a line for each
        (GOLDEN / f"{name}.json").write_text(text, encoding="utf-8")
    print(f"recorded {len(answers)} answers of MLflow {version} in {GOLDEN.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
