"""The order in which items come: as given, by chance, by a model's doubt that is asked anew, or chosen rows only.

An order depends on the items and the answers so far and on nothing else: a kernel that was killed goes on where it was.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbops.core.errors import InvalidInput
from nbops.data.labels.combining import CombinedLabels
from nbops.data.labels.confident import LabelIssues
from nbops.data.labels.items import Items
from nbops.data.labels.uncertainty import (
    Floats,
    Strategy,
    by_uncertainty,
    check_strategy,
    read_features,
    spread,
    uncertainty,
)

Scorer = Callable[[list[Any], list[Any]], Any]
_WORDS = ("given", "random")


@dataclass(frozen=True)
class Taste:
    """How to order.

    Attributes
    ----------
    strategy : str
        What a model's doubt is measured by.
    every : int
        After so many answers a model is asked anew.
    sample : float
        Share of the items that come by chance, evenly among the others.
    salt : str
        Another word draws others by chance: the name of the label set.
    """

    strategy: Strategy = "entropy"
    every: int = 20
    sample: float = 0.0
    salt: str = ""


@dataclass(eq=False)
class Queue:
    """The different items in the order in which they come.

    Attributes
    ----------
    ids : list of str
        The items that are to be labelled at all, in the order of the rows or of the rows chosen.
    sample : list of str
        Those that come by chance, in their order.
    scorer : callable or None
        Asked anew with the answers; None for an order that stays.
    """

    ids: list[str]
    sample: list[str]
    taste: Taste
    values: dict[str, Any]
    classes: tuple[Any, ...]
    scores: Floats | None = None
    features: Floats | None = None
    scorer: Scorer | None = None
    _known: dict[tuple[Any, ...], list[str]] = field(default_factory=dict)

    def order(self, answers: Sequence[tuple[str, list[Any]]]) -> list[str]:
        """Return the items that are not answered, next first.

        Parameters
        ----------
        answers : sequence of (item, classes)
            In the order in which they were given.
        """
        settled = answers[: len(answers) // self.taste.every * self.taste.every] if self.scorer is not None else []
        key = tuple((item, *map(str, value)) for item, value in settled)
        if key not in self._known:
            if len(self._known) > 1:
                self._known.pop(next(iter(self._known)))
            self._known[key] = self._ranked(dict(settled))
        done = {item for item, _ in answers}
        return [id for id in self._known[key] if id not in done]

    def _ranked(self, answers: dict[str, list[Any]]) -> list[str]:
        by_chance = set(self.sample)
        rows = [row for row, id in enumerate(self.ids) if id not in by_chance and id not in answers]
        scores = self._asked(answers) if self.scorer is not None else self.scores
        if scores is not None and self.features is not None:
            rows = spread(scores, self.features, rows, count=self.taste.every)
        elif scores is not None:
            rows = by_uncertainty(scores, rows)
        rest = [self.ids[row] for row in rows]
        return interleaved(rest, [id for id in self.sample if id not in answers], share=self.taste.sample)

    def _asked(self, answers: dict[str, list[Any]]) -> Floats | None:
        """Return what the model says with these answers; None while it has nothing to say."""
        assert self.scorer is not None  # noqa: S101 (for the type checker: asked only where there is one)
        labels = [answers.get(id) for id in self.ids]
        said = self.scorer([self.values[id] for id in self.ids], labels)
        if said is None:
            return None
        return uncertainty(said, strategy=self.taste.strategy, rows=len(self.ids), classes=len(self.classes))


def make_queue(
    items: Items, order: Any, *, classes: tuple[Any, ...], taste: Taste, diversity: Any = None, is_multi: bool = False
) -> Queue:
    """Return the queue of `items`; see `nb.label` for what `order` may be.

    Raises
    ------
    InvalidInput
        An order that is none, of the wrong shape, or rows that are not there; shares and counts out of range.
    """
    _check(taste)
    ids, firsts = list(items.values), items.first_rows
    rows = _chosen(order, len(items.ids))
    if rows is not None:
        ids = list(dict.fromkeys(items.ids[row] for row in rows))
        order = "given"
    elif isinstance(order, str):
        if order not in _WORDS:
            raise InvalidInput(f"order is {order!r}", hint='Use "given", "random", probabilities, a model or rows.')
        ids = ids if order == "given" else by_chance(ids, taste.salt)
    size = round(taste.sample * len(ids))
    queue = Queue(ids, by_chance(ids, f"{taste.salt} sample")[:size], taste, items.values, classes)
    if not isinstance(order, str):
        _score(queue, order, items, firsts, is_multi=is_multi)
    if diversity is not None:
        if queue.scores is None and queue.scorer is None:
            raise InvalidInput("diversity= needs an order by uncertainty", hint="Pass order= probabilities or a model.")
        queue.features = read_features(diversity, rows=len(items.ids), what="diversity=")[firsts]
    return queue


def _check(taste: Taste) -> None:
    check_strategy(taste.strategy)
    if not isinstance(taste.every, int) or taste.every < 1:
        raise InvalidInput(f"every is {taste.every!r}", hint="Ask the model anew after so many answers: every=20.")


def _chosen(order: Any, count: int) -> list[int] | None:
    """Return the rows that an order names, or None if it names none."""
    if isinstance(order, LabelIssues):
        if order.total != count:
            raise InvalidInput(f"the issues are of {order.total:,} labels, and there are {count:,} items",
                               hint="Pass the items in the rows that nb.label_issues was given.")  # fmt: skip
        order = order.rows
    dtype = getattr(order, "dtype", None)
    is_whole = str(dtype).startswith(("int", "uint")) if dtype is not None else (
        isinstance(order, list) and bool(order) and all(type(row) is int for row in order)
    )  # fmt: skip
    if not is_whole or np.ndim(order) != 1:
        return None
    rows = [int(row) for row in order]
    out = next((row for row in rows if not 0 <= row < count), None)
    if out is not None:
        raise InvalidInput(f"order= names row {out}, and the rows are 0 to {count - 1}", hint="Count rows from 0.")
    if not rows:
        raise InvalidInput("order= names no row", hint="There is nothing to label: look at what made it.")
    return rows


def _score(queue: Queue, order: Any, items: Items, firsts: list[int], *, is_multi: bool) -> None:
    if isinstance(order, CombinedLabels):
        order = order.probabilities
    if isinstance(order, tuple) and len(order) == 2 and hasattr(order[0], "fit"):
        features = read_features(order[1], rows=len(items.ids), what="the features in order=")[firsts]
        queue.scorer = _fitted(order[0], features, queue.classes, is_multi=is_multi)
    elif hasattr(order, "fit") and not callable(order):
        raise InvalidInput(f"order= is a {type(order).__name__} without what it learns from",
                           hint="Pass the model and one row of features an item: order=(model, X).")  # fmt: skip
    elif callable(order):
        queue.scorer = order if is_multi else _single(order)
    else:
        scores = uncertainty(order, strategy=queue.taste.strategy, rows=len(items.ids), classes=len(queue.classes))
        queue.scores = scores[firsts]


def _single(scorer: Scorer) -> Scorer:
    """Return a scorer that gives `scorer` one class an item, not a list of one."""
    return lambda items, labels: scorer(items, [label[0] if label else None for label in labels])


def _fitted(model: Any, features: Floats, classes: tuple[Any, ...], *, is_multi: bool) -> Scorer:
    """Return a scorer that fits a copy of `model` to the answers, once there are two classes."""
    if is_multi:
        raise InvalidInput("a model in order= learns one class an item", hint="Pass a function with multi=True.")
    if not hasattr(model, "predict_proba"):
        raise InvalidInput(f"a {type(model).__name__} gives no probabilities", hint="Use one with predict_proba.")

    def score(_: list[Any], labels: list[Any]) -> Any:
        known = [(row, classes.index(label[0])) for row, label in enumerate(labels) if label]
        rows, codes = [row for row, _ in known], [code for _, code in known]
        if len(set(codes)) < 2:
            return None
        learner = copy.deepcopy(model)
        learner.fit(features[rows], np.array(codes))
        table = np.zeros((len(labels), len(classes)))
        table[:, [int(code) for code in learner.classes_]] = learner.predict_proba(features)
        return table

    return score


def by_chance(ids: Sequence[str], salt: str) -> list[str]:
    """Return items in an order that only their ids and `salt` decide."""
    return sorted(ids, key=lambda id: hashlib.sha256(f"{salt}\0{id}".encode()).digest())


def share_of(ids: Sequence[str], share: float, salt: str) -> frozenset[str]:
    """Return a share of items that only their ids and `salt` decide: more items change nothing for those there."""
    limit = share * 2**64
    return frozenset(id for id in ids if int.from_bytes(hashlib.sha256(f"{salt}\0{id}".encode()).digest()[:8]) < limit)


def interleaved(rest: Sequence[str], sample: Sequence[str], *, share: float) -> list[str]:
    """Return both, with `share` of every stretch out of `sample` as long as there are both."""
    found: list[str] = []
    a, b = list(reversed(rest)), list(reversed(sample))
    while a or b:
        is_turn = int((len(found) + 1) * share + 1e-9) > int(len(found) * share + 1e-9)
        found.append((b if b and (is_turn or not a) else a).pop())
    return found
