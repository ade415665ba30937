"""nb.trash, nb.restore and nb.purge as one uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import nbops as nb
from nbops.core.errors import Conflict, InvalidInput, NotFound
from nbops.verbs.grammar import Call, dispatch
from nbops.verbs.words import split

if TYPE_CHECKING:
    from nbops.store.workspace import Workspace


def test_a_run_goes_to_the_trash_comes_back_and_is_purged(workspace: Workspace) -> None:
    with nb.run("mine") as run:
        nb.log(loss=0.5)
        file = nb.log_artifact(b"bytes", name="b.bin")
        with pytest.raises(Conflict, match="is running"):
            nb.trash(run)
    assert nb.trash(run).counts["records"] == 2
    assert nb.find("runs").total == 0
    assert f"run mine {run.id} · today · 2 records" in nb.trash().notes
    nb.restore(run.id)
    assert nb.series("mine", "loss").values.tolist() == [0.5]
    nb.trash("mine")
    assert nb.purge().counts["records"] == 0  # not old enough
    assert nb.purge(older_than_days=0, grace_hours=0).counts == {"things": 1, "records": 2, "files": 1, "bytes": 5}
    assert not workspace.artifacts.exists(file.digest)
    with pytest.raises(NotFound):
        nb.restore(run.id)


def test_a_purged_models_unpacked_copy_goes_too(workspace: Workspace) -> None:
    kept, _ = workspace.artifacts.put(b"manifest")
    for name in (kept, "0" * 64, "notes"):
        (workspace.path / "bundles" / name).mkdir(parents=True)
    nb.purge()
    assert {folder.name for folder in (workspace.path / "bundles").iterdir()} == {kept, "notes"}


def test_what_cannot_be_is_refused(workspace: Workspace) -> None:
    with pytest.raises(NotFound):
        nb.trash("nothing")
    with pytest.raises(InvalidInput, match="has no trash"):
        nb.trash(3)
    with pytest.raises(InvalidInput, match="cannot be negative"):
        nb.purge(older_than_days=-1)


def test_the_verbs_do_the_same(workspace: Workspace) -> None:
    with nb.run("mine") as run:
        pass

    def said(line: str) -> nb.NbopsError:
        return dispatch(list(split(line)), Call())

    said(f"trash {run.id[:4]}{run.id[-6:]}")
    assert said("trash").counts["things"] == 1
    said(f"restore {run.id}")
    assert nb.find("runs").total == 1
    assert said("check-workspace").is_well
    assert said("repair-workspace").is_well
    assert said("purge --older-than 0").counts["records"] == 0
