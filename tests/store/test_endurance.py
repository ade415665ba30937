"""What must hold however often it is tried: kills at any moment, many writers, odd names, odd clocks, huge files."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import nbops as nb
from nbops.core.errors import InvalidInput
from nbops.core.query import parse
from nbops.core.records import Artifact, Run, RunStatus
from nbops.store.inspection import check_workspace
from nbops.store.workspace import Workspace, init

# ---- killed at any moment --------------------------------------------------------------------------------------------

# A warm parent forks one worker after the other and kills each after a random while. A worker writes one letter for
# each call that returned.
KILLING = """
    import os, random, select, signal, sys, time
    import nbops as nb
    from nbops.store.workspace import init
    from nbops.tracking.capture.background import drain

    path, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    chance = random.Random(seed)
    init(path)
    with nb.run("warm"):
        nb.log(loss=0.0)
        nb.log_artifact(b"warm", name="warm")
    drain()
    nb.workspace().close()

    def work(out, number):
        init(path)
        run = nb.start(f"worker-{number}", params={"number": number})
        os.write(out, b"R" + run.id.encode())
        for turn in range(1000):
            for _ in range(turn % 7 * 10):
                nb.log(loss=0.5 * turn)
                os.write(out, b".")
            nb.log_params(**{f"p{turn}": turn})
            os.write(out, b"P")
            if turn % 3 == 0:
                run.set_tags(turn=str(turn))
                os.write(out, b"T")
            if turn % 5 == 1:
                nb.log_artifact(f"{number} {turn}".encode(), name=f"f{turn}")
                os.write(out, b"A")
            if turn == 20 and number % 4 == 0:
                nb.end()
                os.write(out, b"F")
                os._exit(0)

    for number in range(count):
        here, there = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(here)
            try:
                work(there, number)
            finally:
                os._exit(1)
        os.close(there)
        said = b"" if number % 10 == 0 else os.read(here, 65536)  # most are killed after their run began
        time.sleep(chance.uniform(0.0, 0.05) if number % 10 == 0 else chance.uniform(0.0, 0.025))
        os.kill(pid, signal.SIGKILL)
        while block := os.read(here, 65536):
            said += block
        os.close(here)
        os.waitpid(pid, 0)
        print(said.decode(), flush=True)
    """


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_thousand_kills_lose_nothing_that_returned(tmp_path: Path) -> None:
    path = init(tmp_path).path
    nb.workspace().close()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLING), path, "1000", "7"],
        capture_output=True, text=True, timeout=580, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    ws = init(tmp_path)  # folds what is left of the dead
    told = [line for line in done.stdout.splitlines() if line]
    assert len(told) > 500, "most workers were killed before their run began: let them live longer"
    points = 0
    for line in told:
        id, calls = line[1:31], line[31:]
        points += _assert_kept(ws, ws.store.get(Run, id), calls)
    assert points > 10_000
    assert ws.store.count(Run) >= len(told)
    assert not ws.store.find(Run, parse("status == 'RUNNING'"))
    assert check_workspace(ws).is_well
    assert sum(file.stat().st_size for file in (path / "journal").glob("*.nbj")) == 0  # all folded; some just born
    ws.close()


def _assert_kept(ws: Workspace, run: Run, calls: str) -> int:
    """Everything whose call returned is there; of the one that was killed, all or nothing."""
    expected = [0.5 * turn for turn in range(1000) for _ in range(turn % 7 * 10)]
    count = run.summary["loss"].count if "loss" in run.summary else 0
    assert calls.count(".") <= count <= calls.count(".") + 1, run
    if count:
        assert nb.series(run, "loss").values.tolist() == expected[:count]
    assert calls.count("P") + 1 <= len(run.params) <= calls.count("P") + 2
    assert list(run.params.values()) == [run.params["number"], *range(len(run.params) - 1)]
    if tags := calls.count("T"):
        assert int(run.tags["turn"]) >= 3 * (tags - 1)
    files = ws.store.find(Artifact, parse(f"parent == '{run.id}'"))
    kept = [file for file in files if file.name.startswith("f")]
    assert calls.count("A") <= len(kept) <= calls.count("A") + 1
    for file in kept:
        assert ws.artifacts.read(file.digest) == f"{run.params['number']} {file.name[1:]}".encode()
    if "F" in calls:
        assert run.status is RunStatus.FINISHED
    else:
        assert run.status in (RunStatus.INTERRUPTED, RunStatus.FINISHED)
    return count


# ---- many writers at once --------------------------------------------------------------------------------------------

CROWD = """
    import os, sys
    from pathlib import Path
    import nbops as nb
    import nbops.models.registering, nbops.models.runtimes  # once, for all

    rows = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    ready, go = os.pipe()
    children = []
    for number in range(32):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(go)
                os.read(ready, 1)  # all begin when the pipe is closed
                nb.init(sys.argv[1])
                with nb.run(f"p{number}", params={"number": number}):
                    for step in range(1000):
                        nb.log(step, value=number * 1000.0 + step)
                    versions = [nb.register(Path(sys.argv[2]), "crowd", example=rows).number for _ in range(2)]
                    nb.log_params(versions=versions)
                nb.workspace().close()
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    os.close(ready)
    os.close(go)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    sys.exit(max(codes))
    """


@pytest.mark.slow
def test_32_processes_lose_no_point_and_64_registrations_get_contiguous_versions(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(_linear())
    init(tmp_path).close()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CROWD), tmp_path, model],
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    ws = init(tmp_path)
    runs = nb.find("runs", "status == 'FINISHED'")
    assert sorted(run.params["number"] for run in runs) == list(range(32))
    for run in runs:
        first = run.params["number"] * 1000.0
        assert nb.series(run, "value").values.tolist() == [first + step for step in range(1000)]
    assert sorted(number for run in runs for number in run.params["versions"]) == list(range(1, 65))
    assert [version.number for version in nb.find("models", order_by="number")] == list(range(1, 65))
    assert check_workspace(ws).is_well
    ws.close()


def _linear() -> bytes:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.ones((3, 2), np.float32), "w")],
    )  # fmt: skip
    opset = [helper.make_opsetid("", 18)]
    made: bytes = helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    return made


# ---- names -----------------------------------------------------------------------------------------------------------

ODD = [
    "größe/π",
    "a/b/c",
    "with space",
    "名前",
    "🙂" * 125,
    "x" * 250,
    "quote'\"`",
    "percent%_like",
    "a\tb\nc",
    "..",
    "-",
]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_come_back_as_they_went_in(workspace: Workspace, name: str) -> None:
    with nb.run(name, params={name: name}, tags={name: name}) as run:
        nb.log(**{name: 0.5})
        nb.log_artifact(b"data", name=name)
    (found,) = nb.find("runs", f"metrics[{name!r}] == 0.5 and params[{name!r}] == {name!r} and name == {name!r}")
    assert (found.id, found.params, found.tags) == (run.id, {name: name}, {name: name})
    assert nb.series(name, name).values.tolist() == [0.5]
    (file,) = nb.find("artifacts", f"parent == {run.id!r}")
    assert file.name == name
    assert name[:20].split()[0] in str(found) or not name[:20].split()[0].isprintable()


@pytest.mark.parametrize("name", ["", " ", "x" * 251])
def test_names_that_cannot_be_are_refused_with_the_remedy(workspace: Workspace, name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be named") as caught:
        nb.run(name)
    assert "Use 1 to 250 characters" in str(caught.value)
    assert nb.find("runs").total == 0


# ---- a clock that is set back ----------------------------------------------------------------------------------------


class Clock:
    """Stands in for the system's clock: it can be set."""

    def __init__(self) -> None:
        self.offset_s = 0.0
        self._time, self._time_ns = time.time, time.time_ns

    def time(self) -> float:
        return self._time() + self.offset_s

    def time_ns(self) -> int:
        return self._time_ns() + int(self.offset_s * 1e9)


