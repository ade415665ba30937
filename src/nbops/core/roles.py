"""Who may do what: three roles, what can be done through the routes of a server, and the one table between them.

Without a table of roles everybody may do everything: a laptop is not a team. No HTTP and no files here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any

import msgspec

from nbops.core.errors import InvalidInput, NotPermitted, did_you_mean

DEFAULT = "default"


class Role(Enum):
    """What a person is trusted with; each role may also do what the ones before it may."""

    VIEWER = "viewer"
    EDITOR = "editor"
    APPROVER = "approver"

    @property
    def rank(self) -> int:
        """0 for the role that may do least."""
        return list(Role).index(self)

    def may(self, action: Action) -> bool:
        """Return whether this role is enough for `action`."""
        return self.rank >= NEEDS[action].rank

    def __str__(self) -> str:
        return self.value


class Action(Enum):
    """What a request does; the value says it in words that follow "to"."""

    READ = "read"
    RECORD = "record runs, points, tags, files, experiments and logged models"
    CONTROL = "pause, change or stop a watched training"
    TRASH = "move runs, experiments and logged models to the trash, and take them back"
    REGISTER = "register models and versions, and describe them"
    PROMOTE = "set or delete an alias, or change a stage"
    DELETE_MODEL = "rename or delete a registered model, delete a version, or change its files"


NEEDS: Mapping[Action, Role] = MappingProxyType(
    {
        Action.READ: Role.VIEWER,
        Action.RECORD: Role.EDITOR,
        Action.CONTROL: Role.EDITOR,
        Action.TRASH: Role.EDITOR,
        Action.REGISTER: Role.EDITOR,
        Action.PROMOTE: Role.APPROVER,
        Action.DELETE_MODEL: Role.APPROVER,
    }
)


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who asks a server.

    Attributes
    ----------
    name : str
        As the audit log names them.
    role : Role
        What they are trusted with.
    in_force : bool
        Whether there are roles; without them everybody may do everything.
    doubt : str
        Why nothing but reading is answered now, whatever the role; empty if there is no such reason.
    remedy : str
        What to do about that.
    """

    name: str
    role: Role
    in_force: bool = True
    doubt: str = ""
    remedy: str = ""

    def check(self, action: Action) -> None:
        """Let pass who may do `action`.

        Raises
        ------
        NotPermitted
            The role is not enough, or roles are in doubt.
        """
        if self.doubt and action is not Action.READ:
            raise NotPermitted(f"only reading is allowed now: {self.doubt}", hint=self.remedy)
        if not self.role.may(action):
            who, needed = repr(self.name) if self.name else "somebody", _a(NEEDS[action])
            raise NotPermitted(
                f"{who} is {_a(self.role)}; it takes {needed} to {action.value}",
                hint=f"Ask {needed}, or whoever says the roles.",
            )


def _a(role: Role) -> str:
    return f"{'a' if role is Role.VIEWER else 'an'} {role}"


class Roles(msgspec.Struct, frozen=True):
    """A table of roles.

    Attributes
    ----------
    people : dict of str to Role
        Who is named.
    default : Role
        What everybody else is.
    """

    people: dict[str, Role]
    default: Role = Role.VIEWER

    def of(self, name: str) -> Role:
        """Return the role of a person; names are compared letter by letter."""
        return self.people.get(name, self.default)


def read_roles(table: Any, *, where: str = "[roles]") -> Roles:
    """Return a table of roles from ``{"anna": "approver", "default": "viewer"}``.

    Parameters
    ----------
    table : object
        As a TOML file has it.
    where : str
        What errors call it.

    Raises
    ------
    InvalidInput
        It is no table, or somebody's role is none.
    """
    if not isinstance(table, Mapping):
        raise InvalidInput(f"{where} is {table!r}, not a table", hint=f"Write {where} on a line, and names below it.")
    people = {str(name): read_role(word, where=f"{where} {name}") for name, word in table.items()}
    default = people.pop(DEFAULT, Role.VIEWER)
    return Roles(people, default)


def read_role(word: Any, *, where: str) -> Role:
    """Return the role that `word` names; `where` is what errors call its place.

    Raises
    ------
    InvalidInput
        It names none.
    """
    known = [role.value for role in Role]
    if isinstance(word, str) and word in known:
        return Role(word)
    hint = did_you_mean(word, known) if isinstance(word, str) else ""
    raise InvalidInput(f"{where} = {_toml(word)} is no role", hint=hint or f"Use one of: {', '.join(known)}")


def _toml(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()


def allowed(role: Role) -> Iterable[Action]:
    """Yield what `role` may do and the one before it may not."""
    return (action for action, needed in NEEDS.items() if needed is role)
