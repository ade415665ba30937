"""The rules for names of models and aliases. References to them are read in `references`."""

from __future__ import annotations

import re

from nbops.core.errors import InvalidInput

LATEST = "latest"  # name@latest always means the highest number, so no alias can have this name
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_LIKE_A_NUMBER = re.compile(r"[vV]\d+")


def check_model_name(name: str) -> str:
    """Return `name` if a model can have it.

    Letters, digits, ``.``, ``_`` and ``-`` (at most 128), beginning with a letter or digit: the
    name is part of references (``name@alias``, ``name/3``), of URLs and of file names.

    Raises
    ------
    InvalidInput
        With a name that would do as its hint.
    """
    if isinstance(name, str) and _MODEL.fullmatch(name):
        return name
    near = re.sub(r"[^A-Za-z0-9._-]+", "-", str(name)).strip("-._")[:128] or "my-model"
    raise InvalidInput(
        f"a model cannot be named {name!r}: only letters, digits, '.', '_' and '-', at most 128, no '/', '@' or ':'",
        hint=f"Use a name such as '{near}'.",
    )


def check_alias_name(alias: str) -> str:
    """Return `alias` if an alias can have that name.

    Letters, digits, ``_`` and ``-`` (at most 64), beginning with a letter; not ``latest``, and not
    like a number (``v3``).

    Raises
    ------
    InvalidInput
        When it cannot.
    """
    if not isinstance(alias, str) or not _ALIAS.fullmatch(alias):
        raise InvalidInput(
            f"an alias cannot be named {alias!r}: only letters, digits, '_' and '-', at most 64, a letter first",
            hint="Use a name such as 'prod' or 'staging'.",
        )
    if alias == LATEST or _LIKE_A_NUMBER.fullmatch(alias):
        meaning = "means the highest number" if alias == LATEST else "looks like a version number"
        raise InvalidInput(f"an alias cannot be named '{alias}': it {meaning}", hint="Use a name such as 'prod'.")
    return alias
