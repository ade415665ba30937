"""How near `nb.memory` comes to the real allocator: twelve models, three optimizers, three kinds of precision."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

GROUP = "Debugging"
ROOT = Path(__file__).parents[2]

PROGRAM = """
import json, sys

import torch

torch.set_num_threads(1)  # scratch space of some operations grows with the number of threads
from tests.debugging.memory.test_memory import error_of

print(json.dumps(error_of(*sys.argv[1:4])))
"""


def test_estimate_against_the_real_peak(bench: Any) -> None:
    sys.path.insert(0, str(ROOT))
    from tests.debugging.memory.models import MODELS, OPTIMIZERS
    from tests.debugging.memory.test_memory import HOWS, can_run

    errors = []
    cases = [one for one in product(MODELS, OPTIMIZERS, HOWS) if can_run(one[0], one[2])]
    for combination in cases:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *combination], capture_output=True, text=True, check=True, cwd=ROOT
        )
        errors.append(abs(json.loads(done.stdout.splitlines()[-1])))
    assert len(errors) == len(cases) >= 105
    bench.row(GROUP, f"memory of a training step, estimate against the real CPU peak: median of {len(cases)} cases",
              ours=100 * median(errors), unit="%", peers={}, goal="≤ 1 %")  # fmt: skip
    bench.row(GROUP, f"the same: worst of {len(cases)} cases", ours=100 * max(errors), unit="%", peers={}, goal="≤ 2 %")
