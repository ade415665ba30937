"""A line into words, as a shell would split it, but remembering how each word was written."""

from __future__ import annotations

import ast
import re
from typing import Any

from nbops.core.errors import InvalidInput

_WORD = re.compile(r"""(?:"[^"]*"|'[^']*'|[^\s"'])+""")
_QUOTED = re.compile(r""""([^"]*)"|'([^']*)'""")


class UsageError(InvalidInput):
    """A verb, an option or an argument that cannot be understood."""


class Word(str):
    """One word without its quotes; `raw` keeps them, so that an expression can be put together again."""

    __slots__ = ("raw",)
    raw: str

    def __new__(cls, value: str, raw: str | None = None) -> Word:
        word = super().__new__(cls, value)
        word.raw = value if raw is None else raw
        return word


def split(line: str) -> list[Word]:
    """Return the words of `line`; single or double quotes hold blanks together, a backslash is a plain character.

    Raises
    ------
    UsageError
        A quote is not closed.
    """
    words, position = [], 0
    for match in _WORD.finditer(line):
        if line[position : match.start()].strip():
            break
        words.append(Word(_QUOTED.sub(lambda m: m[1] if m[1] is not None else m[2], match[0]), match[0]))
        position = match.end()
    rest = line[position:].strip()
    if rest:
        raise UsageError(f"a quote is not closed: {rest}", hint="Close it, or remove it.")
    return words


def expression(words: list[str]) -> str:
    """Return the words of an expression joined as they were written.

    A single quoted word is its content, so both ``runs tags.team == "x"`` and
    ``runs 'tags.team == "x"'`` give ``tags.team == "x"``.
    """
    if len(words) == 1:
        return words[0]
    return " ".join(word.raw if isinstance(word, Word) else word for word in words)


def literal(value: str) -> Any:
    """Return a number, a truth value or None where the text is one, else the text."""
    known = {"true": True, "false": False, "none": None, "null": None}
    if value.lower() in known:
        return known[value.lower()]
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value
    return found if isinstance(found, int | float) else str(value)
