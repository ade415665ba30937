from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from nbops.pipelines.notebooks import NotebookWriter, inject, load_notebook, write_atomic


def test_write_replaces_in_one_piece_and_keeps_links(tmp_path: Path) -> None:
    target, link = tmp_path / "a.ipynb", tmp_path / "link.ipynb"
    write_atomic(target, b"one")
    link.symlink_to(target)
    with target.open("rb") as reader:
        write_atomic(link, b"two")
        assert reader.read() == b"one"  # whoever had it open still reads the old bytes
    assert target.read_bytes() == b"two"
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    old = os.umask(0)
    os.umask(old)
    return old


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "a.ipynb"
    target.write_bytes(b"old")
    bad: Any = "text is no bytes"
    with pytest.raises(TypeError):
        write_atomic(target, bad)
    assert [p.name for p in tmp_path.iterdir()] == ["a.ipynb"]
    assert target.read_bytes() == b"old"


def test_writer_without_path_writes_nothing(tmp_path: Path) -> None:
    writer = NotebookWriter(None)
    writer.maybe({})
    writer.write({})
    assert list(tmp_path.iterdir()) == []


def test_writer_waits_between_writes(tmp_path: Path, write_notebook: Any) -> None:
    notebook, _ = load_notebook(write_notebook("1"))
    soon, late, never = (NotebookWriter(tmp_path / f"{n}.ipynb", every_s=n) for n in (1e-9, 1000.0, 0.0))
    for writer in (soon, late, never):
        writer.maybe(notebook)
    assert (tmp_path / "1e-09.ipynb").exists()
    assert not (tmp_path / "1000.0.ipynb").exists()
    assert not (tmp_path / "0.0.ipynb").exists()


def test_ids_that_are_missing_twice_or_unusable_are_replaced(tmp_path: Path) -> None:
    cells = [{"cell_type": "markdown", "metadata": {}, "source": "x", "id": id} for id in ("same", "same", "no good!")]
    cells.append({"cell_type": "markdown", "metadata": {}, "source": "x"})
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    ids = [cell["id"] for cell in load_notebook(path)[0].cells]
    assert ids[0] == "same"
    assert len(set(ids)) == 4
    assert ids == [cell["id"] for cell in load_notebook(path)[0].cells]


def test_notebook_of_format_3_is_read(tmp_path: Path) -> None:
    cell = {
        "cell_type": "code",
        "input": "1 + 1",
        "language": "python",
        "outputs": [],
        "collapsed": False,
        "metadata": {},
    }
    old = {
        "nbformat": 3,
        "nbformat_minor": 0,
        "metadata": {"name": ""},
        "worksheets": [{"cells": [cell], "metadata": {}}],
    }
    path = tmp_path / "old.ipynb"
    path.write_text(json.dumps(old))
    notebook, _ = load_notebook(path)
    assert notebook.cells[0].source == "1 + 1"
    assert notebook.cells[0]["id"]


def test_injected_cell_follows_the_parameters_cell(write_notebook: Any) -> None:
    notebook, _ = load_notebook(write_notebook("1", parameters="x = 1"))
    notebook.cells[1]["id"] = "injected-parameters"  # a name that is taken
    inject(notebook, {"x": 2})
    assert [cell["id"] for cell in notebook.cells] == ["p", "injected-parameters-0", "injected-parameters"]
    assert notebook.cells[1].source == "# Parameters\nx = 2"
