"""How long `nb.drift` takes against a stored profile, and how often it is wrong: false alarms and what it misses."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import pytest

GROUP = "Drift"
ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys, tempfile, time

import numpy as np
import pandas as pd

import nbops as nb
from nbops.data.profiling import profile_frame
from nbops.data.frames import read

nb.init(tempfile.mkdtemp())
rows, columns = int(sys.argv[1]), int(sys.argv[2])
random = np.random.default_rng(0)
make = lambda: pd.DataFrame(random.normal(size=(columns, rows)).T, columns=[f"c{i}" for i in range(columns)])
profile = profile_frame(read(make()))  # what a snapshot keeps
current = make()
for _ in range(5):
    begin = time.perf_counter()
    assert nb.drift(profile, current).passed
    print(time.perf_counter() - begin)
if len(sys.argv) > 3:
    from evidently import Report
    from evidently.presets import DataDriftPreset

    reference = make()
    begin = time.perf_counter()
    Report([DataDriftPreset()]).run(current, reference)
    print(time.perf_counter() - begin)
"""


def _seconds(*arguments: object) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return [float(line) for line in done.stdout.split()]


@pytest.mark.parametrize(("rows", "columns", "goal"), [(1_000_000, 50, "≤ 1.2 s"), (10_000, 50, "≤ 0.05 s")])
def test_drift_against_a_stored_profile(rows: int, columns: int, goal: str, bench: Any) -> None:
    peers: dict[str, float] = {}
    if find_spec("evidently"):
        *found, peers["Evidently, from both tables"] = _seconds(rows, columns, "evidently")
    else:
        found = _seconds(rows, columns)
    bench.row(GROUP, f"{rows:,} rows × {columns} columns against a stored profile", ours=median(found), unit="s",
              peers=peers, goal=goal)  # fmt: skip


@pytest.mark.parametrize("rows", [200, 1000, 10_000])
def test_false_alarms_over_a_thousand_splits(rows: int, bench: Any) -> None:
    sys.path.insert(0, str(ROOT))
    from tests.data.drifting.test_calibration import false_alarms

    alarms = false_alarms(1000, rows, rows)
    assert alarms <= 10
    peers = {"each column at p < 0.05, by formula": 100 * (1 - 0.95**50)}
    bench.row(GROUP, f"splits of stable data into halves of {rows:,} rows × 50 columns with any alarm",
              ours=alarms / 10, unit="%", peers=peers, goal="≤ 1 %")  # fmt: skip
