"""Patches: how they are written, and how they are applied to a source; nothing here makes one.

A patch is made of lines as in a diff: ``-`` goes, ``+`` comes in its place, a blank stays and tells where. A line
``@@ -12 @@`` says where the next one stands, for a line that the source holds more than once.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field

from nbops.core.errors import InvalidInput

_HEADER = re.compile(r"@@ -(\d+)")
_HINT = "Make the change by hand, or run the code again so that the finding is of its present text."


@dataclass
class _Edits:
    """Which rows of a source go, and what comes behind which row; -1 is the beginning."""

    gone: set[int] = field(default_factory=set)
    added: dict[int, list[str]] = field(default_factory=dict)


def is_patch(text: str) -> bool:
    """Return whether a text is a patch, and no mere example."""
    lines = [line for line in text.split("\n") if line.strip()]
    return bool(lines) and all(line[0] in "-+ @" for line in lines) and any(line[0] in "-+" for line in lines)


def apply_patch(source: str, patch: str) -> str:
    """Return a source with a patch applied: the whole of it, or nothing.

    Parameters
    ----------
    source : str
        The text of a cell or a file.
    patch : str
        The `patch` of a cause of a `Diagnosis`.

    Raises
    ------
    InvalidInput
        It is no patch, a line of it is not in the source or is there more than once, or what would come out is no
        Python although the source is.
    """
    if not is_patch(patch):
        raise InvalidInput("this is no patch", hint="Give the patch of a cause: lines that begin with -, + or a blank.")
    rows = source.split("\n")
    edits = _located(rows, patch)
    done = list(edits.added.get(-1, []))
    for i, row in enumerate(rows):
        done += [] if i in edits.gone else [row]
        done += edits.added.get(i, [])
    text = "\n".join(done)
    if _parses(source) and not _parses(text):
        raise InvalidInput("the patch would leave code that is no Python", hint=_HINT)
    return text


def fits(source: str, patch: str) -> bool:
    """Return whether a patch can be applied to a source."""
    try:
        apply_patch(source, patch)
    except InvalidInput:
        return False
    return True


def _located(rows: list[str], patch: str) -> _Edits:
    edits, at, shift, used = _Edits(), -1, 0, set[int]()
    told: int | None = None
    for line in patch.split("\n"):
        header = _HEADER.match(line)
        if header is not None:
            told, at = int(header[1]) - 1, -2
            continue
        if not line.strip():
            continue
        sign, text = line[0], line[1:]
        if sign == "+":
            edits.added.setdefault(at, []).append(_shifted(text, shift))
            continue
        at = _row_of(rows, text, used, at, told)
        told = None
        used.add(at)
        shift = _indent(rows[at]) - _indent(text)
        if sign == "-":
            edits.gone.add(at)
    return edits


def _row_of(rows: list[str], text: str, used: set[int], last: int, told: int | None) -> int:
    """Return the row that a line of a patch means: the one it tells, the next one, or the only one of that text."""
    found = [i for i, row in enumerate(rows) if row.strip() == text.strip() and i not in used]
    if told in found and told is not None:
        return told
    if last >= 0 and last + 1 in found:
        return last + 1
    if len(found) != 1:
        many = "more than once" if found else "not"
        raise InvalidInput(f"the patch does not fit: the source has {many} the line {text.strip()[:80]!r}", hint=_HINT)
    return found[0]


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip())


def _shifted(text: str, by: int) -> str:
    """Return a line as far in as the source is, where that is written at another depth than the patch."""
    return " " * by + text if by > 0 else text[min(-by, _indent(text)) :]


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    return True
