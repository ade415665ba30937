"""What is suggested for an item before anybody labels it: by rules of your own, by a model, or as a repair."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbops.core.errors import InvalidInput
from nbops.data.labels.classes import is_nothing
from nbops.data.labels.combining import CombinedLabels, combine_labels
from nbops.data.labels.confident import LabelIssues
from nbops.data.labels.items import Items, as_array

_ENOUGH = 2


@dataclass(frozen=True)
class Suggestion:
    """Classes that are suggested for an item, how sure that is (0 to 1, None if unknown), and the label it has now."""

    value: tuple[Any, ...]
    confidence: float | None = None
    given: Any = None


def read_suggestions(
    suggest: Any, order: Any, items: Items, *, classes: tuple[Any, ...], is_multi: bool
) -> dict[str, Suggestion]:
    """Return what is suggested, by item; see `nb.label` for what `suggest` may be.

    Raises
    ------
    InvalidInput
        Not one for each row, a class that there is not, a rule that fails, an unknown sort of suggestion.
    """
    if suggest is None and isinstance(order, LabelIssues):
        return _repairs(order, items, classes)
    if suggest is None:
        return {}
    rules = _rules(suggest)
    if rules is not None:
        suggest = _voted(rules, items, classes)
        rows: Sequence[str] = list(items.values)
    else:
        rows = items.ids
    labels, sure = _columns(suggest, classes)
    if len(labels) != len(rows):
        raise InvalidInput(f"suggest= has {len(labels):,} labels, and there are {len(rows):,} items",
                           hint="Give one for each item; None where there is none.")  # fmt: skip
    found: dict[str, Suggestion] = {}
    for id, label, confidence in zip(rows, labels, sure, strict=True):
        if is_nothing(label) or id in found:
            continue
        value = tuple(label) if is_multi and isinstance(label, list | tuple | set) else (label,)
        _check(value, classes)
        found[id] = Suggestion(value, confidence)
    return found


def _check(value: tuple[Any, ...], classes: tuple[Any, ...]) -> None:
    unknown = next((label for label in value if label not in classes), None)
    if unknown is not None:
        raise InvalidInput(f"the class {unknown!r} is suggested and is none of the classes",
                           hint=f"The classes are {list(classes)[:10]}.")  # fmt: skip


def _repairs(issues: LabelIssues, items: Items, classes: tuple[Any, ...]) -> dict[str, Suggestion]:
    found: dict[str, Suggestion] = {}
    for row, given, better in zip(issues.rows, issues.given, issues.suggested, strict=True):
        _check((better,), classes)
        found.setdefault(items.ids[int(row)], Suggestion((better,), None, given))
    return found


def _rules(suggest: Any) -> dict[str, Callable[[Any], Any]] | None:
    """Return the labelling functions by name; None if `suggest` holds labels."""
    if callable(suggest):
        suggest = [suggest]
    if isinstance(suggest, Mapping) and suggest and all(map(callable, suggest.values())):
        return {str(name): rule for name, rule in suggest.items()}
    if isinstance(suggest, list | tuple) and suggest and all(map(callable, suggest)):
        found: dict[str, Callable[[Any], Any]] = {}
        for at, rule in enumerate(suggest):
            name = getattr(rule, "__name__", "")
            found[name if name and name != "<lambda>" and name not in found else f"rule {at}"] = rule
        return found
    return None


def votes_of(rules: Mapping[str, Callable[[Any], Any]], values: Sequence[Any]) -> dict[str, list[Any]]:
    """Return what each labelling function says of each item: a class, or None.

    Raises
    ------
    InvalidInput
        A function failed.
    """
    found: dict[str, list[Any]] = {}
    for name, rule in rules.items():
        said = []
        for at, value in enumerate(values):
            try:
                said.append(rule(value))
            except Exception as error:
                raise InvalidInput(f"the rule '{name}' failed on item {at}: {type(error).__name__}: {error}",
                                   hint="Let it return None where it has nothing to say.") from error  # fmt: skip
        found[name] = said
    return found


def _voted(rules: Mapping[str, Callable[[Any], Any]], items: Items, classes: tuple[Any, ...]) -> Any:
    votes = votes_of(rules, list(items.values.values()))
    for said in votes.values():
        _check(tuple(label for label in said if not is_nothing(label)), classes)
    spoke = [said for said in votes.values() if not all(map(is_nothing, said))]
    if len(votes) < _ENOUGH or not spoke:
        return next(iter(votes.values()))
    return combine_labels(votes, classes=list(classes))


def _columns(suggest: Any, classes: tuple[Any, ...]) -> tuple[list[Any], list[float | None]]:
    """Return the label and the confidence of each row."""
    if isinstance(suggest, CombinedLabels):
        best = np.nanmax(np.nan_to_num(suggest.probabilities, nan=-1.0), axis=1)
        return suggest.labels, [float(share) if share >= 0 else None for share in best]
    if hasattr(suggest, "__array__") and as_array(suggest).ndim == 2:  # probabilities
        table = as_array(suggest)
        if table.shape[1] != len(classes) or not np.issubdtype(table.dtype, np.number):
            raise InvalidInput(f"suggest= has the shape {list(table.shape)}, and there are {len(classes)} classes",
                               hint="Give one column of probabilities for each class.")  # fmt: skip
        best = table.argmax(axis=1)
        shares = table[np.arange(len(table)), best]
        return [classes[code] for code in best], [None if math.isnan(share) else float(share) for share in shares]
    for method in ("to_list", "tolist"):
        if hasattr(suggest, method):
            suggest = getattr(suggest, method)()
    if isinstance(suggest, str) or not isinstance(suggest, list | tuple):
        raise InvalidInput(f"suggest= is a {type(suggest).__name__}",
                           hint="Pass labels, probabilities, nb.combine_labels(…), or functions.")  # fmt: skip
    return list(suggest), [None] * len(suggest)
