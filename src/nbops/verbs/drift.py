"""The verb of drift."""

from __future__ import annotations

from typing import Any

from nbops.verbs.data import table_of
from nbops.verbs.grammar import Call, argument, verb


@verb(
    "drift",
    argument("reference", "what the data was like: a variable, or a dataset, name or name/version",
             completes="tables"),
    argument("current", "what it is like now: a variable, or a dataset", completes="tables"),
    argument("--column", "compare only this column; may be repeated", form="list", values="COLUMN"),
    argument("--label", "the label column", values="COLUMN"),
    argument("--by", "compare in chunks too: rows a chunk, or dates and a frequency, when:D", values="CHUNK"),
    argument("--multivariate", "let a classifier try to tell the sides apart", form="flag"),
    argument("--raise", "stop where a column drifts", form="flag"),
    argument("--name", "what to call the report"),
    examples=("%mlops drift train today", "%mlops drift digits/1 today --by 500",
              "%mlops drift sales/3 df --by when:W --label sold"),
)  # fmt: skip
def drift(
    call: Call, *, reference: str, current: str, column: list[str], label: str | None, by: str | None,
    multivariate: bool, name: str | None, **options: Any,
) -> Any:  # fmt: skip
    """Say which columns are no longer distributed as they were."""
    before, now = table_of(call, reference), table_of(call, current)
    from nbops.data.drifting.running import drift as compare

    return compare(
        before, now, columns=column or None, label=label, by=int(by) if by and by.isdigit() else by,
        multivariate=multivariate, name=name or "", on_drift="raise" if options["raise"] else "report",
    )  # fmt: skip
