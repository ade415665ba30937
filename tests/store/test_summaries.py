"""Summaries of metrics: sealed with a run that has ended, always those of its points."""

from __future__ import annotations

import math

import pytest
import sqlalchemy as sa

import nbops as nb
from nbops.core.records import Run, RunStatus, replace
from nbops.store.inspection import check_workspace, repair_workspace
from nbops.store.summaries import read_summaries
from nbops.store.tables import record
from nbops.store.workspace import Workspace
from nbops.testing import a_run, some_points
from nbops.tracking.capture.background import drain


def seal_of(ws: Workspace, id: str) -> bytes | None:
    with ws.store.engine.connect() as connection:
        found: bytes | None = connection.execute(sa.select(record.c.summary).where(record.c.id == id)).scalar_one()
        return found


def test_a_run_is_sealed_when_it_ends_and_reads_the_same(workspace: Workspace) -> None:
    with nb.run("a") as run:
        nb.log(loss=1.0, bad=math.nan)
        nb.log(loss=0.5, bad=math.inf)
        workspace.flush()
        assert seal_of(workspace, run.id) is None
    assert seal_of(workspace, run.id) is not None
    with workspace.store.engine.connect() as connection:
        rows = read_summaries(connection, [run.id])[run.id]
    assert {"loss", "bad"} <= rows.keys()
    assert repr(workspace.store.get(Run, run.id).summary) == repr(rows)
    assert repr(workspace.store.find(Run)[0].summary) == repr(rows)


def test_points_that_come_late_break_the_seal_and_the_next_change_seals_again(workspace: Workspace) -> None:
    run = a_run(status=RunStatus.FINISHED)
    workspace.store.add_points([some_points(run.id, "m", [1.0, 2.0])])
    workspace.store.put(run)
    assert seal_of(workspace, run.id) is not None
    workspace.store.add_points([some_points(run.id, "m", [9.0], first=2), some_points(run.id, "n", [1.0])])
    assert seal_of(workspace, run.id) is None
    assert workspace.store.get(Run, run.id).metrics == {"m": 9.0, "n": 1.0}
    workspace.store.update(Run, run.id, lambda r: replace(r, note="seen"))
    assert seal_of(workspace, run.id) is not None
    assert workspace.store.get(Run, run.id).summary["m"].count == 3
    assert check_workspace(workspace).is_well


def test_a_resumed_run_is_open_and_not_sealed(workspace: Workspace) -> None:
    with nb.run("a") as run:
        nb.log(loss=1.0)
    with nb.run(resume=run.id):
        assert seal_of(workspace, run.id) is None
        nb.log(loss=0.25)
    assert workspace.store.get(Run, run.id).metrics == {"loss": 0.25}


def test_pages_mix_sealed_and_open_runs(workspace: Workspace) -> None:
    for name in "abc":
        with nb.run(name):
            nb.log(loss=ord(name))
    open_run = nb.start("open")
    nb.log(loss=1.0)
    found = nb.find("runs", "metrics.loss > 0", order_by="metrics.loss")
    assert [(run.name, run.metrics["loss"]) for run in found] == [("open", 1.0), ("a", 97.0), ("b", 98.0), ("c", 99.0)]
    open_run.finish()


@pytest.mark.parametrize("seal", [b"\x80", b"\x81\xa4loss\x80", b"nonsense"])
def test_a_seal_that_lies_is_found_and_made_anew(workspace: Workspace, seal: bytes) -> None:
    with nb.run("a") as run:
        nb.log(loss=1.0)
    assert drain()  # what is found out late about a run seals it again
    with workspace.store.engine.begin() as connection:
        connection.execute(sa.update(record).where(record.c.id == run.id).values(summary=seal))
    told = check_workspace(workspace).problems
    assert any("sealed summaries" in line and "can be mended" in line for line in told), told
    repair_workspace(workspace)
    assert check_workspace(workspace).is_well
    assert workspace.store.get(Run, run.id).metrics == {"loss": 1.0}


def test_a_workspace_from_before_seals_is_read_from_its_rows(workspace: Workspace) -> None:
    with nb.run("a") as run:
        nb.log(loss=1.0)
    with workspace.store.engine.begin() as connection:
        connection.execute(sa.update(record).values(summary=None))
    assert workspace.store.get(Run, run.id).metrics == {"loss": 1.0}
