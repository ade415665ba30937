"""An open workspace notices deaths: of processes here by their locks, of those on other hosts by their silence."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
import sqlalchemy as sa

from nbops.core.errors import StoreError
from nbops.core.records import Run, RunStatus
from nbops.store import keeping
from nbops.store.context import CellRef, set_cell
from nbops.store.journal import host_name
from nbops.store.keeping import Keeper
from nbops.store.notes import CellNote, Note, note_path, read_note
from nbops.store.recovery import SILENT_S, is_dead
from nbops.store.sql import SqlStore
from nbops.store.workspace import Workspace
from nbops.testing import a_run

CHILD = """
    import socket, sys
    {before}
    from nbops.store.context import CellRef, set_cell
    from nbops.store.workspace import workspace
    from nbops.testing import a_run
    ws = workspace()
    run = a_run(owner=ws.owner)
    ws.store.put(run)
    ws.log(run.id, None, {{"m": 1.0}})
    ws.flush()
    {then}
    print(run.id, flush=True)
    sys.stdin.readline()
    {last}
    """
OTHER_HOST = "socket.gethostname = lambda: 'far-away'"
QUICK = "from nbops.store import keeping; keeping.ROUND_S = keeping.BEAT_S = 0.1"


@contextmanager
def child(
    path: Path, *, url: str = "", before: str = "", then: str = "", last: str = ""
) -> Iterator[tuple[str, IO[str], Callable[[], None]]]:
    """A process that has a run open until told to go on; yields the run, its input and how to kill it."""
    environment = os.environ | {"NBOPS_WORKSPACE": str(path)} | ({"NBOPS_STORE_URL": url} if url else {})
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD).format(before=before, then=then, last=last)],
        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None

    def kill() -> None:
        process.kill()
        process.wait()

    try:
        yield process.stdout.readline().strip(), process.stdin, kill
    finally:
        kill()
        process.stdin.close()
        process.stdout.close()


def until(is_so: Callable[[], bool], *, patience_s: float = 10.0) -> bool:
    end = time.monotonic() + patience_s
    while not is_so() and time.monotonic() < end:
        time.sleep(0.05)
    return is_so()


# ---- on this host ----------------------------------------------------------------------------------------------------


def test_a_death_is_noticed_by_whoever_has_the_workspace_open(workspace: Workspace) -> None:
    then = "set_cell(CellRef('cell-7', 'long()'))"
    with child(workspace.path, then=then) as (id, _, kill):
        kill()
        assert until(lambda: workspace.store.get(Run, id).status is RunStatus.INTERRUPTED)
    run = workspace.store.get(Run, id)
    assert run.error is not None
    assert (run.error.type, run.error.cell_id) == ("KernelDied", "cell-7")
    assert "died while cell cell-7 executed" in run.error.message
    assert run.metrics == {"m": 1.0}
    assert list((workspace.path / "journal").iterdir()) == []


def test_between_cells_no_cell_is_blamed(workspace: Workspace) -> None:
    with child(workspace.path, then="set_cell(CellRef('cell-7')); set_cell(None)") as (_, _, kill):
        kill()
        (run,) = workspace.recover()
    assert run.error is not None
    assert (run.error.type, run.error.cell_id) == ("KernelDied", None)
    assert "died after cell cell-7" in run.error.message


def test_a_run_left_open_by_a_process_that_ended_in_order_is_closed(workspace: Workspace) -> None:
    with child(workspace.path, last="ws.close()") as (id, tell, _):
        keeper = Keeper(workspace)
        keeper.look(workspace)
        assert workspace.store.get(Run, id).status is RunStatus.RUNNING
        tell.write("\n")
        tell.flush()
        assert until(lambda: list((workspace.path / "journal").iterdir()) == [])
        keeper.look(workspace)
        assert workspace.store.get(Run, id).status is RunStatus.INTERRUPTED
    error = workspace.store.get(Run, id).error
    assert error is not None
    assert error.type == "ProcessDied"


def test_while_all_live_the_database_is_left_alone(workspace: Workspace) -> None:
    statements: list[str] = []

    def note(*arguments: object) -> None:
        statements.append(str(arguments[2]))

    with child(workspace.path) as (id, _, kill):
        keeper = Keeper(workspace)
        keeper.look(workspace)
        sa.event.listen(workspace.store.engine, "before_cursor_execute", note)
        for _ in range(3):
            keeper.look(workspace)
        assert statements == []
        kill()
        keeper.look(workspace)
        sa.event.remove(workspace.store.engine, "before_cursor_execute", note)
        assert statements != []
        assert workspace.store.get(Run, id).status is RunStatus.INTERRUPTED


def test_a_container_that_comes_back_under_another_name_closes_what_it_left(workspace: Workspace) -> None:
    with child(workspace.path, before=OTHER_HOST) as (id, _, kill):
        assert workspace.recover() == []
        kill()
        assert [run.id for run in workspace.recover()] == [id]


def test_a_journal_that_is_just_being_made_is_left_alone(workspace: Workspace) -> None:
    folder = workspace.path / "journal"
    folder.mkdir(exist_ok=True)
    fresh, old = folder / "host.1.abc.0.nbj", folder / "host.2.abc.0.nbj"
    for path in (fresh, old):
        path.touch()
    os.utime(old, (1.0, 1.0))
    workspace.recover()
    assert (fresh.exists(), old.exists()) == (True, False)


def test_a_journal_that_cannot_be_opened_is_not_judged(workspace: Workspace) -> None:
    closed = workspace.path / "journal" / f"{host_name()}.1.abc.0.nbj"
    closed.mkdir(parents=True)
    run = a_run(owner=f"{host_name()}.1.abc")
    workspace.store.put(run)
    assert not is_dead(closed)
    assert not is_dead(closed.with_name("gone.nbj"))
    assert workspace.recover() == []
    closed.rmdir()
    assert [found.id for found in workspace.recover()] == [run.id]


def test_a_round_that_fails_is_tried_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "ROUND_S", 0.05)
    other = Workspace.open(workspace.path)
    assert other._keeper is not None
    database, away = workspace.path / "nbops.db", workspace.path / "nbops.away"
    with child(workspace.path) as (id, _, kill):
        assert workspace._keeper is not None
        workspace._keeper.stop()
        workspace.store.engine.dispose()
        other.store.engine.dispose()
        database.rename(away)
        database.mkdir()
        kill()
        assert until(lambda: isinstance(other._keeper and other._keeper.error, StoreError))
        database.rmdir()
        away.rename(database)
        assert until(lambda: workspace.store.get(Run, id).status is RunStatus.INTERRUPTED)
    assert until(lambda: other._keeper is not None and other._keeper.error is None)
    other.close()


def test_a_workspace_that_nobody_holds_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "ROUND_S", 0.05)
    opened = Workspace.open(tmp_path)
    keeper = opened._keeper
    assert keeper is not None
    store = opened.store
    del opened
    assert until(lambda: not keeper._thread.is_alive())
    store.close()


# ---- the note --------------------------------------------------------------------------------------------------------


def test_the_note_holds_the_last_cell_and_nothing_of_longer_ones(tmp_path: Path) -> None:
    note = CellNote(tmp_path, "me")
    assert read_note([tmp_path], "me") == Note()
    note.write(CellRef("é" * 300))
    assert read_note([tmp_path], "me") == Note(cell_id="é" * 100, is_running=True)
    note.write(CellRef("b"))
    note.write(None)
    assert read_note([tmp_path], "me") == Note(cell_id="b", is_running=False)
    note.close()
    assert read_note([tmp_path], "me") == Note()
    note_path(tmp_path, "torn").write_bytes(b'{"cell_id": "a')
    assert read_note([tmp_path], "torn") == Note()


def test_a_process_notes_its_cells_from_its_first_run_on(workspace: Workspace) -> None:
    set_cell(CellRef("first"))
    owner = workspace.owner
    assert read_note(workspace.journals, owner) == Note(cell_id="first", is_running=True)
    set_cell(None)
    workspace.close()
    set_cell(CellRef("after"))
    assert read_note(workspace.journals, owner) == Note()


# ---- hosts that share a database -------------------------------------------------------------------------------------


def silence(store: SqlStore, seconds: float = SILENT_S + 1) -> None:
    """Let every process seem silent for so long."""
    with store.engine.connect().execution_options(nbops_write=True) as connection, connection.begin():
        connection.execute(sa.text("update heartbeat set at = at - :s"), {"s": seconds})


@pytest.fixture
def here(tmp_path: Path, postgres_url: str) -> Iterator[Workspace]:
    opened = Workspace.open(tmp_path / "here", store_url=postgres_url)
    yield opened
    opened.close()


@pytest.mark.postgres
@pytest.mark.parametrize("before", [OTHER_HOST, ""], ids=["another host", "another folder of this host"])
def test_a_process_elsewhere_is_closed_when_it_falls_silent(
    here: Workspace, tmp_path: Path, postgres_url: str, before: str
) -> None:
    with child(tmp_path / "there", url=postgres_url, before=before) as (id, _, kill):
        assert here.recover() == []
        kill()
        assert here.recover() == []
        silence(here.store)
        assert here._keeper is not None
        Keeper(here).look(here)
    run = here.store.get(Run, id)
    assert run.error is not None
    assert (run.status, run.error.type) == (RunStatus.INTERRUPTED, "ProcessDied")
    assert here.store.silences() == {}


@pytest.mark.postgres
def test_a_process_of_this_folder_is_judged_by_its_lock(here: Workspace, tmp_path: Path, postgres_url: str) -> None:
    with child(tmp_path / "here", url=postgres_url) as (id, _, kill):
        silence(here.store)
        assert here.recover() == []
        kill()
        assert [run.id for run in here.recover()] == [id]


@pytest.mark.postgres
def test_who_was_taken_for_dead_opens_its_run_again(here: Workspace, tmp_path: Path, postgres_url: str) -> None:
    with child(tmp_path / "there", url=postgres_url, before=f"{OTHER_HOST}; {QUICK}") as (id, _, _):
        other = a_run(owner="far-away.1.gone")  # a dead one is not opened again
        here.store.put(other)
        silence(here.store)
        closed = {run.id for run in here.recover()}
        assert other.id in closed
        assert until(lambda: here.store.get(Run, id).status is RunStatus.RUNNING)
        assert here.store.get(Run, other.id).status is RunStatus.INTERRUPTED
    kinds = [event.kind for event in here.store.events(subject=id)]
    assert id not in closed or kinds[-2:] == ["run.interrupted", "run.revived"]


@pytest.mark.postgres
def test_who_ends_in_order_leaves_no_heartbeat(here: Workspace) -> None:
    owner = here.owner
    assert list(here.store.silences()) == [owner]
    here.close()
    again = Workspace.open(here.path, store_url=str(here.settings.store_url))
    assert again.store.silences() == {}
    again.close()


@pytest.mark.postgres
def test_silence_is_measured_by_the_database(here: Workspace, tmp_path: Path) -> None:
    local = SqlStore(f"sqlite:///{tmp_path}/nbops.db")
    for store in (here.store, local):
        assert store.beat("a") is None
        again = store.beat("a")
        assert again is not None
        assert 0 <= again < SILENT_S
        silence(store, 100.0)
        assert 100 <= store.silences()["a"] < 200
        store.forget_beats(["a"])
        store.forget_beats([])
        assert store.silences() == {}
    assert (here.store.is_shared, local.is_shared) == (True, False)
    local.close()
