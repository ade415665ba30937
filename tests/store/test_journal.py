"""The journal: what is written is read back, bit for bit; bad input and a full disk lose nothing."""

from __future__ import annotations

import math
import struct
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbops.core.errors import InvalidInput
from nbops.store.folding import Folder
from nbops.store.journal import Journal
from nbops.store.memory import MemoryStore
from nbops.store.scanning import Scan
from nbops.testing import values_of


def scanned(journal: Journal) -> dict[tuple[str, str], tuple[list[int], list[float]]]:
    scan = Scan()
    scan.read(journal.path.read_bytes(), verify=True)
    return {(run, metric): (c.steps.tolist(), c.values.tolist()) for run, metric, c in scan.columns()}


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    made = Journal(tmp_path)
    yield made
    made.close(remove=False)


def test_steps_count_up_per_metric_when_absent(journal: Journal) -> None:
    journal.log("r", None, {"a": 1.0})
    journal.log("r", None, {"a": 2.0, "b": 3.0})
    journal.log("r", 10, {"a": 4.0})
    journal.log("r", None, {"a": 5.0, "b": 6.0})
    assert scanned(journal) == {
        ("r", "a"): ([0, 1, 10, 11], [1.0, 2.0, 4.0, 5.0]),
        ("r", "b"): ([0, 1], [3.0, 6.0]),
    }


def test_values_are_bit_exact(journal: Journal) -> None:
    odd = [math.inf, -math.inf, -0.0, 5e-324, struct.unpack("<d", b"\x01\0\0\0\0\0\xf8\x7f")[0]]
    for value in odd:
        journal.log("r", None, {"m": value})
    scan = Scan()
    scan.read(journal.path.read_bytes(), verify=True)
    ((_, _, columns),) = scan.columns()
    assert columns.values.tobytes() == struct.pack("<5d", *odd)


def test_scalars_of_libraries_are_numbers(journal: Journal) -> None:
    import numpy as np
    import torch

    journal.log("r", None, {"m": torch.tensor(1.5)})
    journal.log("r", None, {"m": np.float32(2.5)})
    journal.log("r", np.int64(7), {"m": True})
    assert scanned(journal)["r", "m"] == ([0, 1, 7], [1.5, 2.5, 1.0])


@pytest.mark.parametrize(
    ("step", "metrics", "message"),
    [
        (None, {"loss": "high"}, "metric 'loss' got 'high', which is no number"),
        (None, {"loss": None}, "metric 'loss' got None"),
        (1.5, {"loss": 1.0}, "step 1.5 is no 64-bit integer"),
        (1 << 63, {"loss": 1.0}, "is no 64-bit integer"),
        (None, {"": 1.0}, "metric name ''"),
        (None, {"x" * 251: 1.0}, "metric name"),
    ],
)
def test_bad_input_is_named_and_nothing_is_lost(journal: Journal, step: int, metrics: dict, message: str) -> None:
    journal.log("r", None, {"loss": 0.5})
    with pytest.raises(InvalidInput, match=message.replace("(", r"\(")):
        journal.log("r", step, metrics)
    journal.log("r", None, {"loss": 0.25})
    assert scanned(journal)["r", "loss"] == ([0, 1], [0.5, 0.25])


def test_too_many_metrics_in_one_call_are_refused(journal: Journal) -> None:
    with pytest.raises(InvalidInput, match="70000 metrics in one call"):
        journal.log("r", None, {f"m{i}": 0.0 for i in range(70_000)})


FULL_DISK = """
    import resource, signal, sys
    from pathlib import Path
    from nbops.core.errors import StoreUnavailable
    from nbops.store import mapped
    from nbops.store.journal import Journal

    mapped.MAX_WAITING_BYTES = 200_000
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit is an error then, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
    journal, logged = Journal(Path(sys.argv[1])), 0
    try:
        while True:
            journal.log("r", None, {"m": float(logged)})
            logged += 1
    except StoreUnavailable as error:
        print(logged, "|", journal.size, "|", str(error).replace(chr(10), " "), flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(journal.settle())
    journal.log("r", None, {"m": -1.0})  # space again: it goes on
    journal.close(remove=False)
    """


