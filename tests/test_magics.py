"""`%mlops` and `%%mlops` in IPython: the cell stays a cell, errors are two lines, unloading leaves no trace."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbops.core.records import Cell, Run, RunStatus
from nbops.magics import MAX_ERRORS, cell_to_line, load, unload
from nbops.store.context import current_run
from nbops.tracking.runs import current, start

if TYPE_CHECKING:
    from pathlib import Path

    from nbops.store.workspace import Workspace


def ran(shell: Any, source: str, **options: Any) -> Any:
    """Run a cell that must not fail and return its value."""
    result = shell.run_cell(source, store_history=True, **options)
    result.raise_error()
    return result.result


def runs_of(workspace: Workspace) -> list[Run]:
    workspace.flush()
    return workspace.store.find(Run)[::-1]


def cells_of(workspace: Workspace) -> list[Cell]:
    workspace.flush()
    return workspace.store.find(Cell)


# ---- the first line --------------------------------------------------------------------------------------------------


def test_the_first_line_becomes_a_line_magic_and_the_rest_stays() -> None:
    assert cell_to_line(["%%mlops run fit --param lr 0.1 \n", "x = 1\n", "x"]) == [
        "%mlops --cell run fit --param lr 0.1\n", "x = 1\n", "x",
    ]  # fmt: skip
    assert cell_to_line(["%%mlops"]) == ["%mlops --cell"]


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["x = 1\n"],
        ["%mlops runs\n"],
        ["%%mlopsx run\n"],
        ["%%mlops?\n"],
        ["# a\n", "%%mlops run fit\n"],
        ["%%time\n"],
    ],
)
def test_other_cells_are_left_alone(lines: list[str]) -> None:
    assert cell_to_line(lines) is lines


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=30), max_size=6))
def test_the_number_of_lines_never_changes(lines: list[str]) -> None:
    cell = ["%%mlops run fit\n", *(f"{line}\n" for line in lines)]
    before = list(cell)
    assert cell_to_line(cell)[1:] == cell[1:]
    assert cell == before  # it is pure


def test_a_terminal_waits_for_the_cell_below_the_first_line(shell: Any) -> None:
    assert shell.check_complete("%%mlops run fit")[0] == "incomplete"
    assert shell.check_complete("%mlops runs")[0] == "complete"


# ---- the line magic --------------------------------------------------------------------------------------------------


def test_a_line_returns_a_value(shell: Any, workspace: Workspace) -> None:
    table = ran(shell, "t = %mlops runs --last 3\nt")
    assert (table.kind, len(table)) == ("run", 0)
    assert ran(shell, "%mlops runs;") is None
    assert ran(shell, "%mlops").path == str(workspace.path)


def test_names_are_those_of_the_notebook_and_of_the_function(shell: Any, workspace: Workspace) -> None:
    ran(shell, "table = {'x': [1, 2, 3]}")
    assert ran(shell, "%mlops snapshot table").rows == 3
    assert (
        ran(shell, "def f():\n    inner = {'x': [1, 2]}\n    kept = %mlops snapshot inner\n    return kept\nf()").rows
        == 2
    )
    assert ran(shell, "name = 'other'\nkept = %mlops snapshot table --name {name}\nkept.name") == "other"


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("%mlops rnus", ["UsageError: no verb 'rnus'", "Did you mean 'runs'?"]),
        ("%mlops runs --lats 3", ["UsageError: 'runs' has no option '--lats'", "Did you mean '--last'?"]),
        ("%mlops show nothing", ["NotFound: no record 'nothing'", "Pass an id or a name; list them with nb.find."]),
    ],
)
def test_errors_are_two_lines(
    shell: Any, workspace: Workspace, capsys: pytest.CaptureFixture[str], line: str, lines: list[str]
) -> None:
    assert not shell.run_cell(line).success
    assert capsys.readouterr().out.splitlines() == lines


def test_help_never_leaves(shell: Any) -> None:
    assert ran(shell, "%mlops run -h").title == "%mlops run"
    assert ran(shell, "%mlops -h").rows


# ---- cells -----------------------------------------------------------------------------------------------------------


def test_a_cell_is_a_run_that_ends_with_it(
    shell: Any, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(shell, "import nbops as nb")
    value = ran(shell, "%%mlops run fit --param lr 0.1 --tag team x\nnb.log(loss=0.5)\nnb.log(loss=0.25)\n'last'")
    assert value == "last"
    (found,) = runs_of(workspace)
    assert (found.name, found.status, found.params, found.tags) == ("fit", "FINISHED", {"lr": 0.1}, {"team": "x"})
    assert found.metrics == {"loss": 0.25}
    assert current_run() is None
    assert "✓ finished  fit" in capsys.readouterr().out
    ran(shell, "%%mlops run silent --quiet\npass")
    assert "silent" not in capsys.readouterr().out


def test_a_failing_cell_is_a_failed_run_with_type_message_and_line(shell: Any, workspace: Workspace) -> None:
    result = shell.run_cell("%%mlops run bad\nx = 1\nraise ValueError('no luck')\n", store_history=True)
    assert isinstance(result.error_in_exec, ValueError)
    (found,) = runs_of(workspace)
    assert found.status == RunStatus.FAILED
    assert found.error is not None
    assert (found.error.type, found.error.message, found.error.line) == ("ValueError", "no luck", 3)
    assert current_run() is None


def test_an_interrupted_cell_is_an_interrupted_run(shell: Any, workspace: Workspace) -> None:
    shell.run_cell("%%mlops run long\nraise KeyboardInterrupt")
    assert [r.status for r in runs_of(workspace)] == [RunStatus.INTERRUPTED]


def test_a_cell_that_cannot_be_parsed_opens_no_run(shell: Any, workspace: Workspace) -> None:
    assert not shell.run_cell("%%mlops run bad\nx = = 1").success
    assert runs_of(workspace) == []


def test_an_error_in_the_first_line_stops_the_cell(shell: Any, workspace: Workspace) -> None:
    assert not shell.run_cell("%%mlops rnu fit\ndone = True").success
    assert "done" not in shell.user_ns
    assert runs_of(workspace) == []


def test_another_verb_runs_and_shows_before_the_cell(
    shell: Any, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ran(shell, "%%mlops status\n6 * 7") == 42
    assert "✓ idle" in capsys.readouterr().out


def test_a_cell_run_inside_a_started_run_is_its_child_and_gives_it_back(shell: Any, workspace: Workspace) -> None:
    outer = start("outer")
    ran(shell, "%%mlops run inner\npass")
    inner = next(r for r in runs_of(workspace) if r.name == "inner")
    assert inner.parent == outer.id
    assert current().id == outer.id


def test_a_cell_that_runs_cells_is_one_cell(shell: Any, workspace: Workspace) -> None:
    ran(shell, "import nbops as nb\nshell = get_ipython()")
    ran(shell, "%%mlops run fit\nshell.run_cell('1 + 1')\nnb.log(loss=1.0)\n")
    (found,) = runs_of(workspace)
    assert found.metrics == {"loss": 1.0}
    sources = [cell.source for cell in cells_of(workspace)]
    assert len([s for s in sources if s.startswith("%%mlops run fit")]) == 1
    assert "1 + 1" not in sources


def test_under_another_cell_magic_it_works_too(shell: Any, workspace: Workspace) -> None:
    ran(shell, "%%time\n%%mlops run fit\nx = 1")
    assert [(r.name, r.status) for r in runs_of(workspace)] == [("fit", "FINISHED")]


def test_the_cell_magic_called_as_a_function_says_where_it_belongs(shell: Any) -> None:
    with pytest.raises(ValueError, match="%%mlops was called as a function\nWrite it as the first line"):
        shell.run_cell_magic("mlops", "run fit", "x = 1")


def test_executed_cells_are_recorded_with_the_run(shell: Any, workspace: Workspace) -> None:
    ran(shell, "a = 1")
    ran(shell, "%%mlops run fit\nb = a + 1", cell_id="3fa8b2c1-77aa-4bcd-9e10-0123456789ab")
    cells = {cell.source: cell for cell in cells_of(workspace)}
    assert set(cells) == {"a = 1", "%%mlops run fit\nb = a + 1"}
    assert cells["%%mlops run fit\nb = a + 1"].cell_id == "3fa8b2c1-77aa-4bcd-9e10-0123456789ab"


# ---- hooks -----------------------------------------------------------------------------------------------------------


def test_a_broken_hook_never_breaks_a_cell_and_is_switched_off(
    shell: Any, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    session = shell._nbops_session

    def broken(info: Any) -> None:
        raise RuntimeError("disk full")

    session._recorder.before = broken
    for _ in range(MAX_ERRORS + 2):
        assert ran(shell, "1 + 1") == 2
    assert session.errors == ["RuntimeError: disk full"] * MAX_ERRORS
    assert capsys.readouterr().err.count("cells are not recorded any more: RuntimeError: disk full") == 1
    assert "Cells are not recorded after 3 errors: RuntimeError: disk full" in ran(shell, "%mlops").notes
    result = shell.run_cell("%%mlops run fit\ndone = True")
    assert "cells are not recorded" in str(result.error_in_exec)
    assert "done" not in shell.user_ns
    ran(shell, "%reload_ext nbops")
    ran(shell, "%%mlops run fit\ndone = True")
    assert [r.name for r in runs_of(workspace)] == ["fit"]


def test_cells_of_other_threads_are_not_the_notebooks(shell: Any, workspace: Workspace) -> None:
    start("fit")
    session = shell._nbops_session
    info = SimpleNamespace(raw_cell="elsewhere", cell_id="c1")
    thread = threading.Thread(target=lambda: (session._before(info), session._after(SimpleNamespace())))
    thread.start()
    thread.join()
    assert session._cells == []
    assert cells_of(workspace) == []


def test_a_cell_whose_end_was_missed_does_not_hide_the_next(shell: Any, workspace: Workspace) -> None:
    shell._nbops_session._before(SimpleNamespace(raw_cell="lost", cell_id="c1"))
    ran(shell, "%%mlops run fit\npass", cell_id="c2")
    assert [r.status for r in runs_of(workspace)] == [RunStatus.FINISHED]


# ---- loading and unloading -------------------------------------------------------------------------------------------


def state(shell: Any) -> dict[str, Any]:
    """Return everything of a shell that an extension could have changed."""
    return {
        # by name: IPython itself loads its own magics at their first use
        "magics": {kind: sorted(found) for kind, found in shell.magics_manager.magics.items()},
        "events": {name: list(found) for name, found in shell.events.callbacks.items()},
        "cleanup": list(shell.input_transformers_cleanup),
        "post": list(shell.input_transformers_post),
        "ast": list(shell.ast_transformers),
        "matchers": list(shell.Completer.custom_matchers),
        "hooks": {name: repr(getattr(shell.hooks, name)) for name in vars(shell.hooks)},
        "attributes": sorted(vars(shell)),
        "exceptions": shell.custom_exceptions,
    }


def test_unloading_restores_everything_and_loading_twice_adds_nothing(shell: Any) -> None:
    unload(shell)
    before = state(shell)
    load(shell)
    loaded = state(shell)
    assert loaded != before
    load(shell)
    assert state(shell) == loaded
    unload(shell)
    assert state(shell) == before
    unload(shell)
    assert state(shell) == before


def test_reloading_leaves_one_of_each(shell: Any) -> None:
    unload(shell)
    before = state(shell)
    ran(shell, "%load_ext nbops")
    ran(shell, "%reload_ext nbops")
    ran(shell, "%reload_ext nbops")
    assert len(shell.Completer.custom_matchers) == len(before["matchers"]) + 1
    assert len(shell.input_transformers_cleanup) == len(before["cleanup"]) + 1
    ran(shell, "%unload_ext nbops")
    assert state(shell) == before
    assert not shell.run_cell("%mlops").success


def test_a_magic_of_the_same_name_comes_back(shell: Any) -> None:
    unload(shell)
    shell.register_magic_function(lambda line: "theirs", "line", "mlops")
    load(shell)
    assert ran(shell, "%mlops help").title == "nbops verbs"
    unload(shell)
    assert ran(shell, "%mlops help") == "theirs"
    shell.magics_manager.magics["line"].pop("mlops")


def test_unloading_inside_a_tracked_cell_ends_its_run(shell: Any, workspace: Workspace) -> None:
    ran(shell, "%load_ext nbops")
    ran(shell, "%%mlops run fit\n%unload_ext nbops")
    assert [r.status for r in runs_of(workspace)] == [RunStatus.FINISHED]
    assert current_run() is None


def test_without_the_extension_a_cell_fails_instead_of_running_untracked(shell: Any) -> None:
    unload(shell)
    assert not shell.run_cell("%%mlops run fit\ndone = True").success
    assert "done" not in shell.user_ns


def test_tab_completes_verbs_options_and_names(shell: Any, workspace: Workspace) -> None:
    from IPython.core.completer import provisionalcompleter

    def offered(text: str) -> list[str]:
        with provisionalcompleter():
            return [found.text for found in shell.Completer.completions(text, len(text))]

    shell.user_ns["table"] = {}
    assert offered("%mlops ru") == ["run", "runs"]
    assert offered("x = %mlops runs --la") == ["--last"]
    assert offered("%%mlops run fit --pa") == ["--param"]
    assert offered("%mlops snapshot ta") == ["table"]
    unload(shell)
    assert offered("%mlops runs --la") == []
    load(shell)


# ---- real kernels ----------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True, scope="module")
def _loop_of_jupyter_client() -> Iterator[None]:
    """The event loop that jupyter_client's blocking functions share: made before the tests, closed after them."""
    from jupyter_core.utils import ensure_event_loop

    loop = ensure_event_loop()
    yield
    loop.close()


