"""Aliases and references: what a name means, how it moves, and every earlier setting."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from nbops.core.errors import Conflict, InvalidInput, NotFound
from nbops.core.records import Alias, ModelVersion
from nbops.models.aliases import promote, rollback
from nbops.models.references import parse_reference, resolve
from nbops.models.registering import register
from nbops.store.workspace import Workspace

Array = np.ndarray[Any, Any]


@pytest.fixture
def four(workspace: Workspace, small: bytes, three_rows: Array) -> list[ModelVersion]:
    """Versions 1 to 4 of the model ``m``, without aliases."""
    return [register(small, "m", example=three_rows) for _ in range(4)]


def test_references_mean_what_the_guide_says(workspace: Workspace, four: list[ModelVersion]) -> None:
    assert resolve(workspace, "m").number == 4  # the newest, while there is no prod
    promote("m", 2, "prod")
    promote("m", 3, "staging")
    expected = {"m": 2, "m@prod": 2, "m@staging": 3, "m@latest": 4, "m/1": 1, " m/3 ": 3}
    assert {ref: resolve(workspace, ref).number for ref in expected} == expected
    assert resolve(workspace, four[0]) == four[0]


def test_unknown_references_get_the_nearest_name(workspace: Workspace, four: list[ModelVersion]) -> None:
    promote("m", 1, "staging")
    for ref, message, hint in (
        ("mm", "no model 'mm'", "Did you mean 'm'?"),
        ("zebra", "no model 'zebra'", "Use one of: m."),
        ("zebra@prod", "no model 'zebra'", "Use one of: m."),
        ("m@stagin", "model 'm' has no alias 'stagin'", "Did you mean 'staging'?"),
        ("m@blue", "model 'm' has no alias 'blue'", "Use one of: staging."),
        ("m/9", "model 'm' has no version 9", "Use m/4, the newest."),
    ):
        with pytest.raises(NotFound) as caught:
            resolve(workspace, ref)
        assert (caught.value.message, caught.value.hint) == (message, hint)


def test_an_empty_registry_says_how_to_fill_it(workspace: Workspace, small: bytes, three_rows: Array) -> None:
    with pytest.raises(NotFound, match="none is registered") as caught:
        resolve(workspace, "digits@prod")
    assert caught.value.hint.startswith("Register one: nb.register(")
    register(small, "m", example=three_rows)
    with pytest.raises(NotFound) as caught:
        resolve(workspace, "m@prod")
    assert caught.value.hint == "Set it: nb.promote('m', 1, 'prod')."


@pytest.mark.parametrize(
    "ref", ["", "  ", "m/x", "m/0", "m/-1", "m/1/2", "m@", "m@a@b", "m@prod/1", "m/", "/1", "a b", 3]
)
def test_text_that_is_no_reference_is_refused(ref: Any) -> None:
    with pytest.raises(InvalidInput):
        parse_reference(ref)


def test_every_setting_is_kept_with_who_and_why(workspace: Workspace, four: list[ModelVersion]) -> None:
    promote("m", 1, "prod", reason="first")
    moved = promote("m", "2", "prod", reason="better recall")
    assert [(s.number, s.reason, s.is_rollback) for s in moved.history] == [
        (1, "first", False), (2, "better recall", False),
    ]  # fmt: skip
    assert moved.history[0].by
    assert moved.history[0].at <= moved.history[1].at
    assert promote("m", four[1], "prod") == moved  # again: nothing changes
    assert promote("m", "m/2", "prod") == moved
    assert workspace.store.find(Alias) == [moved]
    events = [e for e in workspace.store.events() if e.kind == "alias.moved"]
    assert [(e.payload["before"], e.payload["number"], e.payload["reason"]) for e in events] == [
        (None, 1, "first"), (1, 2, "better recall"),
    ]  # fmt: skip


def test_rollback_goes_back_one_distinct_version_at_a_time(workspace: Workspace, four: list[ModelVersion]) -> None:
    for number in (1, 2, 3):
        promote("m", number, "prod")
    assert rollback("m", "prod").number == 2
    assert rollback("m", "prod").number == 1
    with pytest.raises(Conflict, match="m@prod has named no version but 1 that still exists") as caught:
        rollback("m", "prod")
    assert caught.value.hint.startswith("Choose one: nb.promote(")
    promote("m", 4, "prod")
    last = rollback("m", "prod")
    assert [s.number for s in last.history] == [1, 2, 3, 2, 1, 4, 1]
    assert last.history[-1].reason == "rollback from 4"
    assert resolve(workspace, "m").number == 1


def test_a_deliberate_return_is_no_rollback(workspace: Workspace, four: list[ModelVersion]) -> None:
    for number in (1, 2, 1):
        promote("m", number, "prod")
    assert rollback("m", "prod").number == 2


def test_rollback_skips_deleted_versions(workspace: Workspace, four: list[ModelVersion]) -> None:
    for number in (1, 2, 3):
        promote("m", number, "prod")
    workspace.store.delete(ModelVersion, four[1].id)
    assert rollback("m", "prod").number == 1


def test_an_alias_of_a_deleted_version_is_told(workspace: Workspace, four: list[ModelVersion]) -> None:
    promote("m", 2, "prod")
    workspace.store.delete(ModelVersion, four[1].id)
    with pytest.raises(NotFound, match="version 2 of model 'm' was deleted"):
        resolve(workspace, "m@prod")


def test_what_cannot_be_promoted_is_refused_and_changes_nothing(workspace: Workspace, four: list[ModelVersion]) -> None:
    with pytest.raises(NotFound, match="no version 7"):
        promote("m", 7, "prod")
    for version in ("seven", True, 1.5, "v1", "n/1"):
        with pytest.raises(InvalidInput, match="is no version number of 'm'") as caught:
            promote("m", version, "prod")  # type: ignore[arg-type]
        assert caught.value.hint == "Pass a number such as 4."
    with pytest.raises(InvalidInput, match="m/1 is no version of 'other'"):
        promote("other", four[0], "prod")
    for alias in ("latest", "v2", "no way", ""):
        with pytest.raises(InvalidInput, match="an alias cannot be named"):
            promote("m", 1, alias)
    with pytest.raises(NotFound, match="model 'm' has no alias 'prod'"):
        rollback("m", "prod")
    with pytest.raises(InvalidInput):
        rollback("m@prod", "prod")
    assert workspace.store.find(Alias) == []


def test_moves_from_many_threads_are_all_in_the_history(workspace: Workspace, four: list[ModelVersion]) -> None:
    def one(number: int) -> None:
        promote("m", number, "prod", reason=str(number))

    threads = [threading.Thread(target=one, args=(number,)) for number in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [alias] = workspace.store.find(Alias)
    assert sorted(s.number for s in alias.history) == [1, 2, 3, 4]
    assert alias.number == alias.history[-1].number
