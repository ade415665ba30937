"""Cards of labels: those that are probably wrong, how far annotators agree, what weak sources are worth."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from nbops.core.display import Bundle
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Chip, Grid, Key, Note, Part
from nbops.view.format import cut, number, plural, quantity, text

if TYPE_CHECKING:
    from nbops.data.labels.agreement import Agreement
    from nbops.data.labels.combining import CombinedLabels
    from nbops.data.labels.confident import LabelIssues

_SHOWN, _WIDTH = 8, 24
_GOOD, _TENTATIVE = 0.8, 0.667  # Krippendorff's limits for conclusions, and for tentative ones


def show_issues(value: LabelIssues) -> Bundle:
    """Draw `LabelIssues`: how many, what is confused with what, and the likeliest rows."""
    parts: list[Part] = []
    pairs = Counter(zip(map(_label, value.given), map(_label, value.suggested), strict=True)).most_common(_SHOWN)
    if pairs:
        parts.append(
            Grid(("given", "probably", "rows"), tuple((a, b, f"{n:,}") for (a, b), n in pairs), frozenset({2}))
        )
        rows = tuple(
            (f"{row:,}", _label(given), _label(better), number(float(score)))
            for row, given, better, score in zip(
                value.rows[:_SHOWN], value.given[:_SHOWN], value.suggested[:_SHOWN], value.scores[:_SHOWN], strict=True)
        )  # fmt: skip
        left = len(value) - len(rows)
        more = f"… and {plural(left, 'more row')}: .rows, .to_pandas()" if left else ""
        parts.append(Grid(("row", "given", "probably", "probability as given"), rows, frozenset({0, 3}), 3, more))
        parts.append(Note("These are candidates: look at them before you change a label.", "dim"))
    chip = Chip("!", plural(len(value), "suspect"), "warn") if len(value) else Chip("✓", "no suspects", "ok")
    keys = (Key(quantity(value.noise, "share"), "estimated noise"),
            Key(quantity(len(value) / value.total, "share"), "of the labels"))  # fmt: skip
    return bundle(Card("labels", chip, "", (plural(value.total, "row"), plural(len(value.classes), "class")), keys,
                       tuple(parts)))  # fmt: skip


def show_agreement(value: Agreement) -> Bundle:
    """Draw an `Agreement`: alpha, kappa of each pair, and where they differ."""
    parts: list[Part] = []
    pairs = sorted(value.pairs.items(), key=lambda pair: (math.isnan(pair[1]), pair[1]))
    shown = tuple((text(a), text(b), _figure(kappa)) for (a, b), kappa in pairs[:_SHOWN])
    left = len(pairs) - len(shown)
    more = f"… and {plural(left, 'more pair')}" if left else ""
    parts.append(Grid(("annotator", "and", "Cohen's kappa"), shown, frozenset({2}), 2, more))
    if len(value.rows):
        some = ", ".join(f"{row:,}" for row in value.rows[:_SHOWN])
        parts.append(Note(f"They differ in {plural(len(value.rows), 'row')}: {some}"
                          + (" …" if len(value.rows) > _SHOWN else "")))  # fmt: skip
    keys = [Key(_figure(value.alpha), "Krippendorff's alpha"), Key(quantity(value.agreed, "share"), "of rows agreed")]
    if value.fleiss is not None:
        keys.append(Key(_figure(value.fleiss), "Fleiss' kappa"))
    facts = (plural(value.total, "row"), plural(len(value.names), "annotator"))
    return bundle(Card("agreement", _chip(value.alpha), "", facts, tuple(keys), tuple(parts)))


def _chip(alpha: float) -> Chip:
    if math.isnan(alpha):
        return Chip("–", "one label only", "dim")
    if alpha >= _GOOD:
        return Chip("✓", "agree", "ok")
    return Chip("!", "agree in part", "warn") if alpha >= _TENTATIVE else Chip("✕", "disagree", "bad")


def show_combined(value: CombinedLabels) -> Bundle:
    """Draw `CombinedLabels`: how many rows have a label, and what each source is worth."""
    rows = tuple(
        (text(one.name), quantity(one.coverage, "share"), quantity(one.overlap, "share"),
         quantity(one.conflict, "share"), quantity(one.accuracy, "share"))
        for one in sorted(value.sources, key=lambda one: -one.accuracy if not math.isnan(one.accuracy) else 1.0)
    )  # fmt: skip
    head = ("source", "coverage", "overlap", "conflict", "accuracy, estimated")
    left = len(rows) - 20
    more = f"… and {plural(left, 'more source')}" if left > 0 else ""
    counts = Counter(_label(label) for label in value.labels if label is not None).most_common(_SHOWN)
    said = ", ".join(f"{label} {n:,}" for label, n in counts)
    parts: tuple[Part, ...] = (Grid(head, rows[:20], frozenset({1, 2, 3, 4}), 4, more), Note(f"Labels: {said}", "dim"))
    how = f"Dawid–Skene, {plural(value.rounds, 'round')}" if value.rounds else "majority"
    keys = (Key(quantity(value.coverage, "share"), "of rows labelled"),)
    return bundle(Card("combined labels", Chip("✓", how, "ok"), "", (plural(len(value.labels), "row"),), keys, parts))


def _label(value: object) -> str:
    return cut(text(value), _WIDTH)


def _figure(value: float) -> str:
    return "—" if math.isnan(value) else f"{value:.3f}"
