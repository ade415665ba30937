"""The verb that puts runs side by side: compare."""

from __future__ import annotations

from typing import Any

from nbops.verbs.grammar import Call, argument, verb


@verb(
    "compare",
    argument("runs", "names, ids (or their short form), model references, or one quoted query", form="many",
             completes="runs", values="RUN"),
    argument("--metric", "compare only this, the most interesting first; may be repeated", form="list", short="-m",
             completes="metrics"),
    examples=(
        "%mlops compare baseline wider --metric val_acc",
        "%mlops compare digits@prod run_…7XK2QF",
        "%mlops compare \"tags.sweep == 'a'\" -m val_acc",
    ),
)  # fmt: skip
def compare(call: Call, *, runs: list[str], metric: list[str]) -> Any:
    """Compare runs: what differs, how far each came, which parameter matters, what is in production."""
    from nbops.tracking.comparing.comparison import compare as compare_runs
    from nbops.verbs.finding import SHORT, record_of

    named = [record_of(word) if SHORT.fullmatch(word) else str(word) for word in runs]
    return compare_runs(*named, metrics=metric or None)
