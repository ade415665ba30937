"""A database, bucket, disk or folder that fails while a run is open: no cell breaks, nothing is lost, all said once."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import nbops as nb
from nbops.core.display import mimebundle
from nbops.core.errors import StoreError, StoreUnavailable
from nbops.core.query import parse
from nbops.core.records import Artifact, Cell, Run, RunStatus, replace
from nbops.store import outbox, telling
from nbops.store.auditing import walk
from nbops.store.context import CellRef, set_cell
from nbops.store.workspace import Workspace, init
from nbops.tracking.capture.background import drain


@pytest.fixture(autouse=True)
def _nothing_was_said() -> Iterator[None]:
    telling._said.clear()
    yield
    telling._said.clear()


def until(is_so: Callable[[], bool], *, patience_s: float = 20.0) -> bool:
    end = time.monotonic() + patience_s
    while not is_so() and time.monotonic() < end:
        time.sleep(0.05)
    return is_so()


def work(name: str = "trained") -> nb.LiveRun:
    """One run as a cell makes it: params, points, tags, a file, and a nested run."""
    with nb.run(name, params={"lr": 0.1}) as run:
        for step in range(100):
            nb.log(step, loss=1 / (step + 1))
        nb.log_params(epochs=3)
        run.set_tags(team="x")
        nb.log_artifact(b"weights", name="model.bin")
        with nb.run(f"{name}-inner"):
            nb.log(acc=0.5)
    return run


def assert_whole(ws: Workspace, name: str = "trained") -> None:
    """All that `work` did is in the store, as if nothing had failed."""
    ws.flush()
    (run,) = nb.find("runs", f"name == '{name}'")
    assert (run.status, run.params, run.tags) == ("FINISHED", {"lr": 0.1, "epochs": 3}, {"team": "x"})
    assert nb.series(run, "loss").values.tolist() == [1 / (step + 1) for step in range(100)]
    (inner,) = nb.find("runs", f"name == '{name}-inner'")
    assert (inner.parent, inner.status, inner.metrics) == (run.id, "FINISHED", {"acc": 0.5})
    (file,) = nb.find("artifacts", f"parent == '{run.id}' and name == 'model.bin'")
    with ws.artifacts.open(file.digest) as stream:
        assert stream.read() == b"weights"
    relations = {(link.relation, link.target) for link in ws.store.links(run.id)}
    assert {("parent_of", inner.id), ("produced", file.id)} <= relations
    kinds = [event.kind for event in ws.store.events(subject=run.id)]
    assert kinds[0] == "run.created"
    assert "run.finished" in kinds
    assert walk(ws.store).is_whole


# ---- a database that goes away ---------------------------------------------------------------------------------------


@pytest.mark.postgres
def test_a_run_goes_on_while_the_database_is_away(
    tmp_path: Path, outage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ws = init(tmp_path, store_url=outage.url)
    with nb.run("before"):
        nb.log(loss=1.0)
    outage.stop()
    run = work()
    assert ws.outbox.is_behind
    assert run.status == "FINISHED"
    assert run.record.params == {"lr": 0.1, "epochs": 3}  # as this process knows it
    assert "wait in the journal" in mimebundle(run)["text/plain"]
    with pytest.raises(StoreUnavailable, match="cannot be (read|reached)|refused"):
        nb.find("runs")
    assert [r.getMessage().count("The run goes on") for r in caplog.records] == [1]
    outage.start()
    assert until(lambda: not ws.outbox.is_behind)
    assert_whole(ws)
    assert "the store can be written to again" in caplog.records[-1].getMessage()
    assert nb.find("runs", "name == 'before'")[0].metrics == {"loss": 1.0}
    ws.close()


@pytest.mark.postgres
def test_what_a_process_could_not_store_the_next_one_does(tmp_path: Path, outage: Any, monkeypatch: Any) -> None:
    outage.stop()
    monkeypatch.setenv("NBOPS_STORE_URL", outage.url)
    monkeypatch.setenv("NBOPS_WORKSPACE", str(tmp_path))
    script = tmp_path / "script.py"
    script.write_text("import sys; sys.path.insert(0, sys.argv[1])\nfrom test_outages import work\nwork()\n")
    done = subprocess.run(
        [sys.executable, script, Path(__file__).parent], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("stored by whoever opens the workspace next") == 1
    (journal,) = (tmp_path / ".nbops" / "journal").glob("*.nbj")
    with pytest.raises(StoreUnavailable, match="cannot open the store"):
        init(tmp_path)  # who asks for it by name is told at once
    outage.start()
    ws = init(tmp_path)
    assert_whole(ws)
    assert not journal.exists()
    ws.close()


KILLED = """
    import os, signal, sys
    import nbops as nb
    run = nb.start("killed", params={"lr": 0.5})
    for i in range(1000):
        nb.log(loss=float(i))
    nb.log_params(epochs=7)
    run.set_tags(a="b")
    print(run.id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    """


@pytest.mark.postgres
def test_a_process_killed_during_an_outage_loses_nothing_that_returned(
    tmp_path: Path, outage: Any, monkeypatch: Any
) -> None:
    outage.stop()
    monkeypatch.setenv("NBOPS_STORE_URL", outage.url)
    monkeypatch.setenv("NBOPS_WORKSPACE", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL
    outage.start()
    ws = init(tmp_path)
    run = ws.store.get(Run, done.stdout.strip())
    assert (run.status, run.params, run.tags) == ("INTERRUPTED", {"lr": 0.5, "epochs": 7}, {"a": "b"})
    assert nb.series(run, "loss").values.tolist() == [float(i) for i in range(1000)]
    ws.close()


@pytest.mark.postgres
def test_a_run_taken_over_during_an_outage_stays_with_its_new_owner(tmp_path: Path, outage: Any) -> None:
    ws = init(tmp_path, store_url=outage.url)
    run = nb.run("contested")
    ws.store.update(Run, run.id, lambda r: replace(r, owner="another.host"))
    outage.stop()
    run.finish()
    outage.start()
    assert until(lambda: not ws.outbox.is_behind)
    assert ws.store.get(Run, run.id).status is RunStatus.RUNNING
    ws.close()


@pytest.mark.postgres
def test_a_locked_table_holds_up_no_cell(tmp_path: Path, outage: Any, monkeypatch: Any) -> None:
    import psycopg

    monkeypatch.setattr(outbox, "PATIENCE_S", 0.2)
    ws = init(tmp_path, store_url=outage.url)
    with psycopg.connect(dbname="postgres", user="nbops", host=str(outage.folder)) as connection:
        connection.execute("lock table record in access exclusive mode")
        run = nb.run("locked", params={"a": 1})
        assert ws.outbox.is_behind
        connection.rollback()
    run.finish()
    assert until(lambda: not ws.outbox.is_behind)
    assert nb.find("runs", "name == 'locked'")[0].status == "FINISHED"
    ws.close()


def test_a_locked_sqlite_file_holds_up_no_cell(workspace: Workspace, monkeypatch: Any) -> None:
    monkeypatch.setattr(outbox, "PATIENCE_S", 0.2)
    other = sqlite3.connect(workspace.path / "nbops.db", isolation_level=None)
    other.execute("begin immediate")
    work()
    assert workspace.outbox.is_behind
    assert "locked" in workspace.outbox.reason
    assert other.execute("select count(*) from record where kind = 'run'").fetchone() == (0,)
    other.execute("rollback")
    other.close()
    assert until(lambda: not workspace.outbox.is_behind)
    assert_whole(workspace)


def test_cells_are_recorded_during_an_outage(workspace: Workspace, shell: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(outbox, "PATIENCE_S", 0.2)
    other = sqlite3.connect(workspace.path / "nbops.db", isolation_level=None)
    other.execute("begin immediate")
    source = "import nbops as nb\nwith nb.run('cell run'):\n    nb.log(loss=0.5)\n    print('said')"
    shell.run_cell(source, store_history=True).raise_error()
    shell.run_cell("2 + 2", store_history=True).raise_error()
    drain()
    other.execute("rollback")
    other.close()
    assert until(lambda: not workspace.outbox.is_behind)
    (run,) = nb.find("runs", "name == 'cell run'")
    (cell,) = workspace.store.find(Cell, parse(f"parent == '{run.id}' and 'nb.run' in source"))
    assert cell.source.splitlines()[0] == "import nbops as nb"
    assert b"said" in workspace.artifacts.read(cell.outputs)
    assert run.context["packages"]["count"] > 10


# ---- what waits survives NaN, unicode and newer writers --------------------------------------------------------------


def test_odd_values_wait_unchanged(workspace: Workspace, monkeypatch: Any) -> None:
    monkeypatch.setattr(outbox, "PATIENCE_S", 0.1)
    other = sqlite3.connect(workspace.path / "nbops.db", isolation_level=None)
    other.execute("begin immediate")
    set_cell(CellRef("cell-1"))
    run = nb.run("größe/π " + "x" * 200, params={"nan": float("nan"), "inf": float("-inf"), "deep": {"a": [1, None]}})
    run.set_tags(**{"ключ": "значение\n"})
    run.finish("FAILED", error=ValueError("bad\x00value"))
    set_cell(None)
    other.execute("rollback")
    other.close()
    assert until(lambda: not workspace.outbox.is_behind)
    stored = workspace.store.get(Run, run.id)
    assert stored.name == run.name
    assert repr(stored.params) == "{'nan': nan, 'inf': -inf, 'deep': {'a': [1, None]}}"
    assert stored.tags == {"ключ": "значение\n"}
    assert (stored.status, stored.cell_id) == ("FAILED", "cell-1")
    assert stored.error is not None
    assert (stored.error.type, stored.error.cell_id) == ("ValueError", "cell-1")


# ---- a folder that cannot be written to ------------------------------------------------------------------------------

READ_ONLY = """
    import json, os, sys
    import nbops as nb
    found = [run.name for run in nb.find("runs")]
    with nb.run("kept aside", params={"a": 1}) as run:
        nb.log(loss=0.25)
    ws = nb.workspace()
    print(json.dumps({"found": found, "behind": ws.outbox.is_behind, "id": run.id}), flush=True)
    sys.stdin.readline()
    """


def as_stranger(*command: Any) -> list[Any]:
    """Return a command without root's right to write everywhere."""
    if os.geteuid():
        return [*command]
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and there is no setpriv")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--", *command]


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A workspace that nobody may write to, until `_let_write`."""
    ws = init(tmp_path)
    with nb.run("there before"):
        nb.log(loss=1.0)
    ws.close()
    _let_write(ws.path, writable=False)
    yield ws.path
    _let_write(ws.path, writable=True)


def _let_write(folder: Path, *, writable: bool) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod((0o777 if writable else 0o555) if path.is_dir() else (0o666 if writable else 0o444))


@contextmanager
def reader(shared: Path, *, more: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process that works in a workspace which it may not write to."""
    child = subprocess.Popen(
        as_stranger(sys.executable, "-c", textwrap.dedent(READ_ONLY) + textwrap.dedent(more)), text=True,
        env={**os.environ, "NBOPS_WORKSPACE": str(shared)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def test_a_read_only_workspace_is_read_and_what_is_logged_moves_there_later(shared: Path) -> None:
    aside = Path(os.environ["XDG_STATE_HOME"]) / "nbops"
    with reader(shared) as child:
        assert child.stdout is not None
        told = json.loads(child.stdout.readline())
        assert (told["found"], told["behind"]) == (["there before"], True)
        assert len(list(aside.glob("*/*.nbj"))) == 1
        _, said = child.communicate("\n", timeout=60)
        assert said.count("cannot be written to. What is logged is kept in") == 1
    _let_write(shared, writable=True)
    ws = init(shared)  # whoever opens it next: the journals beside the account are looked after too
    run = ws.store.get(Run, told["id"])
    assert (run.status, run.params, run.metrics) == ("FINISHED", {"a": 1}, {"loss": 0.25})
    assert list(aside.glob("*/*.nbj")) == []
    ws.close()


def test_a_workspace_that_becomes_writable_takes_what_waited(shared: Path) -> None:
    then = """
        import time
        while ws.outbox.is_behind:
            time.sleep(0.05)
        print(json.dumps({"status": nb.find("runs")[0].status}), flush=True)
        """
    with reader(shared, more=then) as child:
        assert child.stdout is not None
        assert json.loads(child.stdout.readline())["behind"]
        _let_write(shared, writable=True)
        out, said = child.communicate("\n", timeout=60)
        assert out, said
        assert json.loads(out) == {"status": "FINISHED"}


# ---- a disk that is full ---------------------------------------------------------------------------------------------

FULL_DISK = """
    import resource, signal, sys
    sys.path.insert(0, sys.argv[1])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit is an error then, as on a full disk
    import nbops as nb
    from test_outages import assert_whole, until, work
    ws = nb.workspace()
    with nb.run("before"):
        nb.log(loss=1.0)
    nothing = resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, nothing))
    work()
    assert ws.outbox.is_behind, ws.outbox
    print("worked", flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nothing, nothing))
    assert until(lambda: not ws.outbox.is_behind)
    ws.artifacts._ask_at = 0.0
    ws.artifacts.settle()
    assert_whole(ws)
    from nbops.store.inspection import check_workspace
    report = check_workspace(ws)
    assert report.is_well, report
    print("whole", flush=True)
    """


def test_a_full_disk_breaks_no_cell_and_all_arrives_when_there_is_room(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("NBOPS_WORKSPACE", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), Path(__file__).parent],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["worked", "whole"]
    assert done.stderr.count("The run goes on") == 1


# ---- a bucket that goes away -----------------------------------------------------------------------------------------


@pytest.mark.leaks("s3fs keeps its thread of requests for the whole process")
def test_files_wait_for_a_bucket_that_does_not_answer(
    tmp_path: Path, s3_bucket: str, s3_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ws = init(tmp_path, artifacts_url=f"{s3_bucket}/nbops")
    s3_server.stop()
    run = work()
    drain()
    (file,) = nb.find("artifacts", "name == 'model.bin'")
    assert (ws.artifacts.exists(file.digest), ws.artifacts.read(file.digest)) == (True, b"weights")
    assert sum("files cannot be stored" in r.getMessage() for r in caplog.records) == 1
    waiting = sorted(path.name for path in (ws.path / "journal" / "files").iterdir())
    assert file.digest in waiting
    s3_server.start()
    ws.artifacts._ask_at = 0.0  # it is left alone for a while
    ws.artifacts.settle()
    assert [blob.digest for blob in ws.artifacts.blobs()] == waiting
    assert list((ws.path / "journal" / "files").iterdir()) == []
    assert_whole(ws)
    assert run.status == "FINISHED"
    ws.close()


def test_a_file_that_waits_is_read_when_there_is_room_and_told_if_it_changed(
    workspace: Workspace, tmp_path: Path, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    from nbops.store.artifacts import Artifacts

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    same, other = tmp_path / "same.bin", tmp_path / "other.bin"
    same.write_bytes(b"s" * 5000)
    other.write_bytes(b"o" * 5000)
    staging = Artifacts._staging
    monkeypatch.setattr(Artifacts, "_staging", full)
    with nb.run("full") as run:
        run.log_artifact(same)
        run.log_artifact(other)
    other.write_bytes(b"changed")
    os.utime(other, (1, 1))
    with pytest.raises(StoreUnavailable, match="no room for a file"):
        workspace.artifacts.put(bytes(65 << 20))
    monkeypatch.setattr(Artifacts, "_staging", staging)
    workspace.artifacts.settle()
    files = {file.name: file for file in workspace.store.find(Artifact)}
    assert workspace.artifacts.read(files["same.bin"].digest) == b"s" * 5000
    assert not workspace.artifacts.exists(files["other.bin"].digest)
    assert [r.getMessage() for r in caplog.records if "other.bin" in r.getMessage()] != []


# ---- what cannot be kept is an error ---------------------------------------------------------------------------------


def test_a_record_that_nobody_knows_cannot_be_changed_during_an_outage(workspace: Workspace, monkeypatch: Any) -> None:
    monkeypatch.setattr(outbox, "PATIENCE_S", 0.1)
    run = nb.run("other")
    run.finish()
    drain()
    other = sqlite3.connect(workspace.path / "nbops.db", isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(StoreUnavailable, match="cannot be changed now") as caught:
        workspace.outbox.update(Run, run.id, lambda r: r)
    assert "Try again" in str(caught.value)
    other.execute("rollback")
    other.close()


def test_a_wrong_place_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / ".nbops").mkdir()
    (tmp_path / ".nbops" / "nbops.db").write_text("this is no database" * 100)
    with pytest.raises(StoreError, match="cannot open the store"):
        Workspace.open(tmp_path, patient=True)


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="nbops")
