"""The verb profile: a variable, a file or a dataset; and the page it writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import nbops as nb
from nbops.core.errors import NotFound
from nbops.verbs.grammar import Call, dispatch
from nbops.verbs.words import UsageError, split

if TYPE_CHECKING:
    from nbops.store.workspace import Workspace

TABLE = {"age": [31, 40, None], "label": ["a", "b", "a"]}


def said(line: str, *, cli: bool = False, **variables: Any) -> Any:
    return dispatch(list(split(line)), Call(namespace=None if cli else variables))


def test_a_variable_is_profiled_and_nothing_recorded(workspace: Workspace, tmp_path: Path) -> None:
    made = said("profile table --label label", table=TABLE)
    assert (made.name, made.label, made.rows) == ("table", "label", 3)
    assert len(nb.find("datasets")) == 0
    page = tmp_path / "page.html"
    assert said(f"profile table --name people --report {page}", table=TABLE).name == "people"
    assert "people" in page.read_text(encoding="utf-8")


def test_a_file_and_a_dataset_are_profiled(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pl.DataFrame(TABLE).write_parquet("people.parquet")
    assert said("profile people.parquet", cli=True).name == "people.parquet"
    nb.snapshot(TABLE, "people")
    assert said("profile people/1", cli=True).columns["age"]["missing"] == 1
    assert said("profile people").rows == 3


def test_what_is_neither_is_refused(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="no variable 'tabel'.*\nDid you mean 'table'"):
        said("profile tabel", table=TABLE)
    with pytest.raises(NotFound, match="no dataset 'tabel'"):
        said("profile tabel", cli=True)
    with pytest.raises(NotFound, match=r"no file 'nothing\.csv'"):
        said("profile nothing.csv", cli=True)
