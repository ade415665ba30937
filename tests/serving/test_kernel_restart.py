"""An endpoint that a notebook started goes on answering while its kernel is interrupted, restarted and ended."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psutil
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from jupyter_core.utils import ensure_event_loop

from nbops.serving import endpoints as serving

TIMEOUT_S = 60
REQUESTS = 1000


@pytest.fixture(scope="module", autouse=True)
def _loop_of_jupyter() -> None:
    """Let jupyter_client make the event loop that it keeps for this thread, before a test is watched for leaks."""
    ensure_event_loop()


@pytest.fixture
def manager() -> Iterator[KernelManager]:
    """A manager of a real kernel, started as Jupyter does."""
    started = KernelManager(kernel_name="python3")
    started.start_kernel()
    yield started
    started.shutdown_kernel(now=True)
    started.cleanup_resources()


Connect = Callable[[KernelManager], BlockingKernelClient]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connect to a kernel; what is open is closed at the end."""
    opened: list[BlockingKernelClient] = []

    def make(manager: KernelManager) -> BlockingKernelClient:
        client: BlockingKernelClient = manager.client()
        opened.append(client)
        client.start_channels()
        client.wait_for_ready(timeout=TIMEOUT_S)
        return client

    yield make
    for client in opened:
        client.stop_channels()


def run_cell(client: BlockingKernelClient, code: str) -> str:
    """Execute a cell and return what it printed; the error of a cell fails the test."""
    printed: list[str] = []

    def note(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            printed.append(message["content"]["text"])

    reply = client.execute_interactive(code, timeout=TIMEOUT_S, output_hook=note, store_history=False)
    assert reply["content"]["status"] == "ok", reply["content"]
    return "".join(printed).strip()


@pytest.mark.slow
def test_no_request_fails_before_during_and_after_a_kernel_restart(
    register: Callable[..., Any], manager: KernelManager, connect: Connect
) -> None:
    register()
    client = connect(manager)
    url, token, pid = run_cell(
        client,
        "import nbops as nb\nlive = nb.serve('scaler@prod')\nprint(live.url, live.token, live.record.pid)",
    ).split()
    first_kernel = run_cell(client, "import os; print(os.getpid())")

    phase = ["before"]
    counts: Counter[tuple[str, int]] = Counter()
    failures: list[str] = []
    reached = threading.Event()
    ended = threading.Event()

    def keep_asking() -> None:
        body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
        with httpx.Client(headers={"Authorization": f"Bearer {token}"}) as http:
            while not ended.is_set() or sum(counts.values()) < REQUESTS:
                now = phase[0]
                try:
                    answer = http.post(f"{url}/v2/models/scaler/infer", json=body)
                except httpx.HTTPError as error:
                    failures.append(f"{now}: {error!r}")
                    return
                counts[now, answer.status_code] += 1
                if answer.json().get("outputs", [{}])[0].get("data") != [2, 4, 6, 8]:
                    failures.append(f"{now}: {answer.text}")
                if sum(counts.values()) >= 100:
                    reached.set()

    def begin(name: str) -> None:
        """Go on with a phase, and wait until a request was begun and answered within it."""
        phase[0] = name
        until = time.monotonic() + TIMEOUT_S
        while not counts[name, 200] and not failures:
            assert time.monotonic() < until, counts
            time.sleep(0.005)

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        assert reached.wait(TIMEOUT_S)
        begin("interrupt")
        sleeping = client.execute("print('asleep', flush=True); import time; time.sleep(60)")
        while "asleep" not in client.get_iopub_msg(timeout=TIMEOUT_S)["content"].get("text", ""):
            continue
        manager.interrupt_kernel()
        while (reply := client.get_shell_msg(timeout=TIMEOUT_S))["parent_header"]["msg_id"] != sleeping:
            continue
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        client.stop_channels()
        begin("restart")
        manager.restart_kernel(now=False)
        client = connect(manager)
        begin("after")
        assert run_cell(client, "import os; print(os.getpid())") != first_kernel
    finally:
        ended.set()
        asking.join()
    assert failures == []
    assert sum(counts.values()) >= REQUESTS
    assert {status for _, status in counts} == {200}
    assert {name for name, _ in counts} == {"before", "interrupt", "restart", "after"}

    found = run_cell(
        client,
        "import nbops as nb\n[record] = nb.endpoints()\nprint(record.name, record.status, record.pid)",
    )
    assert found == f"scaler@prod READY {pid}"
    again = run_cell(client, "live = nb.serve('scaler@prod')\nprint(live.url, live.infer([[1, 1, 1, 1]]).tolist())")
    assert again == f"{url} [[2.0, 2.0, 2.0, 2.0]]"
    assert run_cell(client, f"print(live.stop().status, live.record.pid == {pid}, len(nb.endpoints()))") == (
        "STOPPED True 0"
    )
    assert len(serving.endpoints()) == 0
    assert not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_an_endpoint_survives_the_end_of_its_kernel(
    register: Callable[..., Any], manager: KernelManager, connect: Connect
) -> None:
    register()
    client = connect(manager)
    url, token = run_cell(client, "import nbops as nb\nlive = nb.serve('scaler')\nprint(live.url, live.token)").split()
    manager.shutdown_kernel(now=True)
    answer = httpx.get(f"{url}/v2/models/scaler/ready", headers={"Authorization": f"Bearer {token}"})
    assert answer.json() == {"name": "scaler", "ready": True}
    live = serving.attach("scaler")
    assert live.infer([[1, 1, 1, 1]]).tolist() == [[2, 2, 2, 2]]
    assert live.stop().status == "STOPPED"
