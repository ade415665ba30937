"""People of ``nbops mlflow-server --users FILE``: a token each, of which the file holds the digest only."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from nbops.core.errors import InvalidInput, did_you_mean
from nbops.core.roles import Person, Role, read_role
from nbops.server.access import Watched

_FIELDS = ("role", "token_sha256")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_TOKEN_BYTES = 24


class User(msgspec.Struct, frozen=True):
    """One entry of the file."""

    name: str
    role: Role
    digest: str


class Users:
    """The people of a file, which is read again when it changes.

    While it cannot be used, those who were in it last may read.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    InvalidInput
        It cannot be used to begin with.
    """

    def __init__(self, path: Path) -> None:
        self._file = Watched(path, read_users)
        self._last = self._file.current()

    def person(self, name: str | None, token: str) -> Person | None:
        """Return whose token this is, None if nobody's, or if it is not that of `name`.

        Every digest is compared in full, so that the time taken tells nothing.
        """
        doubt, remedy = "", ""
        try:
            self._last = self._file.current()
        except InvalidInput as error:
            doubt, remedy = error.message, error.hint
        digest = _digest(token)
        found = [one for one in self._last if hmac.compare_digest(one.digest, digest)]
        if not token or not found or (name is not None and name != found[0].name):
            return None
        return Person(name=found[0].name, role=found[0].role, doubt=doubt, remedy=remedy)


def read_users(text: str) -> tuple[User, ...]:
    """Return the people in the text of a file of ``[users.NAME]`` tables.

    Raises
    ------
    InvalidInput
        It is no TOML, an entry is not complete, or two people share a token.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"the file of users cannot be read: {error}", hint="Mend the file.") from error
    for name in tables:
        if name != "users":
            raise InvalidInput(f"the file of users has an unknown name '{name}'", hint="Write tables [users.NAME].")
    entries = tables.get("users", {})
    if not isinstance(entries, Mapping):
        raise InvalidInput(f"users is {entries!r}, not a table", hint="Write tables [users.NAME].")
    users = tuple(_user(name, entry) for name, entry in entries.items())
    if not users:
        raise InvalidInput("the file of users names nobody", hint="Make an entry: nbops mlflow-server --new-user NAME")
    if len({one.digest for one in users}) < len(users):
        raise InvalidInput("two users have the same token", hint="Make a new entry for one of them.")
    return users


def _user(name: str, entry: Any) -> User:
    where = f"[users.{_key(name)}]"
    check_name(name)
    if not isinstance(entry, Mapping):
        raise InvalidInput(f"{where} is {entry!r}, not a table", hint="Write role and token_sha256 below it.")
    for field in entry:
        if field not in _FIELDS:
            hint = did_you_mean(field, _FIELDS) or f"Use: {', '.join(_FIELDS)}"
            raise InvalidInput(f"{where} has an unknown name '{field}'", hint=hint)
    for field in _FIELDS:
        if field not in entry:
            raise InvalidInput(f"{where} has no {field}", hint="Make an entry: nbops mlflow-server --new-user NAME")
    digest = str(entry["token_sha256"]).lower()
    if not _DIGEST.fullmatch(digest):
        raise InvalidInput(
            f"{where} has a token_sha256 that is no SHA-256", hint="Write 64 hexadecimal digits, not the token."
        )
    return User(name, read_role(entry["role"], where=f"{where} role"), digest)


def check_name(name: str) -> None:
    """Refuse a name that a client cannot send, or that cannot be told from another in a log.

    Raises
    ------
    InvalidInput
        It is empty, has a colon or blanks around it, or something that cannot be printed.
    """
    if not name or name != name.strip() or ":" in name or not name.isprintable():
        raise InvalidInput(f"{name!r} cannot be a user's name", hint="Use a name without a colon, such as anna.")


def new_entry(name: str, role: Role) -> tuple[str, str]:
    """Return a new token, and the lines of the file that let its owner in.

    Raises
    ------
    InvalidInput
        A name that a user cannot have.
    """
    check_name(name)
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    return token, f'[users.{_key(name)}]\nrole = "{role}"\ntoken_sha256 = "{_digest(token)}"\n'


def _key(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else msgspec.json.encode(name).decode()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
