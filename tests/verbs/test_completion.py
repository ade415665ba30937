"""What Tab offers, and that it never waits for the store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nbops.core.ids import new_id
from nbops.core.records import Alias, Dataset, Endpoint, ModelVersion, Signature
from nbops.tracking.runs import run
from nbops.verbs import names
from nbops.verbs.completion import complete, complete_line

if TYPE_CHECKING:
    from nbops.store.workspace import Workspace


@pytest.fixture(autouse=True)
def _no_names_from_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(names, "TIME_LIMIT_S", 30.0)
    names._known.clear()
    yield
    for thread in threading.enumerate():
        if thread.name == "nbops-names":
            thread.join(10)


@pytest.fixture
def filled(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with one of each, whose names are waited for."""
    base: dict[str, Any] = {"created_at": 1.0}
    put = workspace.store.put
    put(
        ModelVersion(
            id=new_id("mv"), name="digits", number=3, digest="", signature=Signature(inputs=[], outputs=[]), **base
        )
    )
    put(Alias(id=new_id("al"), name="digits@prod", model="digits", alias="prod", number=3, **base))
    put(Dataset(id=new_id("ds"), name="scans", version=2, digest="", rows=1, **base))
    put(Endpoint(id=new_id("ep"), name="digits@prod", url="", status="READY", pid=1, models=[], **base))
    put(Endpoint(id=new_id("ep"), name="old", url="", status="STOPPED", pid=1, models=[], **base))
    with run("fit", params={"lr": 0.1}) as live:
        live.log(0, acc=0.5)
    original = names.stored_names
    monkeypatch.setattr(names, "stored_names", lambda sort: original(sort, limit_s=30.0))
    return workspace


def offered(text: str, **variables: Any) -> list[str]:
    return complete(text, variables)[1]


def test_verbs_options_and_choices() -> None:
    assert "runs" in offered("")
    assert offered("ru") == ["run", "runs"]
    assert offered("runs --la") == ["--last"]
    assert offered("runs --last 3 --") == ["--order-by"]
    assert offered("watch net --on-error ") == ["warn", "pause", "stop", "rollback"]
    assert offered("help ru") == ["run", "runs"]
    assert offered("help runs ") == []
    assert offered("nonsense x") == []
    of_run = "--param --tag --data --resume --attach --quiet --output --kernel --timeout"
    assert offered("run fit ") == of_run.split()
    assert "--param" in offered("run fit --param lr 0.1 --pa")
    assert offered("run fit --param lr ") == []
    assert offered("endpoints ") == ["--all"]


def test_variables_of_the_notebook() -> None:
    assert offered("snapshot d", df=1, data=2, _dunder=3, other=4) == ["df", "data"]
    assert offered("watch net --optimizer o", opt=1, other=2) == ["opt", "other"]


def test_stored_names(filled: Workspace) -> None:
    assert offered("serve di") == ["digits", "digits@prod", "digits/3"]
    assert offered("stop ") == ["digits@prod"]
    assert offered("promote d") == ["digits"]
    assert offered("promote digits ") == ["3"]
    assert offered("promote digits 3 ") == ["prod"]
    assert offered("rollback digits p") == ["prod"]
    assert offered("run fit --data sc") == ["scans", "scans/2"]
    assert offered("check s", sheet=1) == ["sheet", "scans", "scans/2"]
    assert {"fit", "digits@prod", "scans/2"} <= set(offered("show "))
    assert offered("runs metrics.acc > 0.5 and params") == ["params.lr"]
    assert offered("runs met") == ["metrics.acc"]
    assert offered("compare ") == ["fit"]
    assert offered("compare fit f") == ["fit"]
    assert offered("compare fit --metric a") == ["acc"]
    assert "diagnoses" in offered("find di")
    assert "aliases" in offered("find al")
    assert "missing-values" in offered("check df --only mis")


def test_files(tmp_path: Path) -> None:
    (tmp_path / "nb").mkdir()
    for name in ("train.ipynb", "notes.txt", ".hidden.ipynb", "nb/deep.ipynb"):
        (tmp_path / name).touch()
    assert offered("run ") == ["nb/", "train.ipynb"]
    assert offered("run nb/") == ["nb/deep.ipynb"]
    assert offered("run nowhere/") == []
    assert offered("init n") == ["nb/", "notes.txt"]


def test_only_our_lines_are_answered() -> None:
    assert complete_line("%mlops ru", {}) == ("ru", ["run", "runs"])
    assert complete_line("%%mlops ru", {}) == ("ru", ["run", "runs"])
    assert complete_line("x = %mlops runs --la", {}) == ("--la", ["--last"])
    assert complete_line("    rows[0] = %mlops ru", {}) == ("ru", ["run", "runs"])
    assert complete_line("%mlops", {}) is None
    assert complete_line("print('%mlops ru", {}) is None
    assert complete_line("ru", {}) is None


def test_completion_makes_no_workspace(tmp_path: Path) -> None:
    assert offered("serve ") == []
    assert list(tmp_path.iterdir()) == []


def test_a_slow_store_is_not_waited_for(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    monkeypatch.setitem(names._READERS, "models", lambda store: ["late"] if free.wait(30) else [])
    assert names.stored_names("models", limit_s=0.01) == []
    free.set()
    for thread in threading.enumerate():
        if thread.name == "nbops-names":
            thread.join(30)
    assert names.stored_names("models", limit_s=0.01) == ["late"]