class Kernel:
    """A real kernel, driven as a front end does: with the cell's id in the request's metadata."""

    def __init__(self, folder: Path) -> None:
        from jupyter_client.manager import start_new_kernel

        self.manager, self.client = start_new_kernel(kernel_name="python3", cwd=str(folder))

    def run(self, source: str, cell_id: str, *, stop_on_error: bool = True) -> dict[str, Any]:
        """Execute one cell; return its reply with the outputs beside it."""
        content = {"code": source, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False,
                   "stop_on_error": stop_on_error}  # fmt: skip
        message = self.client.session.msg("execute_request", content, metadata={"cellId": cell_id})
        self.client.shell_channel.send(message)
        return self.finish(message)

    def finish(self, message: dict[str, Any]) -> dict[str, Any]:
        own = message["header"]["msg_id"]
        outputs = []
        while True:
            found = self.client.get_iopub_msg(timeout=60)
            if found["parent_header"].get("msg_id") != own:
                continue
            if found["msg_type"] == "status" and found["content"]["execution_state"] == "idle":
                break
            outputs.append({"type": found["msg_type"], **found["content"]})
        while True:
            reply = self.client.get_shell_msg(timeout=60)
            if reply["parent_header"].get("msg_id") == own:
                content: dict[str, Any] = reply["content"]
                return {**content, "outputs": outputs}

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


