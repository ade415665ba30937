"""`nb.label`: items, classes and an order become a widget with which people label by keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nbops.core.errors import InvalidInput
from nbops.data.labels.choices import Choice, read_choices
from nbops.data.labels.confident import LabelIssues
from nbops.data.labels.items import Items, read_items
from nbops.data.labels.keeping import open_set
from nbops.data.labels.queue import Taste, make_queue
from nbops.data.labels.session import LiveLabelling, Manner
from nbops.data.labels.suggesting import read_suggestions
from nbops.data.labels.uncertainty import Strategy
from nbops.store.identity import user
from nbops.store.workspace import workspace


def label(
    items: Any, *, name: str, classes: Sequence[Any] | Mapping[str, Any] | None = None,
    column: str | None = None, ids: str | Sequence[Any] | None = None, show: Callable[[Any], Any] | str | None = None,
    multi: bool = False, notes: bool = False, question: str = "", annotator: str | None = None, overlap: float = 1.0,
    order: Any = "given", strategy: Strategy = "entropy", every: int = 20, sample: float = 0.0, diversity: Any = None,
    suggest: Any = None, hide_suggestions: bool = False,
) -> LiveLabelling:  # fmt: skip
    """Label items by keys; each answer is in the workspace before the next item shows.

    Run the cell again, in whatever kernel, and it goes on where it was: items are known by their content, not by their
    row. The widget works in JupyterLab and Notebook 7; `answer`, `skip` and `undo` of what is returned do the same.

    Parameters
    ----------
    items
        A list of texts, paths of pictures or sounds, arrays, PIL pictures or dicts; an array [items, height, width];
        a data frame, or a stored dataset: ``"name/3"``. Equal items are labelled once.
    name : str
        Of the label set: the same name goes on with the same answers.
    classes : list or mapping
        Texts, numbers or booleans. A list gets the keys 1 to 9, then letters; ``{"p": "positive"}`` has its own.
    column, ids : str, optional
        Of a frame: what is shown, instead of the row; what tells items apart, instead of their content (or a list).
    show : callable or str, optional
        ``show(item)`` returns what to display; a text is a template over the columns of a row: ``"{title}: {body}"``.
    multi, notes : bool
        Whether an item may have several classes, or none; whether a remark can be written beside each answer.
    question, annotator : str
        What stands above the item; who answers, the user if None.
    overlap : float, 0 to 1
        Share of the items that everybody labels; each of the rest is labelled once, by whoever comes to it first.
    order : str, array, callable, tuple or LabelIssues
        ``"given"``; ``"random"``; probabilities [items, classes] or one figure an item, the least sure first;
        ``(model, X)``, fitted to the answers; ``f(items, labels)`` that returns the like; issues or rows: only these.
    strategy, every : {"entropy", "margin", "least-confidence"}, int
        How doubt is measured; after so many answers a model or function is asked anew.
    sample : float, 0 to 1
        Share of the items that come by chance instead, evenly among the others: an honest sample.
    diversity : array, optional, [items, features]
        Of each `every` items, those come first that are also unlike each other.
    suggest : list, array, CombinedLabels, callable, list or mapping of callables, optional
        A class an item or None, probabilities, or functions ``f(item)`` that return a class or None, combined.
    hide_suggestions : bool
        Store suggestions beside the answers without showing them, so that they sway nobody.

    Returns
    -------
    LiveLabelling

    Raises
    ------
    InvalidInput, NotFound, Conflict
        Something that cannot be used; no such column or dataset; answers that these classes do not allow.
    """
    choices = read_choices(order.classes if classes is None and isinstance(order, LabelIssues) else classes)
    manner = Manner(show, notes, hide_suggestions, _share(overlap, "overlap"))
    taste = Taste(strategy, every, _share(sample, "sample"), name)
    found = read_items(items, column=column, ids=ids)
    return _opened(found, name, choices, _annotator(annotator), manner, taste, order, diversity, suggest, question,
                   multi)  # fmt: skip


def _opened(
    items: Items, name: str, choices: tuple[Choice, ...], annotator: str, manner: Manner, taste: Taste, order: Any,
    diversity: Any, suggest: Any, question: str, multi: bool,
) -> LiveLabelling:  # fmt: skip
    """Look at all that was given before anything is written, and open the label set."""
    classes = tuple(choice.label for choice in choices)
    queue = make_queue(items, order, classes=classes, taste=taste, diversity=diversity, is_multi=multi)
    suggestions = read_suggestions(suggest, order, items, classes=classes, is_multi=multi)
    ws = workspace()
    record = open_set(ws, name, classes=classes, is_multi=multi, question=question, items=len(items),
                      dataset=items.dataset)  # fmt: skip
    return LiveLabelling(ws, record, annotator=annotator, items=items, queue=queue, choices=choices,
                         suggestions=suggestions, manner=manner)  # fmt: skip


def _annotator(name: str | None) -> str:
    who = user() if name is None else name
    if not isinstance(who, str) or not who.strip():
        raise InvalidInput(f"the annotator is {who!r}", hint="Say who labels: annotator='ada', or set NBOPS_USER.")
    return who.strip()


def _share(value: float, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidInput(f"{what} is {value!r}", hint="Pass a share from 0 to 1.")
    return float(value)
