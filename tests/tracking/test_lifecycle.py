"""How runs go on: resumed, attached to, side by side in threads, tasks and generators; and that none stays open."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

import nbops as nb
from nbops.core.errors import Conflict, InvalidInput, NotFound
from nbops.core.records import Run, RunStatus, replace
from nbops.store.context import CellRef, current_run, set_cell
from nbops.store.workspace import Workspace
from nbops.tracking import attached, runs

pytestmark = pytest.mark.usefixtures("workspace")


def statuses(*names: str) -> list[str]:
    return [nb.find("runs", f"name == '{name}'")[0].status for name in names]


def execute(*bodies: Callable[[], object], cell: str = "cell-a") -> None:
    """Run each body as one execution of the same cell; an error ends the execution, not the test."""
    for body in bodies:
        set_cell(CellRef(cell))
        with contextlib.suppress(ZeroDivisionError):
            body()
        set_cell(None)


# ---- resuming --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ended", ["FINISHED", "FAILED", "INTERRUPTED", "SUPERSEDED"])
def test_any_ended_run_goes_on_where_it_stopped(ended: str) -> None:
    run = nb.run("train", params={"lr": 0.1})
    run.log(loss=3.0)
    run.log(loss=2.0)
    run.log(step=10, acc=0.5)
    run.finish(ended, error=ValueError("no") if ended == "FAILED" else None)
    with nb.run(resume=run.id, params={"epochs": 2}, tags={"try": "2"}) as again:
        nb.log(loss=1.0)
        nb.log(acc=0.6)
        assert again.status == "RUNNING"
    record = again.record
    assert (record.id, record.name, record.status, record.error) == (run.id, "train", "FINISHED", None)
    assert (record.params, record.tags) == ({"lr": 0.1, "epochs": 2}, {"try": "2"})
    assert nb.series(run, "loss").steps.tolist() == [0, 1, 2]
    assert nb.series(run, "acc").steps.tolist() == [10, 11]
    assert len(record.resumes) == 1
    (past,) = record.context["interruptions"]
    assert (past["status"], past.get("message")) == (ended, "no" if ended == "FAILED" else None)
    assert [e.kind for e in nb.workspace().store.events(subject=run.id)].count("run.resumed") == 1


def test_a_run_is_resumed_by_record_handle_or_name() -> None:
    with nb.run("again") as run:
        pass
    for ref in (run, run.record, "again", run.id):
        with nb.run(resume=ref) as resumed:
            assert resumed.id == run.id
    assert len(run.record.resumes) == 4
    assert nb.find("runs").total == 1


def test_start_resumes_too_and_again_when_its_cell_runs_again() -> None:
    with nb.run("long") as run:
        nb.log_series("loss", None, [9.0, 8.0, 7.0, 6.0])

    def cell() -> None:
        nb.start(resume=run.id)
        nb.log(step=2, loss=1.0)

    execute(cell, cell, cell)
    nb.end()
    assert nb.series(run, "loss").values.tolist() == [9.0, 8.0, 1.0]
    assert nb.series(run, "loss", segments="all").values.tolist() == [9.0, 8.0, 7.0, 6.0, 1.0, 1.0, 1.0]
    assert (run.record.status, len(run.record.resumes)) == ("FINISHED", 3)


def test_a_new_segment_replaces_what_it_repeats_and_nothing_else() -> None:
    with nb.run("r") as run:
        nb.log_series("loss", range(0, 100), [1.0] * 100)
        nb.log_series("other", range(0, 100), [1.0] * 100)
    with nb.run(resume=run) as run:
        nb.log_series("loss", range(50, 70), [2.0] * 20)
    newest, everything = nb.series(run, "loss"), nb.series(run, "loss", segments="all")
    assert newest.values.tolist() == [1.0] * 50 + [2.0] * 20
    assert newest.steps.tolist() == list(range(70))
    assert len(everything) == 120
    assert len(nb.series(run, "other")) == 100
    with pytest.raises(InvalidInput, match=r"segments cannot be 'both'\nUse 'newest'"):
        nb.series(run, "loss", segments="both")  # type: ignore[arg-type]


def test_an_open_run_is_not_resumed_but_attached_to() -> None:
    with nb.run("open") as run:
        with pytest.raises(Conflict, match=r"cannot resume: run 'open' is still open in .*\nLog into it with nb\.run"):
            nb.run(resume=run.id)
        assert run.record.status == "RUNNING"
    with pytest.raises(NotFound, match="no run 'opne'"):
        nb.run(resume="opne")
    with pytest.raises(InvalidInput, match="a int is no run"):
        nb.run(resume=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("more", [{"attach": "b"}, {"name": "new"}, {"type": "trial"}, {"parent": "run_x"}])
def test_a_resumed_run_keeps_its_name_and_kind(more: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="keeps its name, parent and type"):
        nb.run(resume="a", **more)  # type: ignore[arg-type]


def test_a_run_of_a_dead_process_is_resumed_without_waiting() -> None:
    code = """
        import os, nbops as nb
        run = nb.start("dead")
        nb.log(loss=1.0)
        os.kill(os.getpid(), 9)
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    with nb.run(resume="dead") as run:
        nb.log(loss=0.5)
    assert nb.series(run, "loss").values.tolist() == [1.0, 0.5]
    assert run.record.context["interruptions"][0]["type"] == "ProcessDied"


