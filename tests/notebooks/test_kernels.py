"""Real kernels: a kill while logging, a failing cell that stops Run All, cell ids as JupyterLab sends them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import nbops as nb
from nbops.store.workspace import Workspace
from nbops.testing import values_of


@pytest.fixture
def kernel(workspace: Workspace) -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    manager, client = start_new_kernel(kernel_name="python3")
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()
    manager.context.destroy(linger=0)


def execute(client: BlockingKernelClient, code: str, *, cell_id: str | None = None) -> dict[str, Any]:
    """Execute a cell the way JupyterLab does: with its id in the message's metadata."""
    content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False, "stop_on_error": True}
    message = client.session.msg("execute_request", content, metadata={"cellId": cell_id} if cell_id else {})
    client.shell_channel.send(message)
    while True:
        reply = client.get_shell_msg(timeout=60)
        if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
            found: dict[str, Any] = reply["content"]
            return found


LOGGING = """
import nbops as nb
run = nb.start("doomed")
told = open("told.txt", "w", buffering=1)
for i in range(100_000):
    nb.log(loss=float(i))
    if i % 100 == 0:
        print(i, file=told)
"""


@pytest.mark.leaks("zmq keeps the sockets to a killed kernel until its context ends with the process")
def test_a_killed_kernel_loses_no_point_and_its_run_is_interrupted(
    kernel: tuple[KernelManager, BlockingKernelClient], workspace: Workspace, tmp_path: Path
) -> None:
    manager, client = kernel
    client.execute(LOGGING)
    told = tmp_path / "told.txt"

    def last_told() -> int:
        lines = told.read_text().splitlines() if told.exists() else []
        return int(lines[-1]) if lines else 0

    while last_told() < 20_000:
        time.sleep(0.005)
    manager.signal_kernel(9)
    while manager.is_alive():
        time.sleep(0.01)
    returned = last_told()
    reopened = Workspace.open(workspace.path)
    (run,) = reopened.store.find(nb.find("runs")[0].__class__)
    values = values_of(reopened.store.points(run.id, "loss"))
    reopened.close()
    assert run.status == "INTERRUPTED"
    assert returned < len(values) <= 100_000
    assert values == [float(i) for i in range(len(values))]


def test_a_cell_run_carries_the_id_that_jupyterlab_sends(kernel: tuple[KernelManager, BlockingKernelClient]) -> None:
    _, client = kernel
    assert execute(client, "%load_ext nbops\nimport nbops as nb", cell_id="load")["status"] == "ok"
    reply = execute(client, "%%mlops run good\nnb.log(loss=1.0)\n6 * 7", cell_id="train-cell")
    assert (reply["status"], reply["execution_count"]) == ("ok", 2)
    reply = execute(client, "%%mlops run bad\nnb.log(loss=1.0)\n1 / 0", cell_id="broken-cell")
    assert (reply["status"], reply["ename"]) == ("error", "ZeroDivisionError")
    good, bad = (nb.find("runs", f"name == '{name}'")[0] for name in ("good", "bad"))
    assert (good.status, good.cell_id, good.metrics) == ("FINISHED", "train-cell", {"loss": 1.0})
    assert (bad.status, bad.error.type, bad.error.cell_id, bad.error.line) == (
        "FAILED", "ZeroDivisionError", "broken-cell", 3,
    )  # fmt: skip
    cells = nb.find("cells", f"parent == '{good.id}'", order_by="created_at")
    assert [cell.cell_id for cell in cells] == ["train-cell"]


def test_a_failing_run_cell_stops_run_all(workspace: Workspace, tmp_path: Path) -> None:
    sources = ["%load_ext nbops\nimport nbops as nb", "%%mlops run bad\nraise ValueError('no')", "open('after', 'w')"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    with pytest.raises(CellExecutionError, match="ValueError"):
        NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert not (tmp_path / "after").exists()
    assert nb.find("runs")[0].status == "FAILED"


def test_a_kernel_that_stops_closes_its_run(kernel: tuple[KernelManager, BlockingKernelClient]) -> None:
    manager, client = kernel
    execute(client, "%load_ext nbops\nimport nbops as nb\nnb.start('open')\nnb.log(x=1.0)")
    manager.shutdown_kernel(now=False)
    assert nb.find("runs")[0].status == "INTERRUPTED"


def test_top_level_await_and_output_work_in_a_run_cell(kernel: tuple[KernelManager, BlockingKernelClient]) -> None:
    _, client = kernel
    execute(client, "%load_ext nbops\nimport nbops as nb, asyncio")
    code = "%%mlops run waits --param lr 0.5\nawait asyncio.sleep(0)\nnb.log(x=2.0)\nvalue = 42"
    assert execute(client, code)["status"] == "ok"
    record = nb.find("runs")[0]
    assert (record.status, record.params, record.metrics) == ("FINISHED", {"lr": 0.5}, {"x": 2.0})
