"""Verbs that go back to a run's notebook: reproducible, verify, rerun, checkout, diff."""

from __future__ import annotations

from typing import Any

from nbops.core.errors import InvalidInput
from nbops.core.records import Run
from nbops.verbs.grammar import Call, argument, verb

_RUN = argument("run", "name or id of a run (or its short form); the newest of a name", completes="runs")
_TIMEOUT = argument("--timeout", "longest time for all cells, seconds", kind=float, values="S")


def _run(text: str) -> Run:
    from nbops.store.workspace import workspace
    from nbops.tracking.history import run_of
    from nbops.verbs.finding import SHORT, record_of

    if not SHORT.fullmatch(text):
        return run_of(workspace(), text)
    found = record_of(text)
    if not isinstance(found, Run):
        raise InvalidInput(f"'{text}' is no run but of kind '{found.kind}'", hint="List the runs with: runs")
    return found


@verb("reproducible", _RUN, examples=("%mlops reproducible baseline",))
def reproducible(call: Call, *, run: str) -> Any:
    """Say whether a run would come out again from top to bottom, and if not, which cells are why."""
    from nbops.tracking.reproducibility import reproducible as judge

    return judge(_run(run))


@verb(
    "verify", _RUN,
    argument("--tolerance", "largest difference of a metric, relative to its size beyond 1", kind=float, values="X"),
    _TIMEOUT,
    examples=("%mlops verify baseline", "%mlops verify run_…7XK2QF --tolerance 0.001"),
)  # fmt: skip
def verify(call: Call, *, run: str, tolerance: float | None, timeout: float | None) -> Any:
    """Execute a run's notebook again in a fresh kernel and compare the metrics."""
    from nbops.pipelines.verifying import TOLERANCE
    from nbops.pipelines.verifying import verify as execute

    return execute(_run(run), tolerance=TOLERANCE if tolerance is None else tolerance, timeout_s=timeout)


@verb(
    "rerun", _RUN,
    argument("--param", "a parameter to change; may be repeated", form="pairs", short="-p"),
    _TIMEOUT,
    examples=("%mlops rerun baseline -p lr 0.01",),
)  # fmt: skip
def rerun(call: Call, *, run: str, param: dict[str, str], timeout: float | None) -> Any:
    """Execute a run's notebook again with other parameters."""
    from nbops.pipelines.verifying import rerun as execute

    return execute(_run(run), parameters=param, timeout_s=timeout, text=True)


@verb(
    "checkout", _RUN,
    argument("--to", "file or folder to write it to; a name made from the run's, here, if absent", completes="paths",
             values="PATH"),
    examples=("%mlops checkout baseline", "%mlops checkout baseline --to as-it-was.ipynb"),
)  # fmt: skip
def checkout(call: Call, *, run: str, to: str | None) -> Any:
    """Write the notebook of a run as it was; an existing file is never replaced."""
    from nbops.pipelines.captured import checkout as write

    return write(_run(run), to=to)


@verb(
    "diff",
    argument("a", "a run", completes="runs"), argument("b", "another run", completes="runs"),
    examples=("%mlops diff baseline wider",),
)  # fmt: skip
def diff(call: Call, *, a: str, b: str) -> Any:
    """Show two runs side by side: cells, parameters, environment, data and metrics."""
    from nbops.tracking.differences import diff as differ

    return differ(_run(a), _run(b))