def test_a_run_resumed_elsewhere_is_not_ended_by_its_former_owner(workspace: Workspace) -> None:
    run = nb.run("ours")
    workspace.store.update(Run, run.id, lambda record: replace(record, owner="far-away.1.other"))
    run.finish()
    assert workspace.store.get(Run, run.id).status is RunStatus.RUNNING


# ---- attaching -------------------------------------------------------------------------------------------------------

JOINING = """
    import nbops as nb
    with nb.run({how}, params={{"rank": 1}}, tags={{"b": "c"}}) as run:
        nb.log(loss=1.0)
        nb.log_series("other", None, [5.0, 6.0])
        nb.log_artifact({{"x": 1}}, name="config")
    """


def join(how: str) -> subprocess.CompletedProcess[str]:
    code = textwrap.dedent(JOINING).format(how=how)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("by_variable", [False, True])
def test_another_process_logs_into_an_open_run(by_variable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with nb.run("shared") as run:
        nb.log(loss=2.0)
        nb.workspace().flush()
        with monkeypatch.context() as patch:
            if by_variable:
                patch.setenv(runs.RUN_VARIABLE, run.id)
            done = join("'ignored'" if by_variable else f"attach='{run.id}'")
        assert done.returncode == 0, done.stderr
        nb.log(loss=3.0)
        assert run.record.status == "RUNNING"
    record = run.record
    assert (record.status, record.params, record.tags) == ("FINISHED", {"rank": 1}, {"b": "c"})
    assert sorted(nb.series(run, "loss").values.tolist()) == [1.0, 2.0, 3.0]
    assert nb.series(run, "other").values.tolist() == [5.0, 6.0]
    assert nb.find("artifacts", f"parent == '{run.id}'").total == 1
    assert nb.find("runs").total == 1


def test_the_death_of_one_that_attached_does_not_end_the_run() -> None:
    with nb.run("shared") as run:
        code = f"import os, nbops as nb; nb.start(attach='{run.id}'); nb.log(loss=1.0); os.kill(os.getpid(), 9)"
        subprocess.run([sys.executable, "-c", code], check=False)
        assert nb.workspace().recover() == []
        assert run.record.status == "RUNNING"
    assert run.record.metrics == {"loss": 1.0}


def test_an_ended_run_cannot_be_attached_to() -> None:
    with nb.run("over") as run:
        pass
    with pytest.raises(Conflict, match=rf"cannot attach: run 'over' is FINISHED\nOpen it again .*resume='{run.id}'"):
        nb.run(attach="over")
    done = join(f"attach='{run.id}'")
    assert "cannot attach: run 'over' is FINISHED" in done.stderr


def test_who_attached_is_told_that_the_run_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attached, "LOOK_S", 0.0)
    owner = nb.run("owned")
    guest = nb.run(attach=owner)
    guest.log(loss=1.0)
    owner.finish()
    with pytest.raises(Conflict, match="cannot log: run 'owned' is FINISHED"):
        guest.log(loss=2.0)
    with pytest.raises(Conflict, match="is FINISHED"):
        guest.log_series("loss", None, [2.0])
    guest.finish()
    assert owner.record.metrics == {"loss": 1.0}


def test_a_database_out_of_reach_does_not_stop_who_attached(
    monkeypatch: pytest.MonkeyPatch, workspace: Workspace
) -> None:
    monkeypatch.setattr(attached, "LOOK_S", 0.0)
    owner = nb.run("owned")
    guest = nb.run(attach=owner)
    database = workspace.path / "nbops.db"
    away = database.with_suffix(".away")
    workspace.store.engine.dispose()
    database.rename(away)
    database.mkdir()
    guest.log(loss=1.0)
    database.rmdir()
    away.rename(database)
    guest.finish()
    assert owner.record.metrics == {"loss": 1.0}


