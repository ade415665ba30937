"""Verbs of labels: label, labels."""

from __future__ import annotations

from typing import Any

from nbops.verbs.grammar import Call, argument, verb
from nbops.verbs.words import UsageError


@verb(
    "label",
    argument("variable", "the items: a variable of the notebook", completes="variables"),
    argument("--class", "what to choose from; twice or more", form="list", values="CLASS"),
    argument("--name", "name of the label set; the variable's by default", completes="labelsets"),
    argument("--column", "column of a data frame that is shown", values="COLUMN"),
    argument("--order", "given, random, or a variable with probabilities, rows or label issues", default="given",
             completes="variables", values="ORDER"),
    argument("--sample", "share of the items that come by chance instead", kind=float, default=0.0, values="SHARE"),
    argument("--overlap", "share of the items that everybody labels", kind=float, default=1.0, values="SHARE"),
    argument("--annotator", "who answers; the user's name by default"),
    argument("--question", "what stands above the item", default="", values="TEXT"),
    argument("--multi", "an item may have several classes, or none", form="flag"),
    argument("--notes", "a remark can be written beside each answer", form="flag"),
    examples=(
        "%mlops label texts --class pos --class neg",
        "%mlops label df --column text --class spam --class ham --name mails --order probabilities",
        "%mlops label texts --order issues",
    ),
    is_notebook_only=True,
)  # fmt: skip
def label(
    call: Call, *, variable: str, name: str | None, column: str | None, order: str, sample: float, overlap: float,
    annotator: str | None, question: str, multi: bool, notes: bool, **classes: list[str],
) -> Any:  # fmt: skip
    """Label items by keys; each answer is stored before the next item shows."""
    items = call.variable(variable)
    how = order if order in ("given", "random") else call.variable(order)
    from nbops.data.labels.confident import LabelIssues
    from nbops.data.labels.labelling import label as open_labels

    if not classes["class"] and not isinstance(how, LabelIssues):
        raise UsageError("'label' needs classes", hint="Write --class pos --class neg")
    return open_labels(
        items, name=name or variable.rpartition(".")[2], classes=classes["class"] or None, column=column, order=how,
        sample=sample, overlap=overlap, annotator=annotator, question=question, multi=multi, notes=notes,
    )  # fmt: skip


@verb(
    "labels",
    argument("name", "of the label set", form="optional", completes="labelsets"),
    argument("--save", "write the answers to a CSV or Parquet file", completes="paths", values="PATH"),
    argument("--snapshot", "keep the consensus as a version of the dataset NAME-labels", form="flag"),
    examples=("%mlops labels", "%mlops labels reviews", "%mlops labels reviews --save reviews.csv"),
)
def labels(call: Call, *, name: str | None, save: str | None, snapshot: bool) -> Any:
    """Show what was labelled and how far annotators agree; without a name, list the label sets."""
    from nbops.data.labels.labelset import labels as read
    from nbops.tracking.reading import find

    if name is None:
        return find("labelsets")
    found = read(name)
    if save is not None:
        found.save(save)
    return found.snapshot() if snapshot else found
