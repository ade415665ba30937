"""Routes, who may ask, and which status an error becomes; over the real application, without a process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
import numpy as np
import pytest

from nbops.core.errors import SignatureMismatch
from nbops.core.records import Signature, TensorSpec
from nbops.serving.app import App, ServedModel
from nbops.serving.batching import Batcher
from nbops.serving.engines import LocalEngine
from nbops.serving.metrics import EndpointMetrics, ModelMetrics

TOKEN = "secret-token"
INFER = "/v2/models/adder/infer"
GOOD = {"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}]}


class Adder:
    """``y = x + 1``; what the first value says it does instead: 66 fails, 67 refuses, 68 blocks until released."""

    signature = Signature(
        inputs=[TensorSpec(name="x", dtype="float32", shape=[-1, 2])],
        outputs=[TensorSpec(name="y", dtype="float32", shape=[-1, 2])],
    )

    def __init__(self) -> None:
        self.released = threading.Event()

    def predict(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        first = inputs["x"][:, 0]
        if 66 in first:
            raise RuntimeError("the model is broken")
        if 67 in first:
            raise SignatureMismatch("the model does not take 67")
        if 68 in first:
            self.released.wait(20)
        return {"y": inputs["x"] + 1}

    def memory_bytes(self) -> int:
        return 0

    def close(self) -> None:
        self.released.set()


Scenario = Callable[[httpx.AsyncClient, App, Adder], Awaitable[None]]


def with_app(scenario: Scenario, **limits: Any) -> None:
    """Run `scenario` with a client that sends the token."""

    async def go() -> None:
        runtime, metrics, counts = Adder(), EndpointMetrics(), ModelMetrics("adder", "3")
        metrics.models.append(counts)
        batcher = Batcher(
            LocalEngine(runtime, loop=asyncio.get_running_loop()),
            max_queue=limits.get("max_queue", 100),
            timeout_s=limits.get("timeout_s", 20.0),
        )
        model = ServedModel("adder", "3", signature=runtime.signature, batcher=batcher, metrics=counts)
        app = App([model], metrics=metrics, token=TOKEN, max_body_bytes=2000, server_version="9.9")
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:1", headers=headers) as client:
            try:
                await scenario(client, app, runtime)
            finally:
                runtime.released.set()
                batcher.close()

    asyncio.run(go())


def first_value(value: float) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [value, 0]}]}


def test_the_routes_of_the_protocol() -> None:
    async def scenario(client: httpx.AsyncClient, app: App, runtime: Adder) -> None:
        metadata = {
            "name": "adder",
            "versions": ["3"],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
        }
        expected = {
            "/v2": {"name": "nbops", "version": "9.9", "extensions": []},
            "/v2/": {"name": "nbops", "version": "9.9", "extensions": []},
            "/v2/health/live": {"live": True, "ready": True},
            "/v2/health/ready": {"live": True, "ready": True},
            "/v2/models": {"models": ["adder"]},
            "/v2/models/adder": metadata,
            "/v2/models/adder/versions/3": metadata,
            "/v2/models/adder/ready": {"name": "adder", "ready": True},
            "/v2/models/adder/versions/3/ready": {"name": "adder", "ready": True},
        }
        for path, body in expected.items():
            answer = await client.get(path)
            assert (answer.status_code, answer.json()) == (200, body)
            assert answer.headers["content-type"] == "application/json"
        for path in (INFER, "/v2/models/adder/versions/3/infer"):
            answer = await client.post(path, json=GOOD)
            assert answer.json()["outputs"][0]["data"] == [2.0, 3.0, 4.0, 5.0]
        assert (await client.get("/v2/stats")).json()["adder/3"]["rows"] == 4
        assert 'nbops_requests_total{model="adder",version="3",code="200"} 2' in (await client.get("/metrics")).text

    with_app(scenario)


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v2/models/addr", 404, "no model 'addr': this endpoint serves 'adder'. Did you mean 'adder'?"),
        ("POST", "/v2/models/addr/infer", 404, "no model 'addr'"),
        ("POST", "/v2/models/adder/versions/9/infer", 404, "no version '9' of 'adder': this endpoint serves '3'"),
        ("POST", "/v2/models/adder/infer/", 404, "Did you mean '/v2/models/adder/infer'?"),
        ("GET", "/v2/modles", 404, "no route '/v2/modles'. Did you mean '/v2/models'?"),
        ("GET", INFER, 405, "expected POST, got GET"),
        ("POST", "/v2/health/live", 405, "expected GET, got POST"),
    ],
)
def test_wrong_routes_are_told(method: str, path: str, status: int, message: str) -> None:
    async def scenario(client: httpx.AsyncClient, app: App, runtime: Adder) -> None:
        answer = await client.request(method, path)
        assert answer.status_code == status
        assert message in answer.json()["error"]
        assert ("allow" in answer.headers) == (status == 405)

    with_app(scenario)


def test_a_wrong_shape_answers_400_with_expected_and_got() -> None:
    async def scenario(client: httpx.AsyncClient, app: App, runtime: Adder) -> None:
        body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
        answer = await client.post(INFER, json=body)
        assert answer.status_code == 400
        assert answer.json() == {"error": "input 'x': expected shape [-1, 2], got [1, 3]"}
        answer = await client.post(INFER, content=b'{"inputs": [NaN]}')
        assert answer.status_code == 400
        assert answer.json()["error"].endswith("Send null for a missing number.")
        assert 'code="400"} 2' in (await client.get("/metrics")).text

    with_app(scenario)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": f"Bearer {TOKEN}"}, 200),
        ({"Authorization": f"token {TOKEN}"}, 200),
        ({"Authorization": "", "X-API-Key": TOKEN}, 200),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": ""}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({"Host": "localhost:99"}, 200),
        ({"Host": "LOCALHOST"}, 200),
        ({"Host": "[::1]:99"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example:80"}, 403),
    ],
)
def test_who_may_ask(headers: dict[str, str], status: int) -> None:
    async def scenario(client: httpx.AsyncClient, app: App, runtime: Adder) -> None:
        answer = await client.get("/v2/models", headers=headers)
        assert answer.status_code == status
        assert ("www-authenticate" in answer.headers) == (status == 401)
        if status != 200:
            assert "expected" in answer.json()["error"]
            reason = "auth" if status == 401 else "host"
            assert f'nbops_refused_total{{reason="{reason}"}} 1' in (await client.get("/metrics")).text

    with_app(scenario)


def test_health_needs_no_token() -> None:
    async def scenario(client: httpx.AsyncClient, app: App, runtime: Adder) -> None:
        assert (await client.get("/v2/health/ready", headers={"Authorization": ""})).status_code == 200

    with_app(scenario)


def test_large_and_encoded_bodies_are_refused() -> None:
    async def scenario(client: httpx.AsyncClient, app: App, runtime: Adder) -> None:
        async def chunks() -> Any:
            for _ in range(3):
                yield b" " * 1000

        for content in (b" " * 2001, chunks()):
            answer = await client.post(INFER, content=content)
            assert answer.status_code == 413
            assert "exceeds the limit of 2000 bytes" in answer.json()["error"]
        answer = await client.post(INFER, content=b"x", headers={"Content-Encoding": "gzip"})
        assert answer.status_code == 415
        answer = await client.post(INFER, content=b"x", headers={"Inference-Header-Content-Length": "1"})
        assert (answer.status_code, "JSON tensors only" in answer.json()["error"]) == (400, True)

    with_app(scenario)


def test_a_failing_model_answers_and_its_neighbours_are_spared() -> None:
    async def scenario(client: httpx.AsyncClient, app: App, runtime: Adder) -> None:
        values = [1.0, 66.0, 2.0, 67.0, 3.0]
        answers = await asyncio.gather(*(client.post(INFER, json=first_value(v)) for v in values))
        assert [a.status_code for a in answers] == [200, 500, 200, 400, 200]
        assert [a.json()["outputs"][0]["data"][0] for a in answers[::2]] == [2.0, 3.0, 4.0]
        assert answers[1].json() == {"error": "the model failed: the model is broken"}
        assert answers[3].json() == {"error": "the model does not take 67"}

    with_app(scenario)


def test_a_full_queue_answers_429_and_a_late_answer_504() -> None:
    async def scenario(client: httpx.AsyncClient, app: App, runtime: Adder) -> None:
        blocked = asyncio.create_task(client.post(INFER, json=first_value(68)))
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(client.post(INFER, json=GOOD))
        await asyncio.sleep(0.1)
        refused = await client.post(INFER, json=GOOD)
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert (await blocked).status_code == 504
        assert (await client.get("/v2/health/ready")).status_code == 503
        assert (await client.get("/v2/health/live")).json() == {"live": True, "ready": False}
        ready = await client.get("/v2/models/adder/ready")
        assert (ready.status_code, "no answer from the engine of 'adder'" in ready.json()["error"]) == (503, True)
        assert (await waiting).status_code == 504
        runtime.released.set()

    with_app(scenario, max_queue=2, timeout_s=0.5)


def test_a_draining_endpoint_sends_its_clients_away() -> None:
    async def scenario(client: httpx.AsyncClient, app: App, runtime: Adder) -> None:
        app.is_draining = True
        answer = await client.post(INFER, json=GOOD)
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert (await client.get("/v2/health/ready")).status_code == 503

    with_app(scenario)


def test_many_concurrent_requests_get_the_answers_of_single_ones() -> None:
    async def scenario(client: httpx.AsyncClient, app: App, runtime: Adder) -> None:
        rng = np.random.default_rng(0)
        arrays = [rng.normal(size=(int(n), 2)).astype(np.float32) for n in rng.integers(1, 5, 60)]

        async def infer(array: Any) -> Any:
            tensor = {"name": "x", "shape": list(array.shape), "datatype": "FP32", "data": array.ravel().tolist()}
            out = (await client.post(INFER, json={"inputs": [tensor]})).json()["outputs"][0]
            return np.array(out["data"], np.float32).reshape(out["shape"])

        together = await asyncio.gather(*(infer(a) for a in arrays))
        for array, answer in zip(arrays, together, strict=True):
            np.testing.assert_array_equal(answer, array + 1)
        stats = (await client.get("/v2/stats")).json()["adder/3"]
        assert stats["batches"] < stats["requests"] == 60

    with_app(scenario, max_queue=1000)
