"""What cells put out: in order, with displays as they last were, cut to a limit; in a shell and in a real kernel."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import nbops as nb
from nbops.core.records import Cell
from nbops.store.workspace import Workspace
from nbops.tracking.capture.background import drain
from nbops.tracking.capture.cells import CellRecorder
from nbops.tracking.capture.outputs import CellOutputs


def outputs_of(cell: Cell) -> Any:
    return json.loads(nb.workspace().artifacts.read(cell.outputs))


@pytest.fixture
def shell(workspace: Workspace) -> Iterator[InteractiveShell]:
    main = sys.modules["__main__"]
    InteractiveShell.clear_instance()  # what displays looks for the one instance
    made = InteractiveShell.instance(config=Config({"HistoryManager": {"hist_file": ":memory:"}}))
    recorder = CellRecorder(made)
    made.events.register("pre_run_cell", recorder.before)
    made.events.register("post_run_cell", recorder.after)
    yield made
    made.events.unregister("pre_run_cell", recorder.before)
    made.events.unregister("post_run_cell", recorder.after)
    recorder.close()
    made.history_manager.end_session()
    InteractiveShell.clear_instance()
    sys.modules["__main__"] = main


def last_cell(shell: InteractiveShell, source: str) -> Cell:
    with nb.run():
        pass
    nb.start("r")
    shell.run_cell(source, store_history=True)
    nb.end()
    assert drain()
    cell: Cell = nb.find("cells", order_by="created_at desc")[0]
    return cell


def test_text_values_and_errors_are_kept_as_in_a_notebook(shell: InteractiveShell) -> None:
    value = last_cell(shell, "import sys\nprint('a'); print('b', file=sys.stderr)\n[1, 2]")
    assert outputs_of(value) == [
        {"output_type": "stream", "name": "stdout", "text": "a\n"},
        {"output_type": "stream", "name": "stderr", "text": "b\n"},
        {"output_type": "execute_result", "data": {"text/plain": "[1, 2]"}, "metadata": {}, "execution_count": 1},
    ]
    failed = outputs_of(last_cell(shell, "print('c')\n1 / 0"))
    assert [o["output_type"] for o in failed] == ["stream", "error"]
    assert (failed[1]["ename"], failed[1]["evalue"]) == ("ZeroDivisionError", "division by zero")


def test_displays_are_kept_in_a_shell_too(shell: InteractiveShell) -> None:
    cell = last_cell(shell, "from IPython.display import display, HTML\ndisplay(HTML('<b>x</b>'))")
    (output,) = [o for o in outputs_of(cell) if o["output_type"] == "display_data"]
    assert output["data"]["text/html"] == "<b>x</b>"


def test_cells_that_keep_no_history_are_told_apart(shell: InteractiveShell) -> None:
    nb.start("r")
    for n in range(3):
        shell.run_cell(f"print({n})", store_history=False)
    nb.end()
    assert drain()
    found = [outputs_of(cell) for cell in nb.find("cells", order_by="created_at")]
    assert [[o["text"] for o in outputs] for outputs in found] == [["0\n"], ["1\n"], ["2\n"]]


def test_a_quiet_cell_has_no_outputs(shell: InteractiveShell) -> None:
    assert last_cell(shell, "x = 1").outputs == ""


def test_equal_outputs_are_stored_once_and_the_setting_may_say_none(
    tmp_path: Path, shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = last_cell(shell, "print('same')"), last_cell(shell, "print('same')")
    assert first.outputs == second.outputs != ""
    monkeypatch.setenv("NBOPS_CELL_OUTPUTS_MAX_BYTES", "0")
    nb.init(tmp_path)
    assert last_cell(shell, "print('more')").outputs == ""


def test_names_are_recorded_and_secrets_are_not(shell: InteractiveShell) -> None:
    shell.run_cell("x = 1", store_history=True)
    cell = last_cell(shell, "api_key = 'abc'\ny = x + 1")
    assert (cell.reads, cell.writes) == (["x"], ["api_key", "y"])
    assert cell.source == 'api_key = "[redacted]"\ny = x + 1'


def test_long_outputs_keep_their_ends_and_say_what_is_missing() -> None:
    picture = {"text/plain": "<Figure>", "image/png": b"x" * 3000}
    raw = CellOutputs([("out_stream", ["a" * 600, "b" * 600]), ("display_data", picture)], execution_count=3)
    text, figure = json.loads(raw.as_json(max_bytes=1000))
    assert text["text"].startswith("a" * 500)
    assert text["text"].endswith("b" * 500)
    assert "[200 characters not kept]" in text["text"]
    assert "not kept" in figure["text"]
    (alone,) = json.loads(CellOutputs([("display_data", picture)]).as_json(max_bytes=1000))
    assert alone["data"] == {"text/plain": "<Figure>"}
    (whole,) = json.loads(CellOutputs([("display_data", picture)]).as_json(max_bytes=10_000))
    assert whole["data"]["image/png"].startswith("eHh4")  # base64, as in a notebook


KERNEL_CELLS = (
    "%load_ext nbops\nimport nbops as nb",
    "nb.start('kernel')",
    "print('a')\ndisplay({'x': 1})\nprint('b')\nh = display('first', display_id=True)\nh.update('second')\n[1, 2]",
    "from IPython.display import clear_output\ndisplay('gone')\nclear_output()\ndisplay('stays')",
    "import asyncio\nawait asyncio.sleep(0)\ndisplay(5)\n7",
    "for i in range(500): display(i)",
    "open('data.csv').read()",
    "nb.end()",
    "%unload_ext nbops",
    "display('after')",
    "from nbops.tracking.capture.background import drain; assert drain()",
)


@pytest.fixture(scope="module")
def _loop_of_jupyter_client() -> Iterator[None]:
    """The event loop that jupyter_client's blocking functions share: made before the test, closed after it."""
    from jupyter_core.utils import ensure_event_loop

    loop = ensure_event_loop()
    yield
    loop.close()


@pytest.mark.usefixtures("_loop_of_jupyter_client")
def test_in_a_real_kernel(tmp_path: Path, workspace: Workspace) -> None:
    from jupyter_client.manager import start_new_kernel

    (tmp_path / "data.csv").write_text("1")
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(tmp_path))
    try:
        for source in KERNEL_CELLS:
            reply = client.execute(source, reply=True, timeout=60)
            assert reply["content"]["status"] == "ok", reply["content"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
        manager.cleanup_resources()
    (run,) = nb.find("runs")
    by_source = {cell.source: cell for cell in nb.find("cells", f"parent == '{run.id}'")}
    mixed, cleared, awaited, many, reading = (by_source[source] for source in KERNEL_CELLS[2:7])
    assert [o.get("text") or o["data"]["text/plain"] for o in outputs_of(mixed)] == [
        "a\n", "{'x': 1}", "b\n", "'second'", "[1, 2]",
    ]  # fmt: skip
    assert [o["data"]["text/plain"] for o in outputs_of(cleared)] == ["'stays'"]
    assert [o["data"]["text/plain"] for o in outputs_of(awaited)] == ["5", "7"]
    assert len(outputs_of(many)) == 201  # the first displays, and that there were more
    (entry,) = run.context["inputs"]["files"]
    assert (Path(entry["path"]).name, entry["cell"]) == ("data.csv", reading.cell_id)