@pytest.fixture
def kernel(workspace: Workspace, tmp_path: Path) -> Iterator[Kernel]:
    found = Kernel(tmp_path)
    found.run("%load_ext nbops\nimport nbops as nb", "cell-0")
    yield found
    found.close()


def texts(reply: dict[str, Any]) -> list[str]:
    return [o["data"]["text/plain"] for o in reply["outputs"] if "data" in o]


def test_in_a_kernel_a_tracked_cell_is_an_ordinary_cell(kernel: Kernel, workspace: Workspace) -> None:
    body = "import asyncio\nawait asyncio.sleep(0.01)\nnb.log(loss=1)\n'last'"
    reply = kernel.run(f"%%mlops run fit --param lr 0.1\n{body}", "cell-1")
    assert reply["status"] == "ok"
    assert reply["execution_count"] == 2
    value, card = texts(reply)
    assert value == "'last'"
    assert card.startswith("✓ finished  fit")
    assert "text/html" in reply["outputs"][-1]["data"]
    assert kernel.run("Out[2]", "cell-2")["outputs"][-1]["data"]["text/plain"] == "'last'"

    failed = kernel.run("%%mlops run bad\nx = 1\n1 / 0", "cell-3")
    assert failed["status"] == "error"
    assert failed["ename"] == "ZeroDivisionError"
    error = next(o for o in failed["outputs"] if o["type"] == "error")
    assert "----> 3" in _plain("\n".join(error["traceback"]))

    good, bad = runs_of(workspace)
    assert (good.status, good.cell_id, good.metrics) == ("FINISHED", "cell-1", {"loss": 1.0})
    assert (bad.status, bad.cell_id) == ("FAILED", "cell-3")
    assert bad.error is not None
    assert (bad.error.type, bad.error.cell_id, bad.error.line) == ("ZeroDivisionError", "cell-3", 3)
    cells = {(c.cell_id, c.execution_count, c.status) for c in cells_of(workspace)}
    assert {("cell-1", 2, "ok"), ("cell-3", 4, "error")} <= cells


