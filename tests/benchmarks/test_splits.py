"""Splits, leaks and streams: how fast a hash decides, what is found of planted faults, and what is not there."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nbops as nb
from nbops.data.streams import Adwin, Ddm, PageHinkley
from nbops.store.workspace import Workspace, init

GROUP = "Splits, leaks and streams"
ROWS = 10_000_000
CHUNK, CHUNKS = 200, 50  # of a stream
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    ws = init(tmp_path)
    yield ws
    ws.close()


def seconds(call: Callable[[], object], times: int = 3) -> float:
    """Return the median time of a call, after one to warm up."""
    took = []
    for _ in range(times + 1):
        begin = time.perf_counter()
        call()
        took.append(time.perf_counter() - begin)
    return statistics.median(took[1:])


def test_a_hash_split_of_ten_million_rows(bench: Any) -> None:
    from sklearn.model_selection import train_test_split

    from nbops.data.columns import Column
    from nbops.data.splits.identity import identities, salted
    from nbops.data.splits.sides import by_hash

    keys = np.random.default_rng(0).permutation(ROWS)

    def sides() -> object:
        return by_hash(salted(identities([Column("id", "int64", keys)], ROWS), ""), salt="", test=0.2, val=0.1)

    codes = np.asarray(sides())
    shares = {side: float(np.mean(codes == side)) for side in np.unique(codes)}
    assert sorted(round(share, 2) for share in shares.values()) == [0.1, 0.2, 0.7]
    few = by_hash(salted(identities([Column("id", "int64", keys[:1000])], 1000), ""), salt="", test=0.2, val=0.1)
    assert (few == codes[:1000]).all()  # no row moves when others are added
    peers = {"scikit-learn train_test_split, which moves rows": seconds(lambda: train_test_split(keys, test_size=0.2))}
    bench.row(GROUP, "sides of 10,000,000 rows by the hash of their key", ours=seconds(sides), unit="s", peers=peers,
              goal="≤ 0.5 s on 2 cores")  # fmt: skip
    whole = seconds(lambda: nb.split({"id": keys}, key="id", test=0.2, val=0.1, name="ten"), 1)
    bench.row(GROUP, "the same by nb.split: proof, digests and record included", ours=whole, unit="s", peers={})


def test_planted_leaks(bench: Any) -> None:
    sys.path.insert(0, str(ROOT))
    from tests.data.test_leaks import _benchmark

    found, planted, false = _benchmark(10)
    assert len(false) <= 0.02 * 50, false
    assert sum(found.values()) >= 0.95 * sum(planted.values())
    share = 100 * sum(found.values()) / sum(planted.values())
    bench.row(GROUP, f"{sum(planted.values())} leaks planted in 50 tables: found", ours=share, unit="%", peers={},
              goal="≥ 95 %", lower_is_better=False)  # fmt: skip
    bench.row(GROUP, "the 50 tables without leaks: with any alarm", ours=100 * len(false) / 50, unit="%", peers={},
              goal="≤ 2 %")  # fmt: skip


def test_a_stream_that_shifts(bench: Any) -> None:
    river = pytest.importorskip("river.drift")
    binary = pytest.importorskip("river.drift.binary")
    pairs = {"ADWIN": (Adwin, river.ADWIN), "Page-Hinkley": (PageHinkley, river.PageHinkley), "DDM": (Ddm, binary.DDM)}
    said = "chunks of 200 from a shift of an error rate (10 to 30 %) at row 5,000 to its alarm"
    for name, (ours, theirs) in pairs.items():
        late, false = _streamed(ours, _own)
        peer_late, peer_false = _streamed(theirs, _river)
        assert ours is Ddm or max(late, false) <= 1
        goal = "≤ 1" if ours is not Ddm else ""  # the method itself is slower, and coarser
        bench.row(GROUP, f"{name}: {said}", ours=late, unit="chunks", peers={"river": peer_late}, goal=goal)
        bench.row(GROUP, f"{name}: alarms in 50 stable chunks", ours=false, unit="", peers={"river": peer_false},
                  goal=goal)  # fmt: skip


def _own(one: Any, x: float) -> bool:
    return bool(one.update(x))


def _river(one: Any, x: float) -> bool:
    one.update(x)
    return bool(one.drift_detected)


def _streamed(make: Callable[[], Any], update: Callable[[Any, float], bool]) -> tuple[float, float]:
    """Return the mean delay in chunks after the shift, and the mean number of alarms without one, over 20 streams."""
    late, false = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        stable = (rng.random(CHUNK * CHUNKS) < 0.1).astype(float)
        one = make()
        false.append(sum(update(one, x) for x in stable.tolist()))
        shifted = np.where(np.arange(len(stable)) < 5_000, rng.random(len(stable)) < 0.1, rng.random(len(stable)) < 0.3)
        one = make()
        alarms = [n for n, x in enumerate(shifted.astype(float).tolist()) if update(one, x)]
        after = next((n for n in alarms if n >= 5_000), len(stable))
        late.append((after - 5_000) // CHUNK)
    return statistics.mean(late), statistics.mean(false)