def test_one_leaves_once_and_may_come_back() -> None:
    with nb.run("owned") as owner:
        guest = nb.run(attach=owner)
        with guest:
            nb.log(loss=1.0)
        guest.finish()
        for call in (lambda: guest.log(loss=2.0), guest.__enter__):
            with pytest.raises(Conflict, match=r"you have left run 'owned'\nAttach again"):
                call()
        assert "left" in repr(guest)
        with nb.run(attach=owner):
            nb.log(loss=2.0)
        nb.log(loss=3.0)
    assert owner.record.summary["loss"].count == 3


def test_start_attaches_until_end() -> None:
    with nb.run("owned") as owner:
        pass
    resumed = nb.run(resume=owner)
    nb.start(attach=resumed)
    nb.log(x=1.0)
    assert nb.end().status is RunStatus.RUNNING
    resumed.finish()
    assert owner.record.metrics == {"x": 1.0}


def test_inside_a_run_the_variable_names_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    with nb.run("outer") as outer:
        monkeypatch.setenv(runs.RUN_VARIABLE, outer.id)
        with nb.run("inner") as inner:
            assert inner.id != outer.id
    assert inner.record.parent == outer.id


# ---- side by side ----------------------------------------------------------------------------------------------------


def only(name: str) -> list[float]:
    """Return the values of the run, which are all its own."""
    return sorted(set(nb.series(name, "mine").values.tolist()))


def test_tasks_do_not_mix_their_runs() -> None:
    async def work(number: int) -> None:
        with nb.run(f"task-{number}"):
            for _ in range(20):
                nb.log(mine=float(number))
                await asyncio.sleep(0)
                assert current_run() is not None

    async def cell() -> None:
        with nb.run("outer"):
            await asyncio.gather(*(work(i) for i in range(5)))
            nb.log(mine=-1.0)

    asyncio.run(cell())
    assert [only(f"task-{i}") for i in range(5)] == [[float(i)] for i in range(5)]
    assert only("outer") == [-1.0]
    assert nb.find("runs", "name == 'task-3'")[0].parent == nb.find("runs", "name == 'outer'")[0].id


def test_a_task_that_outlives_its_block_falls_back_to_the_outer_run() -> None:
    async def late(event: asyncio.Event) -> None:
        await event.wait()
        nb.log(late=1.0)

    async def cell() -> None:
        event = asyncio.Event()
        with nb.run("outer") as outer:
            with nb.run("inner"):
                task = asyncio.create_task(late(event))
                await asyncio.sleep(0)
            event.set()
            await task
        assert outer.record.metrics == {"late": 1.0}

    asyncio.run(cell())


def test_a_cancelled_task_is_interrupted() -> None:
    async def work() -> None:
        with nb.run("cancelled"):
            await asyncio.sleep(60)

    async def cell() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cell())
    assert statuses("cancelled") == ["INTERRUPTED"]


def steps(name: str, value: float) -> Iterator[float]:
    with nb.run(name):
        for _ in range(3):
            nb.log(mine=value)
            yield value


def test_generators_do_not_mix_their_runs() -> None:
    with nb.run("outer"):
        for _, _ in zip(steps("g1", 1.0), steps("g2", 2.0), strict=True):
            nb.log(mine=0.0)
    assert (only("g1"), only("g2"), only("outer")) == ([1.0], [2.0], [0.0])
    assert statuses("g1", "g2", "outer") == ["FINISHED"] * 3
    assert current_run() is None


def test_generators_that_end_in_another_order_leave_nothing_open() -> None:
    first, second = steps("g1", 1.0), steps("g2", 2.0)
    next(first)
    next(second)
    first.close()
    next(second)
    assert only("g2") == [2.0]
    del second
    gc.collect()
    assert current_run() is None
    assert statuses("g1", "g2") == ["FINISHED", "FINISHED"]
    with pytest.raises(NotFound, match="no run is open"):
        nb.log(mine=1.0)


def test_async_generators_do_not_mix_their_runs() -> None:
    async def values(name: str, value: float) -> AsyncIterator[float]:
        with nb.run(name):
            for _ in range(3):
                await asyncio.sleep(0)
                nb.log(mine=value)
                yield value

    async def cell() -> None:
        with nb.run("outer"):
            async for _ in values("a1", 1.0):
                async for _ in values("a2", 2.0):
                    nb.log(mine=0.0)

    asyncio.run(cell())
    assert (only("a1"), only("a2"), only("outer")) == ([1.0], [2.0], [0.0])


