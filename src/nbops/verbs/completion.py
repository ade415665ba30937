"""What can follow in a line of verbs: fed from the same declarations as the parser."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nbops.verbs.grammar import Argument, Verb, verbs
from nbops.verbs.names import names_of

_LINE = re.compile(r"^\s*(?:[\w.,\[\]'\" ]+=\s*)?%%?mlops\s(?P<rest>.*)$", re.DOTALL)
_FIELD_END = re.compile(r"[^\w.]")


def complete_line(line: str, namespace: Mapping[str, Any] | None) -> tuple[str, list[str]] | None:
    """Return the fragment before the cursor and what can replace it, or None if it is not our line.

    Parameters
    ----------
    line : str
        The line up to the cursor: ``x = %mlops runs --la``.
    namespace : mapping or None
        The notebook's variables.
    """
    match = _LINE.match(line)
    return complete(match["rest"], namespace) if match else None


def complete(text: str, namespace: Mapping[str, Any] | None) -> tuple[str, list[str]]:
    """Return the fragment at the end of `text` and what can replace it; `text` begins with the verb."""
    words = text.split()
    fragment = words.pop() if words and not text[-1:].isspace() else ""
    if not words:
        return fragment, _starting(list(verbs), fragment)
    if words[0] not in verbs:
        return fragment, []
    found = verbs[words[0]]
    if found.name == "help":
        return fragment, _starting(list(verbs), fragment) if len(words) == 1 else []
    argument = _open_option(found, words)
    if argument is None and fragment.startswith("-"):
        return fragment, _starting(_options(found, words), fragment)
    count, is_open = _counted(found, words[1:])
    if argument is None and is_open:
        return fragment, []
    argument = argument or _positional(found, count)
    if argument is None:
        return fragment, _options(found, words) if not fragment else []
    if argument.form == "expression":
        fragment = _FIELD_END.split(fragment)[-1]
    names = list(argument.choices) or names_of(argument.completes, fragment, namespace)
    return fragment, _starting(names, fragment)


def _starting(names: list[str], fragment: str) -> list[str]:
    return [name for name in names if name.startswith(fragment)]


def _options(found: Verb, words: list[str]) -> list[str]:
    again = ("list", "pairs")
    return [a.name for a in found.arguments if a.is_option and (a.form in again or not set(a.flags) & set(words))]


def _open_option(found: Verb, words: list[str]) -> Argument | None:
    """Return the option whose value is being written."""
    for a in found.arguments:
        if a.is_option and a.form in ("one", "list") and words[-1] in a.flags:
            return a
    return None


def _counted(found: Verb, words: list[str]) -> tuple[int, bool]:
    """Return how many positional words there are, and whether an option still waits for a value."""
    takes = {flag: {"flag": 0, "pairs": 2}.get(a.form, 1) for a in found.arguments if a.is_option for flag in a.flags}
    count, skip = 0, 0
    for word in words:
        if skip:
            skip -= 1
        elif word.startswith("-") and word in takes:
            skip = takes[word]
        else:
            count += 1
    return count, skip > 0


def _positional(found: Verb, count: int) -> Argument | None:
    """Return the positional argument that comes after `count` others; the last one may take all the rest."""
    places = [a for a in found.arguments if not a.is_option]
    if count < len(places):
        return places[count]
    return places[-1] if places and places[-1].form in ("expression", "many") else None