def _plain(text: str) -> str:
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_run_all_stops_at_a_tracked_cell_that_fails(kernel: Kernel, workspace: Workspace) -> None:
    sources = ["%%mlops run bad\nraise ValueError('stop here')", "after = True"]
    messages = []
    for i, source in enumerate(sources):  # as "Run All": sent one after the other, without waiting
        content = {"code": source, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False,
                   "stop_on_error": True}  # fmt: skip
        messages.append(kernel.client.session.msg("execute_request", content, metadata={"cellId": f"all-{i}"}))
        kernel.client.shell_channel.send(messages[-1])
    assert kernel.finish(messages[0])["status"] == "error"
    assert kernel.finish(messages[1])["status"] in ("aborted", "error")
    check = kernel.run("'after' in globals()", "check")
    assert texts(check) == ["False"]
    (found,) = runs_of(workspace)
    assert (found.status, found.error.cell_id if found.error else "") == ("FAILED", "all-0")


def test_an_error_of_nbops_is_two_lines_in_a_kernel(kernel: Kernel) -> None:
    error = kernel.run("%mlops rnus", "cell-1")["outputs"][-1]
    assert [_plain(line) for line in error["traceback"]] == ["UsageError: no verb 'rnus'", "Did you mean 'runs'?"]
    assert error["evalue"] == "no verb 'rnus'\nDid you mean 'runs'?"


