"""Verbs of splits: split, leaks."""

from __future__ import annotations

from typing import Any

from nbops.verbs.grammar import Call, argument, verb


@verb(
    "split",
    argument("variable", "the data: a variable of the notebook", completes="variables"),
    argument(
        "--test", "share of the rows to judge by, or with --time the moment it begins", default="0.2", values="SHARE"
    ),
    argument("--val", "share of the rows to choose by, or a moment", default="0", values="SHARE"),
    argument("--key", "column that tells rows apart; may be repeated", form="list", values="COLUMN"),
    argument("--stratify", "keep the shares within its values; may be repeated", form="list", values="COLUMN"),
    argument("--group", "column of what must not be cut; may be repeated", form="list", values="COLUMN"),
    argument("--time", "when a row happened; twice for begin and end", form="list", values="COLUMN"),
    argument("--gap", "with --time, leave out so much before each side: 7d, 12h, 30min", values="GAP"),
    argument("--folds", "divide train into so many folds", kind=int, values="N"),
    argument("--salt", "another word gives another split", default="", values="TEXT"),
    argument("--seal", "count each look at the test rows", form="flag"),
    argument("--name", "what to call the split"),
    examples=(
        "%mlops split df",
        "%mlops split df --test 0.1 --val 0.1 --key id",
        "%mlops split df --time date --gap 7d --seal",
    ),
    is_notebook_only=True,
)
def split(
    call: Call, *, variable: str, test: str, val: str, key: list[str], stratify: list[str], group: list[str],
    time: list[str], gap: str | None, folds: int | None, salt: str, seal: bool, name: str | None,
) -> Any:  # fmt: skip
    """Split data into train, val and test so that a row keeps its side."""
    data = call.variable(variable)
    from nbops.data.splits.making import split as make

    return make(
        data, test=_size(test), val=_size(val), key=key or None, stratify=stratify or None, group=group or None,
        time=time or None, gap=None if gap is None else _size(gap), folds=folds, salt=salt, seal=seal, name=name or "",
    )  # fmt: skip


@verb(
    "leaks",
    argument("train", "what is learned from: a variable of the notebook", completes="variables"),
    argument("test", "what is judged by: a variable of the notebook", completes="variables"),
    argument("--label", "the label column", values="COLUMN"),
    argument("--group", "column of what must be on one side only; may be repeated", form="list", values="COLUMN"),
    argument("--time", "when a row happened; twice for begin and end", form="list", values="COLUMN"),
    argument("--split", "an earlier split, by name: no row may have moved since", values="NAME"),
    argument(
        "--fitted",
        "a fitted scaler, imputer, pipeline …: a variable; may be repeated",
        form="list",
        completes="variables",
        values="VARIABLE",
    ),
    argument("--only", "run only this check; may be repeated", form="list", completes="checks", values="CHECK"),
    examples=("%mlops leaks train test --label y", "%mlops leaks train test --group patient --time date"),
    is_notebook_only=True,
)
def leaks(
    call: Call, *, train: str, test: str, label: str | None, group: list[str], time: list[str], split: str | None,
    fitted: list[str], only: list[str],
) -> Any:  # fmt: skip
    """Look for leaks between train and test."""
    from nbops.data.leakage.finding import leaks as look

    return look(call.variable(train), call.variable(test), label=label, group=group or None, time=time or None,
                split=split, fitted=[call.variable(name) for name in fitted] or None, suite=only or None)  # fmt: skip


def _size(word: str) -> Any:
    """Return a share as a number, a moment or a duration as text."""
    try:
        return float(word)
    except ValueError:
        return word