def test_on_a_full_disk_points_wait_in_memory_and_none_is_lost(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(tmp_path)], capture_output=True, text=True, check=True
    )
    first, settled = done.stdout.splitlines()
    logged, size, message = first.split(" | ")
    assert int(size) < 600_000
    assert int(logged) * 44 > int(size) + 150_000  # a point takes 44 bytes: many of them were in memory only
    assert "no room on the disk" in message
    assert "Free some disk space" in message
    assert settled == "True"
    assert done.stderr.count("cannot write to") == 1
    assert done.stderr.count("there is room on the disk again") == 1
    (path,) = tmp_path.glob("*.nbj")
    scan = Scan()
    scan.read(path.read_bytes(), verify=True)
    ((_, _, columns),) = scan.columns()
    assert columns.values.tolist() == [*map(float, range(int(logged))), -1.0]
    assert columns.steps.tolist() == list(range(int(logged) + 1))


def test_space_allocated_ahead_is_the_end_and_no_torn_frame(journal: Journal) -> None:
    journal.log("r", None, {"m": 1.0})
    assert journal.path.stat().st_size > journal.size
    scan = Scan()
    scan.read(journal.path.read_bytes(), verify=True)
    assert (scan.consumed, scan.is_at_end) == (journal.size, True)


calls = st.lists(
    st.one_of(
        st.tuples(st.just("log"), st.dictionaries(st.sampled_from("abc"), st.floats(), min_size=1)),
        st.tuples(st.just("arrays"), st.lists(st.floats(), min_size=1, max_size=30)),
    ),
    max_size=60,
)


@given(calls=calls, cut=st.integers(0, 400))
def test_any_mix_of_calls_is_read_back_and_a_torn_tail_costs_only_itself(
    tmp_path_factory: pytest.TempPathFactory, calls: list, cut: int
) -> None:
    journal = Journal(tmp_path_factory.mktemp("j"))
    expected: dict[str, list[float]] = {}
    for sort, content in calls:
        if sort == "log":
            journal.log("r", None, content)
            for name, value in content.items():
                expected.setdefault(name, []).append(value)
        else:
            packed = struct.pack(f"<{len(content)}d", *content)
            steps = struct.pack(f"<{len(content)}q", *range(len(content)))
            journal.log_arrays("r", "x", steps=steps, times_ms=steps, values=packed)
            expected.setdefault("x", []).extend(content)
    data = journal.path.read_bytes()[: journal.size]
    journal.close(remove=True)
    whole, torn = Scan(), Scan()
    whole.read(data, verify=True)
    assert {m: c.values.tobytes() for _, m, c in whole.columns()} == {
        m: struct.pack(f"<{len(v)}d", *v) for m, v in expected.items()
    }
    torn.read(data[: max(0, len(data) - cut)], verify=True)
    for _, metric, columns in torn.columns():
        assert struct.pack(f"<{len(expected[metric])}d", *expected[metric]).startswith(columns.values.tobytes())


def test_a_flipped_bit_stops_the_scan_before_it(journal: Journal) -> None:
    for i in range(100):
        journal.log("r", None, {"m": float(i)})
    data = bytearray(journal.path.read_bytes()[: journal.size])
    data[-1000] ^= 1
    scan = Scan()
    scan.read(bytes(data), verify=True)
    ((_, _, columns),) = scan.columns()
    assert 0 < len(columns) < 100
    assert columns.values.tolist() == [float(i) for i in range(len(columns))]


def test_threads_lose_and_repeat_nothing(journal: Journal) -> None:
    def work() -> None:
        for _ in range(2_000):
            journal.log("r", None, {"m": 1.0})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scanned(journal)["r", "m"][0] == list(range(8_000))


def test_folding_twice_adds_once_and_rotation_keeps_the_metrics(journal: Journal) -> None:
    store = MemoryStore()
    folder = Folder(journal, store)
    journal.log("r", None, {"m": 1.0})
    folder.fold()
    folder.fold()
    old = journal.path
    assert journal.rotate(journal.size)
    assert not old.exists()
    journal.log("r", None, {"m": 2.0})
    folder.fold()
    points = store.points("r", "m")
    assert values_of(points) == [1.0, 2.0]
    assert struct.unpack("<2q", points.steps) == (0, 1)


def test_rotation_waits_for_what_is_not_folded(journal: Journal) -> None:
    journal.log("r", None, {"m": 1.0})
    assert not journal.rotate(0)
    assert journal.generation == 0