def test_a_clock_that_is_set_back_changes_no_order_and_no_duration(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock.time)
    monkeypatch.setattr(time, "time_ns", clock.time_ns)
    with nb.run("first") as run:
        for step in range(5):
            nb.log(step, loss=float(step))
        clock.offset_s = -7200.0
        for step in range(5, 10):
            nb.log(step, loss=float(step))
    record = run.record
    assert record.duration_s is not None
    assert 0 <= record.duration_s < 60
    times = nb.series(run, "loss").times_ms
    assert (times[1:] >= times[:-1]).all()
    clock.offset_s = -9000.0
    with nb.run(resume=run.id):  # goes back to step 5
        for step in range(5, 8):
            nb.log(step, loss=100.0 + step)
    assert nb.series(run, "loss").values.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 105.0, 106.0, 107.0]
    assert len(nb.series(run, "loss", segments="all")) == 13
    assert (run.record.duration_s or 0) >= 0
    clock.offset_s = 3600.0
    with nb.run("second") as later:
        nb.log(loss=1.0)
    assert (later.record.duration_s or 0) < 60
    assert check_workspace(workspace).is_well


def test_ids_grow_although_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from nbops.core.ids import new_id

    clock = Clock()
    monkeypatch.setattr(time, "time_ns", clock.time_ns)
    ids = [new_id("run")]
    clock.offset_s = -86_400.0
    ids += [new_id("run") for _ in range(3)]
    assert ids == sorted(set(ids))


# ---- a huge file -----------------------------------------------------------------------------------------------------

HUGE = """
    import json, resource, sys
    from pathlib import Path
    import nbops as nb
    nb.init(sys.argv[1])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with nb.run("huge"):
        file = nb.log_artifact(Path(sys.argv[2]))
    ws = nb.workspace()
    size = 0
    with ws.artifacts.open(file.digest) as stream:
        while block := stream.read(1 << 20):
            size += len(block)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"digest": file.digest, "size": file.size_bytes, "read": size, "grown_kb": grown}))
    """


@pytest.mark.slow
def test_a_file_of_more_than_two_gigabytes_goes_in_and_out_in_little_memory(tmp_path: Path) -> None:
    size = (2 << 30) + 7
    source = tmp_path / "huge.bin"
    with source.open("wb") as stream:  # sparse: only the copy takes room
        stream.truncate(size)
        stream.write(b"begin")
        stream.seek(size - 3)
        stream.write(b"end")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(HUGE), tmp_path / "w", source],
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    with source.open("rb") as stream:
        assert told["digest"] == hashlib.file_digest(stream, "sha256").hexdigest()
    assert (told["size"], told["read"]) == (size, size)
    assert told["grown_kb"] < 100_000
    for path in (tmp_path / "w").rglob("*"):
        if path.is_file():
            path.unlink()
