"""Whatever a request holds, the answer is an answer or a refusal; nothing falls over."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from nbops.core.errors import InvalidInput
from nbops.server.mlflow.desk import Desk, desk_of
from nbops.server.mlflow.routes import answer
from nbops.server.mlflow.table import fixed, patterns
from nbops.server.mlflow.wire import Args
from nbops.store.workspace import Workspace

NAMES = [
    "run_id", "experiment_id", "experiment_ids", "name", "new_name", "key", "value", "timestamp", "step", "metrics",
    "params", "tags", "datasets", "models", "filter", "order_by", "max_results", "page_token", "view_type", "stages",
    "run_view_type", "status", "end_time", "start_time", "run_name", "model_json", "metric_key", "run_ids",
    "start_step", "end_step", "path", "version", "source", "stage", "archive_existing_versions", "alias",
    "description", "model_id", "experiment_name", "artifact_location", "user_id",
]  # fmt: skip
ODD: list[Any] = [
    None, "", "x", "0", 0, -1, 1.5, 2**70, True, [], {}, [1], [None], ["x"], [[]], [{}], {"a": 1}, "\x00", "..", "'",
    "metrics.a > ", "a = 'b' AND", "NaN", [{"key": 1}], [{"key": "a", "value": {}}], [{"dataset": 3}], "m-x", "[1]",
    [{"key": "a", "value": 1, "timestamp": "x"}], [{"field_name": []}], "name LIKE '%'", "params.a IN ('x'", "{}",
]  # fmt: skip


@pytest.fixture
def desk(workspace: Workspace) -> Desk:
    return desk_of(workspace)


def requests(run: str, experiment: str, model: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each route many times: mostly sensible fields, and one or two that are not."""
    chance = random.Random(7)
    paths = [*fixed, *((method, p.pattern.replace("(?P<model_id>[^/]+)", model)) for method, p, _ in patterns)]
    sane = {
        "run_id": run, "experiment_id": experiment, "experiment_ids": [experiment], "name": "m", "key": "k",
        "value": "1", "timestamp": 1, "metric_key": "k", "version": "1", "stage": "None", "alias": "a", "source": "s",
        "model_id": model,
    }  # fmt: skip
    for method, path in paths:
        for _ in range(40):
            odd = {name: chance.choice(ODD) for name in chance.sample(NAMES, 6)}
            some = {name: value for name, value in sane.items() if chance.random() < 0.8}
            yield (
                method,
                path.replace("(?P<tag_key>[^/]+)", "k"),
                {**odd, **some, **dict([chance.choice([*odd.items()])])},
            )


def test_no_request_makes_it_fall_over(desk: Desk) -> None:
    def ask(path: str, **fields: Any) -> Any:
        return answer(desk, "POST", path, Args(fields))

    experiment = ask("experiments/create", name="odd")["experiment_id"]
    run = ask("runs/create", experiment_id=experiment)["run"]["info"]["run_id"]
    model = ask("logged-models", experiment_id=experiment, name="m")["model"]["info"]["model_id"]
    ask("registered-models/create", name="m")
    ask("model-versions/create", name="m", source="s")
    told = 0
    for method, path, fields in requests(run, experiment, model):
        try:
            answer(desk, method, path, Args(fields))
        except InvalidInput:
            told += 1
        except Exception as error:
            raise AssertionError(f"{method} {path} {fields!r}") from error
    assert told > 100
