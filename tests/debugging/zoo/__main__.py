"""``python -m tests.debugging.zoo``: verify the programs, or judge a doctor by them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
sys.path[0] = str(Path(__file__).resolve().parents[1])

from zoo.harness import main  # noqa: E402 - after the path and the threads are set

if __name__ == "__main__":
    sys.exit(main())
