"""Roles: what each may do, how a table of them is read, and what a refusal says."""

from __future__ import annotations

from typing import Any

import pytest

from nbops.core.errors import InvalidInput, NotPermitted
from nbops.core.roles import NEEDS, Action, Person, Role, allowed, read_roles
from nbops.core.settings import read_settings

TABLE = """
dataset_max_bytes = 10

[roles]
default = "editor"
anna = "approver"
"bert@example.org" = "viewer"
"""


def test_every_action_needs_a_role_and_each_role_may_more_than_the_one_before() -> None:
    assert set(NEEDS) == set(Action)
    may = [{action for action in Action if role.may(action)} for role in Role]
    assert may[0] == {Action.READ}
    assert may[0] < may[1] < may[2] == set(Action)
    assert not Role.EDITOR.may(Action.PROMOTE)
    assert [action for role in Role for action in allowed(role)] == list(NEEDS)


def test_the_table_of_needs_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        NEEDS[Action.PROMOTE] = Role.VIEWER  # type: ignore[index]


def test_roles_are_read_from_config() -> None:
    settings = read_settings(TABLE, {"NBOPS_DATASET_MAX_BYTES": "20", "NBOPS_ROLES": "anything"})
    assert settings.roles is not None
    assert settings.dataset_max_bytes == 20
    names = ("anna", "bert@example.org", "carl", "Anna", "")
    assert [str(settings.roles.of(name)) for name in names] == ["approver", "viewer", "editor", "editor", "editor"]


def test_without_a_table_there_are_no_roles_and_an_empty_one_lets_everybody_read() -> None:
    assert read_settings("", {}).roles is None
    empty = read_settings("[roles]", {}).roles
    assert empty is not None
    assert empty.of("anna") is Role.VIEWER


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ('[roles]\nanna = "aprover"', '[roles] anna = "aprover" is no role', "Did you mean 'approver'?"),
        ('[roles]\nanna = "boss"', '"boss" is no role', "Use one of: viewer, editor, approver"),
        ("[roles]\nanna = 3", "anna = 3 is no role", "Use one of"),
        ('[roles]\nanna = ["editor"]', 'anna = ["editor"] is no role', "Use one of"),
        ('[roles]\ndefault = "Viewer"', '"Viewer" is no role', "Did you mean 'viewer'?"),
        ('[roles.anna]\nrole = "editor"', "anna = ", "Use one of"),
        ('roles = "editor"', "[roles] is 'editor', not a table", "Write [roles]"),
        ('[rols]\nanna = "editor"', "unknown setting 'rols'", "Did you mean 'roles'?"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_the_value(text: str, said: str, hint: str) -> None:
    with pytest.raises(InvalidInput) as told:
        read_settings(text, {})
    assert said in told.value.message
    assert told.value.hint.startswith(hint)


@pytest.mark.parametrize("table", [None, 3, [], "viewer"])
def test_only_a_table_is_a_table_of_roles(table: Any) -> None:
    with pytest.raises(InvalidInput, match="not a table"):
        read_roles(table)


def test_a_refusal_names_the_person_their_role_and_what_it_takes() -> None:
    vera = Person(name="vera", role=Role.VIEWER)
    vera.check(Action.READ)
    with pytest.raises(NotPermitted, match="'vera' is a viewer; it takes an editor to record runs") as told:
        vera.check(Action.RECORD)
    assert told.value.hint.startswith("Ask an editor")
    with pytest.raises(NotPermitted, match="somebody is an editor; it takes an approver to set or delete an alias"):
        Person(name="", role=Role.EDITOR).check(Action.PROMOTE)
    Person(name="anna", role=Role.APPROVER).check(Action.DELETE_MODEL)


def test_in_doubt_everybody_reads_and_nobody_writes() -> None:
    anna = Person(name="anna", role=Role.APPROVER, doubt="config.toml is torn", remedy="Mend it.")
    anna.check(Action.READ)
    with pytest.raises(NotPermitted, match=r"only reading is allowed now: config.toml is torn\nMend it."):
        anna.check(Action.RECORD)
