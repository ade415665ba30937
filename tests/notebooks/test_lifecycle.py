"""Real kernels that are interrupted, restarted and killed while a run is open, and cells that run side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel

import nbops as nb
from nbops.core.records import Run
from nbops.store.workspace import Workspace
from nbops.tracking.runs import RUN_VARIABLE

Kernel = tuple[KernelManager, BlockingKernelClient]
LOAD = "%load_ext nbops\nimport nbops as nb, time, asyncio"
SLEEP = "open('reached', 'w').close()\nnb.log(x=1.0)\ntime.sleep(60)"
pytestmark = pytest.mark.leaks("zmq keeps the sockets to a killed kernel until its context ends with the process")


@pytest.fixture
def kernel(workspace: Workspace) -> Iterator[Kernel]:
    manager, client = start_new_kernel(kernel_name="python3")
    execute(client, LOAD, cell_id="load")
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()
    manager.context.destroy(linger=0)


def send(client: BlockingKernelClient, code: str, *, cell_id: str) -> str:
    """Send a cell the way JupyterLab does, with its id."""
    content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False, "stop_on_error": True}
    message = client.session.msg("execute_request", content, metadata={"cellId": cell_id})
    client.shell_channel.send(message)
    return str(message["header"]["msg_id"])


def answer(client: BlockingKernelClient, message_id: str) -> dict[str, Any]:
    while True:
        reply = client.get_shell_msg(timeout=60)
        if reply["parent_header"].get("msg_id") == message_id:
            found: dict[str, Any] = reply["content"]
            return found


def execute(client: BlockingKernelClient, code: str, *, cell_id: str) -> dict[str, Any]:
    reply = answer(client, send(client, code, cell_id=cell_id))
    while reply["status"] == "aborted":  # a kernel throws away what reaches it right after an error
        reply = answer(client, send(client, code, cell_id=cell_id))
    return reply


def begin(client: BlockingKernelClient, code: str, folder: Path, *, cell_id: str) -> str:
    """Send a cell and wait until it is inside; it makes the file `reached`."""
    sent = send(client, code, cell_id=cell_id)
    assert until((folder / "reached").exists)
    return sent


def until(is_so: Callable[[], bool], *, patience_s: float = 10.0) -> bool:
    end = time.monotonic() + patience_s
    while not is_so() and time.monotonic() < end:
        time.sleep(0.05)
    return is_so()


def the_run(name: str) -> Run:
    found: Run = nb.find("runs", f"name == '{name}'")[0]
    return found


def test_an_interrupted_cell_interrupts_its_run_and_leaves_none_open(kernel: Kernel, tmp_path: Path) -> None:
    manager, client = kernel
    sent = begin(client, "%%mlops run stopped\n" + SLEEP, tmp_path, cell_id="slow")
    manager.interrupt_kernel()
    assert answer(client, sent)["ename"] == "KeyboardInterrupt"
    run = the_run("stopped")
    assert (run.status, run.error and run.error.type, run.error and run.error.cell_id) == (
        "INTERRUPTED",
        "KeyboardInterrupt",
        "slow",
    )
    assert run.metrics == {"x": 1.0}
    reply = execute(client, "%%mlops run --resume stopped\nnb.log(x=2.0)", cell_id="slow")
    assert reply["status"] == "ok"
    run = the_run("stopped")
    assert (run.status, run.error, len(run.resumes)) == ("FINISHED", None, 1)
    assert nb.series(run, "x").values.tolist() == [1.0, 2.0]
    reply = execute(client, f"%%mlops run --attach {run.id}\nnb.log(x=3.0)", cell_id="other")
    assert (reply["ename"], "is FINISHED" in reply["evalue"]) == ("Conflict", True)


def test_a_restarted_kernel_interrupts_what_start_opened(kernel: Kernel, tmp_path: Path) -> None:
    manager, client = kernel
    execute(client, "nb.start('open')\nnb.log(x=1.0)", cell_id="a")
    manager.restart_kernel(now=False)
    run = the_run("open")
    assert (run.status, run.error and run.error.type) == ("INTERRUPTED", "KernelStopped")
    client.wait_for_ready(timeout=60)
    execute(client, LOAD + f"\nnb.start(resume='{run.id}')\nnb.log(x=2.0)\nnb.end()", cell_id="a")
    assert nb.series("open", "x").values.tolist() == [1.0, 2.0]
    assert the_run("open").status == "FINISHED"


def test_a_kernel_restarted_amid_a_cell_names_the_cell(kernel: Kernel, tmp_path: Path) -> None:
    manager, client = kernel
    execute(client, "nb.start('open')", cell_id="start")
    begin(client, SLEEP, tmp_path, cell_id="train")
    manager.restart_kernel(now=False)
    assert until(lambda: the_run("open").status == "INTERRUPTED")
    run = the_run("open")
    assert run.error is not None
    assert (run.error.type, run.error.cell_id) == ("KeyboardInterrupt", "train")


def test_a_killed_kernel_is_noticed_here_with_its_cell(kernel: Kernel, workspace: Workspace, tmp_path: Path) -> None:
    manager, client = kernel
    execute(client, "nb.start('doomed')", cell_id="start")
    begin(client, SLEEP, tmp_path, cell_id="train")
    died = time.time()
    manager.signal_kernel(9)
    assert until(lambda: the_run("doomed").status == "INTERRUPTED")
    run = the_run("doomed")
    assert run.error is not None
    assert (run.error.type, run.error.cell_id) == ("KernelDied", "train")
    assert run.ended_at is not None
    assert run.ended_at <= died + 10
    assert run.metrics == {"x": 1.0}


def test_async_cells_hold_a_run_across_awaits(kernel: Kernel) -> None:
    _, client = kernel
    code = """
