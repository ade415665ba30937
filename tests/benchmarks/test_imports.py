"""How long ``import nbops`` and ``%load_ext nbops`` take in a fresh interpreter, beside ``import mlflow``."""

from __future__ import annotations

import statistics
import subprocess
import sys
from typing import Any

import pytest

GROUP = "Start"
ROUNDS = 11

PROGRAM = """
import time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
begin = time.perf_counter()
import {library}
imported = time.perf_counter()
shell.run_line_magic("load_ext", "{extension}")
print((imported - begin) * 1000, (time.perf_counter() - imported) * 1000)
"""


def start_times_ms(library: str, *, extension: str, rounds: int = ROUNDS) -> tuple[float, float]:
    """Return the medians of importing `library`, and of loading `extension` after it, in milliseconds."""
    program = PROGRAM.format(library=library, extension=extension)
    found = []
    for _ in range(rounds):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        found.append([float(part) for part in done.stdout.split()[-2:]])
    imports, loads = zip(*found, strict=True)
    return statistics.median(imports), statistics.median(loads)


def test_start(bench: Any) -> None:
    mlflow = pytest.importorskip("mlflow")
    imported, loaded = start_times_ms("nbops", extension="nbops")
    peer, _ = start_times_ms("mlflow", extension="autoreload", rounds=3)
    peers = {f"import mlflow {mlflow.__version__}": peer}
    bench.row(GROUP, "`import nbops`", ours=imported, unit="ms", peers=peers, goal="≤ 150 ms")
    bench.row(GROUP, "`%load_ext nbops`, more", ours=loaded, unit="ms", peers={}, goal="≤ 60 ms")