def test_nbclient_stops_there_and_carries_the_message(workspace: Workspace, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    cells = ["%load_ext nbops", "%%mlops run bad\nx = 1\nraise ValueError('no luck')", "reached = True"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    client = NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}, kernel_name="python3")
    with pytest.raises(CellExecutionError, match="no luck"):
        client.execute()
    assert [cell.execution_count for cell in notebook.cells] == [1, 2, None]
    kinds = [output.output_type for output in notebook.cells[1].outputs]
    assert "error" in kinds
    assert "display_data" in kinds
    assert [r.status for r in runs_of(workspace)] == [RunStatus.FAILED]
    assert len(json.dumps(notebook)) < 60_000


def test_completion_works_in_a_kernel(kernel: Kernel) -> None:
    code = "x = %mlops runs --la"
    reply = kernel.client.complete(code, len(code), reply=True, timeout=60)["content"]
    assert reply["matches"] == ["--last"]
    assert code[reply["cursor_start"] : reply["cursor_end"]] == "--la"
    code = "%%mlops ru"
    reply = kernel.client.complete(code, len(code), reply=True, timeout=60)["content"]
    assert reply["matches"] == ["run", "runs"]


def test_in_a_kernel_preflight_names_cell_and_line(kernel: Kernel) -> None:
    kernel.run(
        "\n\nimport torch\nfrom torch import nn\nclass Net(nn.Module):\n    def __init__(self, width):\n"
        "        super().__init__()\n        self.fc = nn.Linear(width, 3)\n    def forward(self, x):\n"
        "        return self.fc(x)",
        "cell-net",
    )
    kernel.run("net = Net(9)\nloss = nn.MSELoss()\nx, y = torch.randn(8, 20), torch.randn(8)", "cell-data")
    reply = kernel.run("%mlops preflight net x y --loss loss", "cell-look")
    assert "shape-mismatch  fc  cell [2], line 8" in texts(reply)[0]
    again = kernel.run(
        "found = nb.preflight(nn.Linear(20, 1), (x, y), loss=loss).errors[0]\n"
        "found.name, found.cell_id, found.line, found.code",
        "cell-again",
    )
    assert texts(again) == ["('broadcast-loss', 'cell-data', 2, 'loss = nn.MSELoss()')"]
