"""An alias is refused where its version's score was the best of too many looks at a sealed test set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nbops as nb
from nbops.core.errors import Conflict, InvalidInput, NotFound
from nbops.core.records import ModelVersion
from nbops.core.settings import read_settings
from nbops.models.aliases import promote, rollback
from nbops.models.references import resolve
from nbops.models.registering import register
from nbops.store.workspace import Workspace
from nbops.verbs.grammar import Call, dispatch

Array = np.ndarray[Any, Any]
ROWS = {"x": list(range(100)), "y": [i % 2 for i in range(100)]}


@pytest.fixture
def looked(workspace: Workspace, small: bytes, three_rows: Array) -> list[ModelVersion]:
    """Version 1 of the model ``m`` without a test set, and version 2, whose run took the third look of three."""
    first = register(small, "m", example=three_rows)
    split = nb.split(ROWS, test=0.2, seal=True, name="visits")
    for why in ("one", "two"):
        split.look(why)
    with nb.run("final") as run, split.open_test("three"):
        nb.log(accuracy=0.9)
    return [first, register(small, "m", example=three_rows, run=run)]


def test_any_number_of_looks_is_let_through_unless_somebody_sets_a_limit(looked: list[ModelVersion]) -> None:
    assert promote("m", 2, "prod").number == 2
    assert promote("m", 1, "prod", max_looks=1).number == 1  # without a test set there is nothing to count


def test_more_looks_than_allowed_are_refused_and_nothing_moves(workspace: Workspace, looked: list[Any]) -> None:
    promote("m", 1, "prod")
    with pytest.raises(Conflict, match="split 'visits' was looked at 3 times, and 2 are allowed") as caught:
        promote("m", 2, "prod", max_looks=2)
    assert "override=True" in caught.value.hint
    assert resolve(workspace, "m@prod").number == 1
    assert promote("m", 2, "prod", max_looks=3).number == 2


def test_an_override_is_kept_in_the_history(looked: list[ModelVersion]) -> None:
    with pytest.raises(InvalidInput, match="needs a reason"):
        promote("m", 2, "prod", max_looks=2, override=True)
    alias = promote("m", 2, "prod", max_looks=2, override=True, reason="no other data")
    (last,) = alias.history
    assert last.reason == (
        "no other data (overridden: the test set of split 'visits' was looked at 3 times, and 2 are allowed)"
    )
    assert promote("m", 1, "prod", override=True, reason="plain").history[-1].reason == "plain"


def test_the_setting_holds_for_register_and_the_verb_and_not_for_a_rollback(
    workspace: Workspace, looked: list[ModelVersion], small: bytes, three_rows: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote("m", 2, "prod")
    promote("m", 1, "prod")
    monkeypatch.setattr(workspace, "settings", read_settings("max_test_looks = 2", {}))
    run = looked[1].parent
    with pytest.raises(Conflict, match="m/3 cannot become m@staging: .* 3 times") as caught:
        register(small, "m", example=three_rows, run=run, aliases="staging")
    with pytest.raises(NotFound):
        resolve(workspace, "m@staging")
    assert "nb.promote('m', 3, 'staging'" in caught.value.hint  # which works, since the version is there
    assert promote("m", 3, "staging", override=True, reason="no other data").number == 3
    with pytest.raises(Conflict, match="3 times"):
        dispatch(["promote", "m", "2", "prod"], Call(namespace=None))
    words = ["promote", "m", "2", "prod", "--override", "--reason", "no other data"]
    assert dispatch(words, Call(namespace=None)).number == 2
    promote("m", 1, "prod")
    assert rollback("m", "prod").number == 2


def test_a_limit_below_zero_is_refused(looked: list[ModelVersion]) -> None:
    with pytest.raises(InvalidInput, match="max_looks is -1"):
        promote("m", 2, "prod", max_looks=-1)
