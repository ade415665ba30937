"""An unmodified client reads whole histories: ``python reading.py RUN METRIC``, run by the client's own Python.

Prints JSON: how many points came, and the digest of timestamps, steps and values in the order in which they came.
"""

from __future__ import annotations

import hashlib
import json
import sys

import numpy as np
from mlflow.tracking import MlflowClient


def main(run: str, metric: str) -> None:
    history = MlflowClient().get_metric_history(run, metric)
    digest = hashlib.sha256()
    for values, dtype in (
        ([one.timestamp for one in history], "<i8"),
        ([one.step for one in history], "<i8"),
        ([one.value for one in history], "<f8"),
    ):
        digest.update(np.array(values, dtype).tobytes())
    print(json.dumps({"count": len(history), "digest": digest.hexdigest()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
