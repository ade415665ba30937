"""Executed cells, in a real IPython shell: id, digest, duration, error, and runs that end with their cell."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import nbops as nb
from nbops.core.errors import StoreError
from nbops.tracking.capture.cells import CellRecorder

pytestmark = pytest.mark.usefixtures("workspace")


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    made = InteractiveShell(config=Config({"HistoryManager": {"hist_file": ":memory:"}}))
    recorder = CellRecorder()
    made.user_ns["open_run"] = recorder.open_run
    made.events.register("pre_run_cell", recorder.before)
    made.events.register("post_run_cell", recorder.after)
    yield made
    made.events.unregister("pre_run_cell", recorder.before)
    made.events.unregister("post_run_cell", recorder.after)
    made.history_manager.end_session()


def execute(shell: InteractiveShell, source: str, cell_id: str | None = None) -> Any:
    return shell.run_cell(source, store_history=True, cell_id=cell_id)


def test_cells_belong_to_the_run_that_was_open_in_them(shell: InteractiveShell) -> None:
    execute(shell, "import nbops as nb\nlr = 0.1", "aaa")
    execute(shell, "with nb.run('first') as r:\n    nb.log(x=1.0)", "bbb")
    execute(shell, "y = 2", "ccc")
    execute(shell, "nb.start('second')", "ddd")
    execute(shell, "nb.log(x=2.0)", "eee")
    execute(shell, "nb.end()", "fff")

    def cells(name: str) -> list[tuple[str, int]]:
        run = nb.find("runs", f"name == '{name}'")[0]
        found = nb.find("cells", f"parent == '{run.id}'", order_by="created_at")
        return [(c.cell_id, c.execution_count) for c in found]

    assert cells("first") == [("aaa", 1), ("bbb", 2)]
    assert cells("second") == [("ccc", 3), ("ddd", 4), ("eee", 5), ("fff", 6)]


def test_a_cell_keeps_its_source_digest_and_duration(shell: InteractiveShell) -> None:
    source = "import time; import nbops as nb\nwith nb.run('r'):\n    time.sleep(0.02)"
    execute(shell, source, "id-1")
    (cell,) = nb.find("cells")
    assert cell.source_digest == hashlib.sha256(source.encode()).hexdigest()
    assert (cell.source, cell.status, cell.error) == (source, "ok", None)
    assert cell.duration_s >= 0.02


def test_a_failing_cell_fails_its_run_with_cell_and_line(shell: InteractiveShell) -> None:
    execute(shell, "import nbops as nb\nopen_run('bad')\nnb.log(x=1.0)\n1 / 0", "cell-x")
    run = nb.find("runs")[0]
    assert (run.status, run.error.type, run.error.cell_id, run.error.line) == (
        "FAILED",
        "ZeroDivisionError",
        "cell-x",
        4,
    )
    (cell,) = nb.find("cells")
    assert (cell.status, cell.error.message) == ("error", "division by zero")


def test_a_run_of_a_cell_ends_with_it_and_gives_back_the_outer_one(shell: InteractiveShell) -> None:
    execute(shell, "import nbops as nb\nnb.start('outer')")
    execute(shell, "open_run('of-cell', params={'lr': 1}); nb.log(a=1.0)")
    execute(shell, "nb.log(b=1.0); nb.end()")
    outer, inner = (nb.find("runs", f"name == '{name}'")[0] for name in ("outer", "of-cell"))
    assert (inner.status, inner.parent, list(inner.metrics)) == ("FINISHED", outer.id, ["a"])
    assert (outer.status, list(outer.metrics)) == ("FINISHED", ["b"])


def test_a_syntax_error_is_recorded_when_a_run_is_open(shell: InteractiveShell) -> None:
    execute(shell, "import nbops as nb\nnb.start('r')")
    execute(shell, "1 +", "broken")
    (cell,) = nb.find("cells", "cell_id == 'broken'")
    assert (cell.status, cell.error.type) == ("error", "SyntaxError")
    execute(shell, "nb.end()")


def test_without_a_run_nothing_is_written(shell: InteractiveShell) -> None:
    execute(shell, "x = 1")
    assert nb.find("cells").total == 0


def test_long_sources_are_cut_but_digested_whole(shell: InteractiveShell) -> None:
    source = "import nbops as nb\nwith nb.run(): pass\n" + "# é" * 40_000
    execute(shell, source)
    (cell,) = nb.find("cells")
    assert len(cell.source.encode()) <= nb.workspace().settings.cell_source_max_bytes
    assert cell.source_digest == hashlib.sha256(source.encode()).hexdigest()


def test_a_store_that_refuses_is_told_to_the_next_cell_and_the_one_after_is_recorded(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise StoreError("disk full", hint="Make room.")

    execute(shell, "import nbops as nb\nnb.start('r')", "first")
    nb.workspace().flush()
    with monkeypatch.context() as broken:
        broken.setattr(nb.workspace().store, "put", refuse)
        execute(shell, "x = 1", "lost")
        nb.workspace().flush()
    assert execute(shell, "x + 1", "told").result == 2
    assert "disk full" in capsys.readouterr().out  # a bare recorder: the extension counts it and goes on
    execute(shell, "nb.end()", "last")
    assert [cell.cell_id for cell in nb.find("cells", order_by="created_at")] == ["first", "told", "last"]
