"""`%mlops drift` compares variables and datasets, and hands its options on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nbops as nb
from nbops.core.errors import CheckFailed
from nbops.store.workspace import Workspace
from nbops.verbs.grammar import Call, dispatch
from nbops.verbs.words import UsageError

RANDOM = np.random.default_rng(0)
TRAIN = {"x": RANDOM.normal(size=2000), "y": RANDOM.integers(0, 2, 2000)}
TODAY = {"x": RANDOM.normal(1, size=2000), "y": RANDOM.integers(0, 2, 2000)}


def said(line: str, *, cli: bool = False, **variables: Any) -> Any:
    return dispatch(line.split(), Call(namespace=None if cli else variables))


def test_variables_and_datasets_are_compared(workspace: Workspace) -> None:
    nb.snapshot(TRAIN, "train")
    nb.snapshot(TODAY, "today")
    assert said("drift a b", a=TRAIN, b=TODAY).drifted == ["x"]
    assert said("drift train/1 b", b=TODAY).drifted == ["x"]
    report = said("drift train today --by 500 --label y --name nightly", cli=True)
    assert (report.drifted, len(report.chunks), report.label, report.report.name) == (["x"], 4, "y", "nightly")
    assert said("drift train today --column y").drifted == []
    assert said("drift train today --column y --multivariate").multivariate.is_drifted is False


def test_a_gate_and_what_is_not_there(workspace: Workspace) -> None:
    with pytest.raises(CheckFailed, match="column 'x' drifted"):
        said("drift a b --raise", a=TRAIN, b=TODAY)
    with pytest.raises(UsageError, match="no variable 'c' in this notebook"):
        said("drift a c", a=TRAIN)
