"""The verdict on a run, from cells executed in a real IPython shell: each reason with a case where it must not fire."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import nbops as nb
from nbops.core.errors import NotFound
from nbops.tracking.capture.cells import CellRecorder

TRAIN = "with nb.run('r') as r:\n    nb.log(loss=x)"
Execute = Callable[..., None]


@pytest.fixture
def execute(workspace: Any) -> Iterator[Execute]:
    """Return a function that executes cells given as ``id=source``, in that order."""
    shell = InteractiveShell(config=Config({"HistoryManager": {"hist_file": ":memory:"}}))
    recorder = CellRecorder()
    shell.events.register("pre_run_cell", recorder.before)
    shell.events.register("post_run_cell", recorder.after)

    def run(*cells: tuple[str, str]) -> None:
        for id, source in cells:
            shell.run_cell(source, store_history=True, cell_id=id)

    run(("imports", "import nbops as nb"))
    yield run
    shell.events.unregister("pre_run_cell", recorder.before)
    shell.events.unregister("post_run_cell", recorder.after)
    shell.history_manager.end_session()


@pytest.fixture
def save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that writes the notebook of the following runs."""
    path = tmp_path / "work.ipynb"
    monkeypatch.setenv("JPY_SESSION_NAME", str(path))

    def write(*cells: tuple[str, str], never: tuple[str, ...] = (), at: float | None = None) -> Path:
        found = [
            {"cell_type": "code", "id": id, "metadata": {}, "outputs": [], "source": source.splitlines(keepends=True),
             "execution_count": None if id in never else 1}
            for id, source in [("imports", "import nbops as nb"), *cells]
        ]  # fmt: skip
        path.write_text(json.dumps({"cells": found, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
        if at is not None:
            os.utime(path, (at, at))
        return path

    return write


def rules(run: str = "r") -> list[str]:
    found = nb.reproducible(run)
    assert found.verdict is (not found.findings)
    return [finding.rule for finding in found.findings]


# ---- nothing to complain about ---------------------------------------------------------------------------------------

CLEAN = {
    "straight": [("a", "x = 1"), ("b", "y = x + 1"), ("c", TRAIN)],
    "all again": [("a", "x = 1"), ("b", "x += 1"), ("c", TRAIN)] * 2,
    "a cell that only sets columns, twice": [
        ("a", "d = {'p': 1}"), ("b", "d['x'] = d['p'] * 2"), ("b", "d['x'] = d['p'] * 2"), ("e", "x = d['x']"),
        ("c", TRAIN),
    ],
    "a column cell edited and run again": [
        ("a", "d = {'p': 1}"), ("b", "d['x'] = 2"), ("b", "d['x'] = 3"), ("b2", "x = d['x']"), ("c", TRAIN),
    ],
    "an unrelated mess": [
        ("z", "q = 1"), ("a", "x = 1"), ("z", "q = q + 1"), ("z", "q += 5"), ("y", "1 / 0"), ("c", TRAIN),
    ],
    "mended and run again": [("a", "x = 1"), ("c", "with nb.run('r'): nb.log(loss=nothing)"), ("c", TRAIN)],
    "edited, then all below again": [
        ("a", "x = 1"), ("b", "x = x * 2"), ("a", "x = 5"), ("b", "x = x * 2"), ("c", TRAIN),
    ],
    "loops and helpers run twice": [("a", "for i in range(3): x = i"), ("a", "for i in range(3): x = i"), ("c", TRAIN)],
    "a function before its constant": [("f", "def f(): return k"), ("k", "k = 3"), ("b", "x = f()"), ("c", TRAIN)],
    "that function defined again": [
        ("f", "def f(): return k"), ("k", "k = 3"), ("f", "def f(): return k"), ("b", "x = f()"), ("c", TRAIN),
    ],
    "the same import in two cells": [
        ("m", "import math"), ("a", "x = math.pi"), ("n", "import math"), ("a", "x = math.pi"), ("c", TRAIN),
    ],
    "an import added to a cell above": [
        ("m", "import math"), ("a", "x = math.pi"), ("m", "import math, json"), ("c", TRAIN),
    ],
    "a module set up in a cell of its own, and imported again": [
        ("m", "import colorsys"), ("n", "colorsys.extra = 1.0"), ("m", "import colorsys"), ("a", "x = colorsys.extra"),
        ("c", TRAIN),
    ],
    "two runs one after the other": [("a", "x = 1"), ("b", "with nb.run('first'): pass"), ("c", TRAIN)],
}  # fmt: skip


@pytest.mark.parametrize("case", CLEAN)
def test_no_reason(case: str, execute: Execute) -> None:
    execute(*CLEAN[case])
    found = nb.reproducible("r")
    assert (found.verdict, found.reasons) == (True, [])
    assert bool(found)


# ---- each reason -----------------------------------------------------------------------------------------------------


def test_read_from_a_later_cell(execute: Execute, save: Any) -> None:
    cells = [("c", TRAIN), ("a", "x = 1")]
    save(*cells)
    execute(*cells[::-1])
    (finding,) = nb.reproducible("r").findings
    assert (finding.rule, finding.cell_id, finding.names) == ("read-from-later", "c", ("x",))
    assert finding.text == "cell [3] read 'x', defined by cell [2] further down"


def test_the_files_order_tells_that_a_cell_was_inserted_above(execute: Execute, save: Any) -> None:
    cells = [("a", "x = 1"), ("c", TRAIN)]
    save(*cells)
    execute(("c", TRAIN), *cells)  # the first try fails with a NameError
    assert rules() == []


def test_read_from_an_edited_cell(execute: Execute) -> None:
    execute(("a", "y = 1"), ("b", "x = y"), ("a", "y = 2"), ("c", TRAIN))
    (finding,) = nb.reproducible("r").findings
    assert (finding.rule, finding.cell_id, finding.names) == ("read-from-edited", "b", ("y",))
    assert finding.text == "cell [3] read 'y', defined by cell [2], which was edited afterwards"


def test_read_from_a_cell_edited_and_saved_but_not_run_again(execute: Execute, save: Any) -> None:
    execute(("a", "x = 1"))
    save(("a", "x = 2"), ("c", TRAIN))
    execute(("c", TRAIN))
    assert rules() == ["read-from-edited"]


def test_a_cell_edited_after_the_run_is_no_reason(execute: Execute, save: Any) -> None:
    execute(("a", "x = 1"))
    save(("a", "x = 1"), ("c", TRAIN))
    execute(("c", TRAIN))
    save(("a", "x = 2"), ("c", TRAIN))
    assert rules() == []


def test_read_from_a_deleted_cell(execute: Execute, save: Any) -> None:
    execute(("a", "x = 1"), ("b", "y = 2"), ("d", "z = 3"))
    save(("b", "y = 2"), ("c", TRAIN))
    execute(("c", TRAIN))
    found = nb.reproducible("r")
    assert found.reasons == ["cell [5] read 'x', defined by cell [2], which is not in the notebook any more"]
    assert found.line == f"reproducible: no, because {found.reasons[0]}"


def test_a_cell_that_is_not_saved_yet_is_not_deleted(execute: Execute, save: Any) -> None:
    save(("b", "y = 2"), at=1_000_000_000)
    execute(("b", "y = 2"), ("a", "x = 1"), ("c", TRAIN))
    assert rules() == []


def test_a_notebook_that_went_on_long_after_the_run_tells_nothing_about_deletion(execute: Execute, save: Any) -> None:
    save(("a", "x = 1"), ("c", TRAIN))
    execute(("a", "x = 1"), ("c", TRAIN))
    save(("c", TRAIN), at=nb.find("runs")[0].ended_at + 1e6)
    found = nb.reproducible("r")
    assert found.verdict is True
    assert found.notes == (
        "the notebook was saved long after the run, so cells deleted before cannot be told from those after",
    )


def test_a_deleted_cell_that_logged(execute: Execute, save: Any) -> None:
    execute(("a", "x = 1"), ("c", TRAIN))
    save(("a", "x = 1"))
    assert rules() == ["deleted-cell"]


def test_read_past_a_cell_in_between(execute: Execute, save: Any) -> None:
    cells = [("a", "x = 1"), ("b", "x = 2"), ("c", TRAIN)]
    save(*cells)
    execute(cells[1], cells[0], cells[2])
    assert nb.reproducible("r").reasons == [
        "cell [4] read 'x' from cell [3], but cell [2] stands between and changes it"
    ]


def test_read_past_a_cell_that_was_never_executed(execute: Execute, save: Any) -> None:
    cells = [("a", "x = 1"), ("b", "x = x * 2"), ("c", TRAIN)]
    save(*cells, never=("b",))
    execute(cells[0], cells[2])
    assert nb.reproducible("r").reasons == ["cell [3] read 'x' from cell [2], but cell b, not executed, stands between"]


def test_a_cell_executed_before_recording_began_is_no_skipped_one(execute: Execute, save: Any) -> None:
    cells = [("a", "x = 1"), ("b", "x = x * 2"), ("c", TRAIN)]
    save(*cells)
    execute(cells[0], cells[2])
    assert rules() == []


def test_an_effect_that_adds_up(execute: Execute) -> None:
    execute(("a", "x = 1"), ("b", "x += 1"), ("b", "x += 1"), ("c", TRAIN))
    assert nb.reproducible("r").reasons == ["cell [4] ran 2 times and each time changed 'x', which it starts from"]


def test_columns_made_from_themselves_add_up(execute: Execute) -> None:
    again = ("b", "d['x'] = d['x'] * 2")
    execute(("a", "d = {'x': 1}"), again, again, ("b2", "x = d['x']"), ("c", TRAIN))
    assert rules() == ["repeated-effect"]


def test_what_an_earlier_source_left_behind(execute: Execute) -> None:
    execute(("a", "d = {}"), ("b", "d['x'] = 1"), ("b", "d['y'] = 1"), ("b2", "x = d['x']"), ("c", TRAIN))
    assert rules() == ["read-from-edited"]


def test_a_function_takes_what_is_there_when_it_is_called(execute: Execute, save: Any) -> None:
    cells = [("f", "def f(): return k"), ("b", "x = f()"), ("k", "k = 3"), ("c", TRAIN)]
    save(*cells)
    execute(cells[0], cells[2], cells[1], cells[3])
    assert nb.reproducible("r").reasons == ["cell [4] read 'k', defined by cell [3] further down"]


def test_logging_twice_to_one_run(execute: Execute) -> None:
    execute(("s", "nb.start('r')"), ("l", "nb.log(loss=1.0)"), ("p", "1 + 1"), ("p", "1 + 2"), ("e", "nb.end()"))
    assert rules() == []
    execute(("s", "nb.start('q')"), ("l", "nb.log(loss=1.0)"), ("l", "nb.log(loss=1.0)"), ("e", "nb.end()"))
    assert nb.reproducible("q").reasons == ["cell [9] logged to this run 2 times"]
    execute(("s", "nb.start('t')"), ("l", "nb.log(loss=1.0)"), ("l", "nb.log(loss=2.0)"), ("e", "nb.end()"))
    assert nb.reproducible("t").reasons == ["cell [13] logged to this run 2 times, as 2 different sources"]


def test_a_failed_cell(execute: Execute) -> None:
    execute(("c", "with nb.run('r'):\n    1 / 0"))
    assert nb.reproducible("r").reasons == ["cell [2] failed: ZeroDivisionError"]


def test_read_from_a_failed_cell(execute: Execute) -> None:
    execute(("a", "x = 1\ny = 1 / 0"), ("c", TRAIN))
    assert nb.reproducible("r").reasons == ["cell [3] read 'x' from cell [2], which failed"]


def test_a_run_that_was_cut_short(execute: Execute) -> None:
    execute(("c", "nb.start('r')"), ("e", "nb.end('INTERRUPTED')"))
    assert nb.reproducible("r").reasons == ["the run ended as INTERRUPTED"]


# ---- what it cannot know ---------------------------------------------------------------------------------------------


def test_without_recorded_cells_there_is_no_verdict(workspace: Any) -> None:
    with nb.run("script"):
        nb.log(loss=1.0)
    found = nb.reproducible("script")
    assert (found.verdict, found.reasons) == (None, [])
    assert found.line == "reproducible: unknown, because no executed cells are recorded with it"
    with pytest.raises(NotFound):
        nb.reproducible("nothing")


def test_an_open_run_is_judged_so_far(execute: Execute) -> None:
    execute(("a", "x = 1"), ("s", "live = nb.start('r')"), ("l", "nb.log(loss=x)"))
    found = nb.reproducible("r")
    assert found.verdict is True
    assert found.notes[0] == "the run is not over: this is about its cells so far"


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"cells": [{"cell_type": "code", "source": ""}]}'])
def test_a_damaged_notebook_file_is_not_used(content: str, execute: Execute, save: Any) -> None:
    save().write_text(content)
    execute(("a", "x = 1"), ("c", TRAIN))
    found = nb.reproducible("r")
    assert found.verdict is True
    assert found.notes == ("the notebook's file was not read, so its order is taken to be that of first execution",)