async def work(number):
    with nb.run(f"task-{number}"):
        for _ in range(5):
            nb.log(mine=float(number))
            await asyncio.sleep(0)
with nb.run("whole"):
    await asyncio.gather(*(work(i) for i in range(3)))
    nb.log(mine=9.0)
"""
    assert execute(client, code, cell_id="async")["status"] == "ok"
    for name, value in (("task-0", 0.0), ("task-1", 1.0), ("task-2", 2.0), ("whole", 9.0)):
        assert set(nb.series(name, "mine").values.tolist()) == {value}
        assert (the_run(name).status, the_run(name).cell_id) == ("FINISHED", "async")
    reply = execute(client, "nb.log(mine=1.0)", cell_id="next")
    assert (reply["ename"], "no run is open" in reply["evalue"]) == ("NotFound", True)


def test_a_kernel_attaches_to_a_run_of_another_process(kernel: Kernel) -> None:
    _, client = kernel
    with nb.run("shared") as run:
        code = f"nb.start(attach='{run.id}', params={{'seed': 1}})\nnb.log(x=1.0)\nnb.end().status"
        assert execute(client, code, cell_id="join")["status"] == "ok"
        assert run.record.status == "RUNNING"
    assert (run.record.params, run.record.metrics) == ({"seed": 1}, {"x": 1.0})
    assert until(lambda: nb.find("cells", f"parent == '{run.id}' and cell_id == 'join'").total == 1)


def test_threads_of_one_cell_do_not_mix(kernel: Kernel) -> None:
    _, client = kernel
    code = """
from concurrent.futures import ThreadPoolExecutor
def work(number):
    with nb.run(f"thread-{number}"):
        for _ in range(50):
            nb.log(mine=float(number))
with ThreadPoolExecutor(4) as pool:
    list(pool.map(work, range(4)))
"""
    assert execute(client, code, cell_id="threads")["status"] == "ok"
    for number in range(4):
        assert set(nb.series(f"thread-{number}", "mine").values.tolist()) == {float(number)}


def test_a_papermill_step_logs_into_the_run_that_started_it(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "import nbops as nb\nwith nb.run(params={'seed': 1}):\n    nb.log(x=1.0)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbformat.write(notebook, tmp_path / "step.ipynb")
    with nb.run("whole") as run:
        monkeypatch.setenv(RUN_VARIABLE, run.id)
        step = nb.run_notebook(tmp_path / "step.ipynb", kernel_name="python3")
        assert run.record.status == "RUNNING"
    assert (step.status, step.parent) == ("FINISHED", run.id)
    assert (run.record.params, run.record.metrics) == ({"seed": 1}, {"x": 1.0})
    assert nb.find("runs").total == 2
