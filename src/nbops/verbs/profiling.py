"""The verb profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbops.verbs.grammar import Call, argument, verb


@verb(
    "profile",
    argument("data", "a variable of the notebook, a Parquet or CSV file, or a dataset: name or name/version",
             completes="tables"),
    argument("--label", "the label column", values="COLUMN"),
    argument("--name", "what to call it in the report"),
    argument("--report", "write a page of all columns to this file", completes="paths", values="FILE"),
    examples=("%mlops profile df", "%mlops profile sales.parquet --report sales.html", "%mlops profile digits/2"),
)  # fmt: skip
def profile(call: Call, *, data: str, label: str | None, name: str | None, report: str | None) -> Any:
    """Profile a table: its columns, what they mean, and what stands out."""
    from nbops.data.profiles.making import profile as make

    found = make(_given(call, data), label=label, name=name or Path(data).name)
    if report:
        found.report(report)
    return found


def _given(call: Call, name: str) -> Any:
    """Return the variable `name`, or `name` itself where it is a file or a dataset; a variable comes first."""
    from nbops.core.errors import NotFound
    from nbops.data.datasets import find_dataset
    from nbops.data.sources import is_path

    if call.namespace is not None and name.partition(".")[0] in call.namespace:
        return call.variable(name)
    if is_path(name):
        return name
    try:
        return find_dataset(name)
    except NotFound:
        if call.namespace is None:
            raise
        return call.variable(name)  # says that there is no such variable either
