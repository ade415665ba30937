"""MLflow's own server and ours answer alike: what MLflow answered is recorded (``scripts/record_mlflow.py``).

Status and error code are compared, and everything that a good answer holds. Where nbops answers otherwise on purpose,
it is said here, with the reason.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from mlflow_sequence import PARTS
from mlflow_sequence.replaying import AT, comparable, differences, replay

from nbops.server.mlflow.routes import fixed, patterns

GOLDEN = {name: json.loads((Path(__file__).parent / "golden" / f"{name}.json").read_text("utf-8")) for name in PARTS}

Answers = dict[str, dict[str, Any]]

LESS = {"workspace": "nbops has no workspaces within a server; clients take the absent field for the default one"}
MORE = {
    "aliases": "MLflow leaves them out of versions in lists; ours are the same wherever a version is shown",
    "model_id": "MLflow forgets it when it answers; with it clients find the logged model of a version",
}
_NONSENSE = "MLflow takes what is of the wrong type for absent and stores zero or nothing; nbops says that it is wrong"
_MISTAKE = "a user's mistake is never a 5xx, which clients repeat for minutes"
_PLACE = "nbops reads no file by the source of a version, so a source may be anywhere; only upward paths are refused"
DIFFERENCES: dict[str, tuple[str, str]] = {
    "rename to a taken name": ("400 RESOURCE_ALREADY_EXISTS", "MLflow shows the error of its database"),
    "rename deleted experiment": ("400 INVALID_PARAMETER_VALUE", _MISTAKE),
    "a body that is a list": ("400 INVALID_PARAMETER_VALUE", _MISTAKE),
    "batch with metrics that are none": ("400 INVALID_PARAMETER_VALUE", _MISTAKE),
    "archive and archive": ("400 INVALID_PARAMETER_VALUE", _MISTAKE),
    "search a view that is none": ("400 INVALID_PARAMETER_VALUE", _NONSENSE),
    "find runs of a view that is none": ("400 INVALID_PARAMETER_VALUE", _NONSENSE),
    "update with a status that is none": ("400 INVALID_PARAMETER_VALUE", _NONSENSE),
    "finish with a status that is none": ("400 INVALID_PARAMETER_VALUE", _NONSENSE),
    "create run with tags that are none": ("400 INVALID_PARAMETER_VALUE", _NONSENSE),
    "log metric of a truth": ("400 INVALID_PARAMETER_VALUE", _NONSENSE),
    "log metric of half a step": ("400 INVALID_PARAMETER_VALUE", _NONSENSE),
    "log metric of 64 bits too many": ("400 INVALID_PARAMETER_VALUE", _NONSENSE),
    "batch with a bad metric": ("400 INVALID_PARAMETER_VALUE", _NONSENSE),
    "log inputs without name": ("400 BAD_REQUEST", _NONSENSE),
    "log inputs without dataset": ("400 INVALID_PARAMETER_VALUE", _NONSENSE),
    "runs of an experiment that is a number": ("400 INVALID_PARAMETER_VALUE", _NONSENSE),
    "search without max_results": ("200", "an absent size is the default one, as everywhere else"),
    "create run without an experiment": ("200", "the default experiment; MLflow shows the error of its database"),
    "create run without a name": ("200", "a run without a start time starts now, not in 1970"),
    "get deleted run": ("200", "the same run"),
    "open run again": ("200", "a run that is running has no end"),
    "schedule run": ("200", "a run that is to run has no end"),
    "history of infinity": ("200", "infinity stays infinity; MLflow's database keeps the greatest double"),
    "get the run of models": ("200", "the same infinities"),
    "history of an unknown run": ("404 RESOURCE_DOES_NOT_EXIST", "a mistyped id is told, as MLflow's file store does"),
    "find runs of a list of params": ("200", "IN works for params too"),
    "find models by status": ("200", "MLflow compares the word with a number and finds nothing"),
    "make a version of an unknown run": ("404 RESOURCE_DOES_NOT_EXIST", "it is the run that is not there"),
    "make a version of this machine's files": ("200", _PLACE),
    "make a version of another run's files": ("200", _PLACE),
    "make a version of a run's files without the run": ("200", _PLACE),
    "find names by none": ("400 INVALID_PARAMETER_VALUE", "as for every other search; MLflow's token would never end"),
    "a route that is none": ("404 ENDPOINT_NOT_FOUND", "JSON, which clients can read, instead of a page"),
    "the wrong method": ("404 ENDPOINT_NOT_FOUND", "JSON, which clients can read, instead of a page"),
}


def told(answer: dict[str, Any]) -> str:
    """Return status and error code."""
    return f"{answer['status']} {answer['answer'].get('error_code', '') if answer['status'] != 200 else ''}".strip()


def unlike(theirs: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """Return where two recorded answers differ."""
    if told(theirs) != told(ours):
        return [f"MLflow: {told(theirs)}, nbops: {told(ours)} {ours['answer'].get('message', '')}"]
    return [] if ours["status"] != 200 else differences(theirs["answer"], ours["answer"], less=LESS, more=MORE)


@pytest.fixture(scope="module")
def answers(server: Any) -> Answers:
    """What our server answers to the whole sequence."""
    asks = [ask for part in PARTS.values() for ask in part]
    return replay(server.uri, asks, headers={"Authorization": "Bearer a-token-for-tests"})


@pytest.mark.parametrize("part", PARTS)
def test_the_answers_are_those_of_mlflow(answers: Answers, part: str) -> None:
    wrong = []
    for ask in PARTS[part]:
        lines = unlike(GOLDEN[part]["answers"][ask.name], answers[ask.name])
        if ask.name not in DIFFERENCES:
            wrong += [f"{ask.name}: {line}" for line in lines]
        elif not lines:
            wrong.append(f"{ask.name}: is listed as different and is not")
        elif told(answers[ask.name]) != DIFFERENCES[ask.name][0]:
            wrong.append(f"{ask.name}: {told(answers[ask.name])} instead of {DIFFERENCES[ask.name][0]}")
    assert wrong == []


def test_no_answer_to_the_sequence_is_a_5xx(answers: Answers) -> None:
    assert [name for name, answer in answers.items() if answer["status"] >= 500] == []


def test_every_route_is_in_the_sequence_and_was_answered_by_mlflow() -> None:
    good = {
        ask.path.removeprefix("/ajax-api/2.0/mlflow/")
        for name, asks in PARTS.items()
        for ask in asks
        if GOLDEN[name]["answers"][ask.name]["status"] == 200
    }
    missing = {path for _, path in fixed} - good
    missing |= {pattern.pattern for _, pattern, _ in patterns if not any(pattern.fullmatch(path) for path in good)}
    assert missing == set()


def test_the_recorded_answers_are_of_one_mlflow_3_and_hold_every_request() -> None:
    assert len({part["mlflow"] for part in GOLDEN.values()}) == 1
    assert GOLDEN["runs"]["mlflow"].startswith("3.")
    for name, asks in PARTS.items():
        assert list(GOLDEN[name]["answers"]) == [ask.name for ask in asks]
    names = {ask.name for asks in PARTS.values() for ask in asks}
    assert set(DIFFERENCES) <= names


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        ({"status": 200, "answer": {"a": [1, 2]}}, []),
        ({"status": 200, "answer": {"a": [1, 2], "aliases": ["x"]}}, []),
        ({"status": 200, "answer": {"a": [2, 1]}}, [".a[0]: MLflow 1, nbops 2", ".a[1]: MLflow 2, nbops 1"]),
        ({"status": 200, "answer": {"a": [1]}}, [".a: MLflow [1, 2], nbops [1]"]),
        ({"status": 200, "answer": {"a": [1, 2], "b": 1}}, [".b: only nbops has it"]),
        ({"status": 200, "answer": {}}, [".a: only MLflow has it"]),
        ({"status": 400, "answer": {"error_code": "BAD"}}, ["MLflow: 200, nbops: 400 BAD "]),
    ],
)
def test_a_difference_is_found(ours: dict[str, Any], said: list[str]) -> None:
    assert unlike({"status": 200, "answer": {"a": [1, 2], "workspace": "default"}}, ours) == said


def test_what_is_made_comparable() -> None:
    now = AT + 80_000_000_000
    answer = {
        "run": {"run_id": "abcdefgh", "artifact_uri": "mlflow-artifacts:/1/abcdefgh/artifacts"},
        "start_time": AT, "end_time": now, "step": now, "next_page_token": "e30=", "tags": [], "data": {"params": []},
        "long": "x" * 600, "metrics": [{"key": "b", "value": 1}, {"key": "a", "value": 2}, {"key": "b", "value": 0}],
    }  # fmt: skip
    assert comparable(answer, {"run": "abcdefgh", "short": "1"}) == {
        "run": {"run_id": "<run>", "artifact_uri": "mlflow-artifacts:/1/<run>/artifacts"},
        "start_time": AT, "end_time": "<time>", "step": now, "next_page_token": "<token>", "long": "<600 letters>",
        "metrics": [{"key": "a", "value": 2}, {"key": "b", "value": 1}, {"key": "b", "value": 0}],
    }  # fmt: skip
    assert not re.search(r"[0-9a-f]{32}", json.dumps(GOLDEN["experiments"]))
