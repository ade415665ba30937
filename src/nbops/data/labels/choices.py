"""The classes that an annotator chooses from, and the keys that choose them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nbops.core.errors import InvalidInput

KEPT = "n"  # goes to the note
_DIGITS = "123456789"
_LETTERS = "abcdefghijklmopqrstuvwxyz"  # without KEPT
_REFUSED = {" ": "Space skips", "?": "it shows the help", KEPT: "it goes to the note"}


@dataclass(frozen=True)
class Choice:
    """One class, and the key that chooses it; "" where there are more classes than keys."""

    label: Any
    key: str


def read_choices(classes: Any) -> tuple[Choice, ...]:
    """Return the choices of a list of classes, or of a mapping of keys to classes.

    Parameters
    ----------
    classes : list or mapping
        Texts, numbers or booleans. A list gets the keys 1 to 9, then letters; ``{"p": "positive"}`` has its own.

    Raises
    ------
    InvalidInput
        None or one class, the same twice, one that is neither text, number nor boolean, a key that cannot be used.
    """
    if classes is None or isinstance(classes, str) or not isinstance(classes, Iterable):
        raise InvalidInput(f"classes is {classes!r}", hint='Pass what to choose from: classes=["cat", "dog"].')
    labels = [_plain(label) for label in (classes.values() if isinstance(classes, Mapping) else classes)]
    if not labels:
        raise InvalidInput("there are no classes to choose from", hint='Pass classes=["cat", "dog"].')
    if len(labels) == 1:
        raise InvalidInput(f"there is one class only, {labels[0]!r}",
                           hint="Pass another one for what it is not.")  # fmt: skip
    for at, label in enumerate(labels):
        if not isinstance(label, str | int | float) or (isinstance(label, float) and not math.isfinite(label)):
            raise InvalidInput(f"the class {label!r} is neither text, a number nor a boolean",
                               hint="Use texts, and map them to what you need afterwards.")  # fmt: skip
        if label == "":
            raise InvalidInput("a class is empty text", hint="Give it a name.")
        if label in labels[:at] or str(label) in map(str, labels[:at]):
            raise InvalidInput(f"the class {label!r} is there twice", hint="Name each class once.")
    keys = _own_keys(classes) if isinstance(classes, Mapping) else [*_DIGITS, *_LETTERS][: len(labels)]
    keys += [""] * (len(labels) - len(keys))
    return tuple(Choice(label, key) for label, key in zip(labels, keys, strict=True))


def _plain(label: Any) -> Any:
    """Return a NumPy scalar as Python's."""
    return label.item() if hasattr(label, "item") and getattr(label, "ndim", None) == 0 else label


def _own_keys(classes: Mapping[Any, Any]) -> list[str]:
    keys = [str(key).lower() for key in classes]
    for at, key in enumerate(keys):
        if len(key) != 1 or not key.isprintable():
            raise InvalidInput(
                f"the key {key!r} is not one character", hint='Write {"p": "positive", "x": "negative"}.'
            )
        if key in _REFUSED:
            raise InvalidInput(f"the key {key!r} cannot choose a class: {_REFUSED[key]}", hint="Choose another one.")
        if key in keys[:at]:
            raise InvalidInput(f"the key {key!r} is there twice", hint="Upper and lower case are the same key.")
    return keys
