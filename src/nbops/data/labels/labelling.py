"""`nb.label`: items, classes and an order become a widget with which people label by keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nbops.core.errors import InvalidInput
from nbops.data.labels.choices import read_choices
from nbops.data.labels.confident import LabelIssues
from nbops.data.labels.items import read_items
from nbops.data.labels.keeping import open_set
from nbops.data.labels.queue import Taste, make_queue
from nbops.data.labels.session import LiveLabelling, Manner
from nbops.data.labels.suggesting import read_suggestions
from nbops.data.labels.uncertainty import Strategy
from nbops.store.identity import user
from nbops.store.workspace import workspace


def label(
    items: Any, *, name: str, classes: Sequence[Any] | Mapping[str, Any] | None = None,
    column: str | None = None, ids: str | Sequence[Any] | None = None,
    show: Callable[[Any], Any] | str | None = None, multi: bool = False, notes: bool = False, question: str = "",
    annotator: str | None = None, overlap: float = 1.0,
    order: Any = "given", strategy: Strategy = "entropy", every: int = 20, sample: float = 0.0, diversity: Any = None,
    suggest: Any = None, hide_suggestions: bool = False,
) -> LiveLabelling:  # fmt: skip
    """Label items by keys, in a widget that loses nothing.

    Each answer is in the workspace before the next item shows. Run the cell again, in whatever kernel, and it goes on
    where it was: items are known by their content, not by their row. In JupyterLab and Notebook 7 the widget takes keys
    and clicks; elsewhere the same is done by `answer`, `skip` and `undo` of what is returned.

    Parameters
    ----------
    items
        A list of texts, paths of pictures or sounds, arrays, PIL pictures or dicts; an array [items, height, width] or
        [items, height, width, channels]; a data frame, or a dataset by its record or ``"name/3"``. Equal items are
        labelled once.
    name : str
        Of the label set: the same name goes on with the same answers.
    classes : list or mapping
        Texts, numbers or booleans. A list gets the keys 1 to 9, then letters; ``{"p": "positive"}`` has its own.
    column : str, optional
        Of a data frame: what is shown. Without it a row is shown as a table.
    ids : str or list, optional
        What tells items apart instead of their content: a column of the frame, or one value for each item.
    show : callable or str, optional
        ``show(item)`` returns text or anything that a notebook can display; a text is a template: ``"{title}: {body}"``
        over the columns of a row.
    multi : bool
        Whether an item may have several classes, or none: keys toggle, Enter goes on.
    notes : bool
        Whether a remark can be written beside each answer.
    question : str
        What stands above the item.
    annotator : str, optional
        Who answers; the user's name if None.
    overlap : float, 0 to 1
        Share of the items that everybody labels, for `agreement`; each of the rest is labelled once, by whoever comes
        to it first.
    order : str, array, callable, tuple or LabelIssues
        ``"given"``; ``"random"``; probabilities [items, classes] or one figure for each item, the least sure first;
        ``(model, X)``, fitted anew to the answers; ``f(items, labels)``, which returns either of these with None for
        what has no label yet; `nb.label_issues` or an integer array: these rows only, in their order.
    strategy : {"entropy", "margin", "least-confidence"}
        How doubt is measured.
    every : int
        After so many answers a model or function is asked anew.
    sample : float, 0 to 1
        Share of the items that come by chance instead, evenly among the others: their answers are an honest sample.
    diversity : array, optional, [items, features]
        Of each `every` items, those come first that are also unlike each other.
    suggest : list, array, CombinedLabels, callable, list or mapping of callables, optional
        A class for each item or None, probabilities [items, classes], `nb.combine_labels`, or labelling functions
        ``f(item)`` that return a class or None; several are combined. With `nb.label_issues` as order, its repairs.
    hide_suggestions : bool
        Store the suggestions beside the answers without showing them, so that they sway nobody.

    Returns
    -------
    LiveLabelling

    Raises
    ------
    InvalidInput
        Classes, items or an order that cannot be used; the message says which.
    Conflict
        The label set has answers that these classes do not allow.
    NotFound
        No such column or dataset.

    Examples
    --------
    >>> import nbops as nb
    >>> nb.label(["good", "bad", "fine"], classes=["pos", "neg"], name="reviews")  # doctest: +SKIP
    """
    if classes is None and isinstance(order, LabelIssues):
        classes = order.classes
    choices = read_choices(classes)
    told = tuple(choice.label for choice in choices)
    found = read_items(items, column=column, ids=ids)
    who = _annotator(annotator)
    taste = Taste(strategy, every, _share(sample, "sample"), name)
    queue = make_queue(found, order, classes=told, taste=taste, diversity=diversity, is_multi=multi)
    suggestions = read_suggestions(suggest, order, found, classes=told, is_multi=multi)
    manner = Manner(show, notes, hide_suggestions, _share(overlap, "overlap"))
    ws = workspace()
    record = open_set(
        ws, name, classes=told, is_multi=multi, question=question, items=len(found), dataset=found.dataset
    )
    return LiveLabelling(
        ws, record, annotator=who, items=found, queue=queue, choices=choices, suggestions=suggestions, manner=manner
    )


def _annotator(name: str | None) -> str:
    who = user() if name is None else name
    if not isinstance(who, str) or not who.strip():
        raise InvalidInput(f"the annotator is {who!r}", hint="Say who labels: annotator='ada', or set NBOPS_USER.")
    return who.strip()


def _share(value: float, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidInput(f"{what} is {value!r}", hint="Pass a share from 0 to 1.")
    return float(value)