def test_a_context_manager_made_of_a_generator_holds_its_run_for_the_block() -> None:
    @contextlib.contextmanager
    def training(name: str) -> Iterator[Run]:
        with nb.run(name) as run:
            yield run.record

    def sweep() -> Iterator[str]:
        with training("of-generator"):
            nb.log(mine=3.0)
            yield ""

    with nb.run("outer"), contextlib.ExitStack() as stack:
        with training("inner"):
            nb.log(mine=1.0)
        stack.enter_context(training("stacked"))
        nb.log(mine=2.0)
        for _ in sweep():
            nb.log(mine=2.0)
    assert (only("inner"), only("stacked"), only("of-generator")) == ([1.0], [2.0], [3.0])
    assert nb.find("runs", "name == 'outer'")[0].metrics == {}


def test_a_started_run_reaches_every_thread_and_a_block_only_its_own() -> None:
    nb.start("everywhere")
    inside = threading.Event()

    def other() -> None:
        inside.wait(10)
        nb.log(mine=1.0)

    thread = threading.Thread(target=other)
    thread.start()
    with nb.run("block"):
        inside.set()
        nb.log(mine=2.0)
        thread.join()
    nb.end()
    assert (only("everywhere"), only("block")) == ([1.0], [2.0])


# ---- nothing stays open ----------------------------------------------------------------------------------------------


def _start() -> None:
    nb.start("r")


def _start_and_fail() -> None:
    nb.start("r")
    _ = 1 / 0


def _by_hand() -> None:
    nb.run("r").log(x=1.0)


def _by_hand_thrice() -> None:
    for _ in range(3):
        nb.run("r").log(x=1.0)


def _block_that_fails() -> None:
    with nb.run("r"):
        _ = 1 / 0


def _start_in_a_loop() -> None:
    for _ in range(2):
        nb.start("r")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([_start], ["RUNNING"]),
        ([_start, _start], ["SUPERSEDED", "RUNNING"]),
        ([_start_and_fail, _start], ["SUPERSEDED", "RUNNING"]),
        ([_start_and_fail, _start_and_fail, _start], ["SUPERSEDED", "SUPERSEDED", "RUNNING"]),
        ([_start, nb.end, _start], ["FINISHED", "RUNNING"]),
        ([_start_in_a_loop, _start], ["FINISHED", "SUPERSEDED", "RUNNING"]),
        ([_by_hand, _by_hand], ["SUPERSEDED", "RUNNING"]),
        ([_by_hand_thrice, _by_hand], ["SUPERSEDED"] * 3 + ["RUNNING"]),
        ([_block_that_fails, _block_that_fails], ["FAILED", "FAILED"]),
        ([_block_that_fails, _start, _block_that_fails], ["FAILED", "RUNNING", "FAILED"]),
    ],
)
def test_running_a_cell_again_is_normal(cells: list[Callable[[], object]], expected: list[str]) -> None:
    execute(*cells)
    assert [run.status for run in nb.find("runs", order_by="created_at")] == expected
    assert len(runs.open_runs()) == expected.count("RUNNING")


def test_another_cell_leaves_runs_opened_by_hand_alone() -> None:
    execute(_by_hand)
    execute(_by_hand, _start, cell="cell-b")
    assert [run.status for run in nb.find("runs", order_by="created_at")] == ["RUNNING", "SUPERSEDED", "RUNNING"]


def test_a_forked_child_does_not_end_its_parents_run() -> None:
    import os

    pid = 0
    with contextlib.suppress(SystemExit), nb.run("parent") as run:
        pid = os.fork()
        if pid == 0:
            sys.exit(0)
    if pid == 0:
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finished = [event for event in nb.workspace().store.events(subject=run.id) if event.kind == "run.finished"]
    assert len(finished) == 1


def test_an_interrupted_script_says_so() -> None:
    code = "import nbops as nb; nb.start('script'); raise KeyboardInterrupt"
    subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL, check=False)
    run = nb.find("runs")[0]
    assert (run.status, run.error.type) == ("INTERRUPTED", "KeyboardInterrupt")


def test_a_resumption_is_later_than_every_point_before_it() -> None:
    with nb.run("quick") as run:
        nb.log(loss=1.0)
    for value in (2.0, 3.0):
        with nb.run(resume=run):
            nb.log(step=0, loss=value)
    assert nb.series(run, "loss").values.tolist() == [3.0]
    assert max(run.record.resumes) <= time.time()
