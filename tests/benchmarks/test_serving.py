"""Requests per second and latency of an endpoint, beside uvicorn with ONNX Runtime by hand and ``mlflow models serve``.

One ONNX model (4-64-3), one row of JSON per request, closed loop over kept connections; load generator and server
share this machine. The servers take turns, so that all meet the same noise.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

import nbops as nb
from nbops.store.workspace import init

GROUP = "Serving"
HERE = Path(__file__).parent
SECONDS = 3.0
ROUNDS = 3
ROW = [5.1, 3.5, 1.4, 0.2]
HAND = "uvicorn + ONNX Runtime by hand"


def tiny_onnx() -> onnx.ModelProto:
    """Return a multilayer perceptron 4-64-3."""
    rng = np.random.default_rng(0)
    weights = [("w0", (4, 64)), ("b0", (64,)), ("w1", (64, 3)), ("b1", (3,))]
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w0", "b0"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Gemm", ["r", "w1", "b1"], ["y"]),
        ],
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 3])],
        [numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name) for name, shape in weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


class Target:
    """One server under load: its port, and the bytes of one request."""

    def __init__(self, folder: Path, name: str, port: int, path: str, body: Any, token: str = "") -> None:
        self.name = name
        self.port = port
        data = json.dumps(body).encode()
        lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Content-Type: application/json"]
        lines += [f"Content-Length: {len(data)}", *([f"Authorization: Bearer {token}"] if token else [])]
        self.file = folder / f"request-{port}"
        self.file.write_bytes("\r\n".join(lines).encode() + b"\r\n\r\n" + data)

    def load(self, connections: int, seconds: float = SECONDS) -> dict[str, float]:
        """Return what the load generator measured."""
        command = [sys.executable, HERE / "load.py", "127.0.0.1", self.port, connections, seconds, self.file]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
        result: dict[str, float] = json.loads(done.stdout)
        assert not result["errors"], (self.name, result)
        return result


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[None]:
    """Run a server until the end of the block; wait until it listens."""
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True) as process:
        try:
            until = time.monotonic() + 120
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.1)
            yield
        finally:
            if process.poll() is None:
                for child in [*psutil.Process(process.pid).children(recursive=True), process]:
                    child.kill()


@pytest.fixture
def targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Target]]:
    """Ours first, then the peers that are installed."""
    monkeypatch.delenv("PYTHONPATH", raising=False)  # servers as they are outside the tests
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")  # this uvicorn
    model = tiny_onnx()
    onnx.save(model, tmp_path / "model.onnx")
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": ROW}
    with ExitStack() as stack:
        ws = init(tmp_path)
        stack.callback(ws.close)
        nb.register(model, "m", example=np.array([ROW, ROW], np.float32))
        live = nb.serve("m")
        stack.callback(live.stop)
        found = [
            Target(
                tmp_path,
                "nbops",
                int(live.url.rpartition(":")[2]),
                "/v2/models/m/infer",
                {"inputs": [tensor]},
                live.token,
            )
        ]
        port = free_port()
        command = [sys.executable, str(HERE / "plain_server.py"), str(tmp_path / "model.onnx"), str(port)]
        stack.enter_context(running(command, port, tmp_path / "plain.log"))
        found.append(Target(tmp_path, HAND, port, "/", {"inputs": [tensor]}))
        if importlib.util.find_spec("mlflow"):
            found.append(_mlflow(tmp_path, model, stack))
        yield found


def _mlflow(tmp_path: Path, model: onnx.ModelProto, stack: ExitStack) -> Target:
    import mlflow

    mlflow.onnx.save_model(model, str(tmp_path / "mlflow-model"))
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(tmp_path / "mlflow-model")]
    command += ["--env-manager", "local", "-p", str(port)]
    stack.enter_context(running(command, port, tmp_path / "mlflow.log"))
    return Target(tmp_path, f"MLflow {mlflow.__version__}", port, "/invocations", {"inputs": [ROW]})


def test_requests_per_second(bench: Any, targets: list[Target]) -> None:
    for target in targets:
        target.load(4, 1.0)
    for connections in (1, 16, 64):
        measured: dict[str, list[dict[str, float]]] = {target.name: [] for target in targets}
        for _ in range(ROUNDS):
            for target in targets:
                measured[target.name].append(target.load(connections))
        middle = {
            name: {
                "rate": statistics.median(r["requests"] / r["seconds"] for r in rounds),
                "p50": statistics.median(r["p50_ms"] for r in rounds),
                "p99": statistics.median(r["p99_ms"] for r in rounds),
            }
            for name, rounds in measured.items()
        }
        ours = middle.pop("nbops")
        what = f"{connections} connection{'s' if connections > 1 else ''}"
        goal = {64: "≥ 8,000"}.get(connections, "")
        rates = {name: m["rate"] for name, m in middle.items()}
        bench.row(
            GROUP, f"requests, {what}", ours=ours["rate"], unit="/s", peers=rates, goal=goal, lower_is_better=False
        )
        for key in ("p50", "p99"):
            goal = {("p50", 1): "≤ 0.40", ("p99", 64): "≤ 15"}.get((key, connections), "")
            times = {name: m[key] for name, m in middle.items()}
            bench.row(GROUP, f"latency {key}, {what}", ours=ours[key], unit="ms", peers=times, goal=goal)


def test_start_and_memory(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    ws = init(tmp_path)
    nb.register(tiny_onnx(), "m", example=np.array([ROW, ROW], np.float32))
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        live = nb.serve("m")
        live.infer([ROW])
        took.append(time.perf_counter() - began)
        idle_mb = psutil.Process(live.record.pid).memory_info().rss / 2**20
        live.stop()
    ws.close()
    bench.row(GROUP, "`nb.serve` to the first answer", ours=statistics.median(took), unit="s", peers={}, goal="≤ 3")
    bench.row(GROUP, "resident memory of an idle endpoint", ours=idle_mb, unit="MB", peers={})
