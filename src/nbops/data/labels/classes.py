"""Labels as numbers: which classes there are, in which order, and what is no label at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from nbops.core.errors import InvalidInput


def is_nothing(value: Any) -> bool:
    """Return whether a value is no label: None, NaN, NA or NaT."""
    is_nan = isinstance(value, float) and value != value
    return value is None or is_nan or type(value).__name__ in ("NAType", "NaTType")


def numbered(labels: Iterable[Any], classes: Sequence[Any] | None) -> dict[Any, int]:
    """Return the number of each class: in the order of `classes`, or else of the labels, sorted.

    Raises
    ------
    InvalidInput
        Labels without an order, or one that is none of the classes.
    """
    found = dict.fromkeys(labels)
    try:
        names = list(classes) if classes is not None else sorted(found)
    except TypeError:
        raise InvalidInput("labels of several types have no order", hint="Pass classes= in their order.") from None
    number = {name: code for code, name in enumerate(names)}
    unknown = next((label for label in found if label not in number), None)
    if unknown is not None:
        raise InvalidInput(f"the label {unknown!r} is none of the classes", hint=f"The classes are {names[:10]}.")
    return number
