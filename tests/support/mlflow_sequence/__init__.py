"""The requests of the conformance test: every route that is offered, in good order and with every mistake we know.

`scripts/record_mlflow.py` asks MLflow's own server, the test asks ours. Each part follows the one before it, on one
server that was empty.
"""

from __future__ import annotations

from mlflow_sequence import experiments, finding, models, registry, runs
from mlflow_sequence.replaying import Ask

PARTS: dict[str, list[Ask]] = {
    "experiments": experiments.ASKS,
    "runs": runs.ASKS,
    "finding": finding.ASKS,
    "models": models.ASKS,
    "registry": registry.ASKS,
}
