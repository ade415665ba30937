"""The workspace: found like git, shared by processes, and whole again after a kill."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from nbops.core.errors import InvalidInput, NotFound, StoreError
from nbops.core.records import Artifact, Run, RunStatus
from nbops.store import workspace as module
from nbops.store.discovery import locate
from nbops.store.workspace import Workspace
from nbops.testing import a_run, values_of


def python(code: str, **popen: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        text=True,
        stdout=subprocess.PIPE,
        **popen,  # type: ignore[call-overload]
    )


def test_it_is_found_in_the_nearest_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert locate(deep) == tmp_path / ".nbops"
    (tmp_path / "a" / ".nbops").mkdir()
    assert locate(deep) == tmp_path / "a" / ".nbops"
    monkeypatch.setenv("NBOPS_WORKSPACE", str(tmp_path / "named"))
    assert locate(deep) == tmp_path / "named" / ".nbops"


def test_outside_a_checkout_it_is_where_one_works(tmp_path: Path) -> None:
    assert locate(tmp_path) == tmp_path / ".nbops"


def test_it_hides_itself_from_git(workspace: Workspace) -> None:
    assert (workspace.path / ".gitignore").read_text() == "*\n"


def test_settings_come_from_the_file_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".nbops").mkdir()
    (tmp_path / ".nbops" / "config.toml").write_text("dataset_max_bytes = 5\ncell_source_max_bytes = 6\n")
    monkeypatch.setenv("NBOPS_CELL_SOURCE_MAX_BYTES", "7")
    ws = Workspace.open(tmp_path)
    assert (ws.settings.dataset_max_bytes, ws.settings.cell_source_max_bytes) == (5, 7)
    ws.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("store_ulr = ''", "unknown setting 'store_ulr'\nDid you mean 'store_url'"),
        ("dataset_max_bytes = 'many'", "a setting cannot be used"),
        ("= 3", "config.toml cannot be read"),
        ("store_url = 'mysql://x'", "store URL names 'mysql'"),
        ("store_url = 'nonsense'", "cannot be read"),
    ],
)
def test_a_bad_configuration_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / ".nbops").mkdir()
    (tmp_path / ".nbops" / "config.toml").write_text(text)
    with pytest.raises(InvalidInput) as caught:
        Workspace.open(tmp_path)
    assert message in str(caught.value)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot make the workspace .*\n.*nb\.init"):
        Workspace.open(tmp_path / "file")


def test_a_database_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / ".nbops").mkdir()
    (tmp_path / ".nbops" / "nbops.db").write_text("this is no database" * 100)
    with pytest.raises(StoreError, match="cannot open the store"):
        Workspace.open(tmp_path)


def test_init_replaces_the_current_one(tmp_path: Path) -> None:
    first = module.init(tmp_path / "a")
    second = module.init(tmp_path / "b")
    assert module.workspace() is second
    first.close()
    with pytest.raises(StoreError, match=r"is closed\nOpen it again"):
        first.log("run_x", None, {"m": 1.0})


def test_an_artifact_is_stored_and_linked(workspace: Workspace) -> None:
    run = a_run()
    workspace.store.put(run)
    artifact = workspace.save_artifact(b"data", name="notes.txt", parent=run.id)
    assert workspace.store.get(Artifact, artifact.id).media_type == "text/plain"
    assert [edge.relation for edge in workspace.store.links(artifact.id)] == ["produced"]


def test_two_processes_lose_no_point(workspace: Workspace) -> None:
    writer = """
        from nbops.store.workspace import workspace
        from nbops.testing import a_run
        ws = workspace()
        run = a_run(owner=ws.owner)
        ws.store.put(run)
        for i in range(10_000):
            ws.log(run.id, i, {"m": float(i)})
        print(run.id)
        """
    processes = [python(writer), python(writer)]
    ids = [process.communicate()[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    for id in ids:
        assert values_of(workspace.store.points(id, "m")) == [float(i) for i in range(10_000)]
    assert list((workspace.path / "journal").glob("*")) == []


KILLED = """
    import os, signal, sys
    from nbops.store.workspace import workspace
    from nbops.testing import a_run
    ws = workspace()
    run = a_run(owner=ws.owner)
    ws.store.put(run)
    print(run.id, flush=True)
    for i in range(100_000):
        ws.log(run.id, None, {"m": float(i)})
        if i % 100 == 0:
            print(i, flush=True)
    """


def test_a_killed_process_loses_nothing_that_returned(workspace: Workspace) -> None:
    process = python(KILLED)
    assert process.stdout is not None
    id = process.stdout.readline().strip()
    told = 0
    while told < 40_000:
        told = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().splitlines()
    process.wait()
    process.stdout.close()
    told = max([told, *(int(line) for line in rest if line.isdecimal())])
    assert workspace.store.get(Run, id).status is RunStatus.RUNNING
    reopened = Workspace.open(workspace.path)
    values = values_of(reopened.store.points(id, "m"))
    run = reopened.store.get(Run, id)
    reopened.close()
    assert len(values) > told >= 40_000
    assert values == [float(i) for i in range(len(values))]
    assert run.status is RunStatus.INTERRUPTED
    assert run.ended_at is not None
    assert run.summary["m"].count == len(values)
    assert list((workspace.path / "journal").glob("*")) == []


def test_a_torn_tail_is_kept_aside_and_costs_only_itself(workspace: Workspace) -> None:
    child = python(
        """
        import os, signal
        from nbops.store.workspace import workspace
        from nbops.testing import a_run
        ws = workspace()
        run = a_run(owner=ws.owner)
        ws.store.put(run)
        ws.log(run.id, None, {"m": 1.0})
        print(run.id, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    id = child.communicate()[0].strip()
    (journal,) = (workspace.path / "journal").glob("*.nbj")
    with journal.open("r+b") as file:  # as if power had gone while the next frame was written
        file.seek(len(journal.read_bytes().rstrip(b"\0")))
        file.write(b"\xff\x00\x00\x00half a frame")
    workspace.recover()
    assert values_of(workspace.store.points(id, "m")) == [1.0]
    assert [p.suffix for p in (workspace.path / "journal").iterdir()] == [".torn"]


def test_a_living_process_is_left_alone(workspace: Workspace) -> None:
    child = python(
        """
        import sys
        from nbops.store.workspace import workspace
        from nbops.testing import a_run
        ws = workspace()
        run = a_run(owner=ws.owner)
        ws.store.put(run)
        print(run.id, flush=True)
        sys.stdin.readline()
        """,
        stdin=subprocess.PIPE,
    )
    assert child.stdout is not None
    id = child.stdout.readline().strip()
    assert workspace.recover() == []
    assert workspace.store.get(Run, id).status is RunStatus.RUNNING
    child.kill()
    child.communicate()
    assert [run.id for run in workspace.recover()] == [id]


def test_a_forked_child_writes_a_journal_of_its_own(workspace: Workspace) -> None:
    run = a_run(owner=workspace.owner)
    workspace.store.put(run)
    workspace.log(run.id, 0, {"m": 1.0})
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            workspace.log(run.id, 1, {"m": 2.0})
            workspace.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    workspace.log(run.id, 2, {"m": 3.0})
    workspace.flush()
    assert sorted(values_of(workspace.store.points(run.id, "m"))) == [1.0, 2.0, 3.0]


def test_the_journal_is_for_its_owner_only(workspace: Workspace) -> None:
    assert workspace.owner
    modes = {path.suffix: stat.S_IMODE(path.stat().st_mode) for path in (workspace.path / "journal").iterdir()}
    assert modes == {".nbj": 0o600, ".cell": 0o600}


def test_a_run_deleted_meanwhile_does_not_stop_recovery(workspace: Workspace) -> None:
    from nbops.store.recovery import _close

    run = a_run()
    workspace.store.put(run)
    workspace.store.delete(Run, run.id)
    assert _close(workspace.store, run.id, 0.0) is None
    with pytest.raises(NotFound):
        workspace.store.get(Run, run.id)
