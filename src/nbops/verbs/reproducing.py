"""Verbs that let a run come out again, or say why it would not: seed, reproducible, verify, fingerprint, diff …"""

from __future__ import annotations

from typing import Any

from nbops.core.errors import InvalidInput, NotFound
from nbops.core.records import Run
from nbops.verbs.grammar import Call, argument, verb

_RUN = argument("run", "name or id of a run (or its short form); the newest of a name", completes="runs")
_TIMEOUT = argument("--timeout", "longest time for all cells, seconds", kind=float, values="S")


def _run(text: str) -> Run:
    from nbops.store.workspace import workspace
    from nbops.tracking.code.history import run_of
    from nbops.verbs.finding import SHORT, record_of

    if not SHORT.fullmatch(text):
        return run_of(workspace(), text)
    found = record_of(text)
    if not isinstance(found, Run):
        raise InvalidInput(f"'{text}' is no run but of kind '{found.kind}'", hint="List the runs with: runs")
    return found


@verb(
    "seed",
    argument("value", "a whole number from 0", kind=int),
    argument("--fast", "leave torch its faster algorithms, which may differ from run to run", form="flag"),
    examples=("%mlops seed 42",),
    is_notebook_only=True,
)
def seed(call: Call, *, value: int, fast: bool) -> Any:
    """Seed all random generators of this notebook, and let the open run remember it."""
    from nbops.tracking.machine.seeding import seed as set_seed

    return set_seed(value, deterministic=not fast)


@verb("reproducible", _RUN, examples=("%mlops reproducible baseline",))
def reproducible(call: Call, *, run: str) -> Any:
    """Say whether a run would come out again from top to bottom, and if not, which cells are why."""
    from nbops.tracking.code.reproducibility import reproducible as judge

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
    "checkout",
    argument("what", "a run, by name or id, or a dataset: name or name/version; the newest of a name, runs first",
             completes="runs"),
    argument("--to", "file or folder to write it to; a name made from the run's or dataset's, here, if absent",
             completes="paths", values="PATH"),
    examples=("%mlops checkout baseline", "%mlops checkout baseline --to as-it-was.ipynb",
              "%mlops checkout images/2 --to images-of-then"),
)  # fmt: skip
def checkout(call: Call, *, what: str, to: str | None) -> Any:
    """Write the notebook of a run as it was, or the data of a dataset; what exists is never replaced."""
    from nbops.data.datasets import checkout as write_data
    from nbops.data.datasets import find_dataset
    from nbops.pipelines.captured import checkout as write

    try:
        found = _run(what)
    except NotFound:
        try:
            dataset = find_dataset(what)
        except NotFound:
            dataset = None
        if dataset is None:
            raise
        return write_data(dataset, to=to)
    return write(found, to=to)


@verb("fingerprint", _RUN, examples=("%mlops fingerprint baseline",))
def fingerprint(call: Call, *, run: str) -> Any:
    """Show a content hash each for a run's code, data, parameters, environment, model and results."""
    from nbops.tracking.code.fingerprints import fingerprint as take

    return take(_run(run))


@verb(
    "diff",
    argument("a", "a run; or a table: a variable or a dataset", completes="runs"),
    argument("b", "another one", completes="runs"),
    argument("--key", "of tables: column that tells rows apart; may be repeated", form="list", values="COLUMN"),
    argument("--tolerance", "how far apart the numbers of a watched layer may be", kind=float, default=0.001,
             values="SHARE"),
    examples=("%mlops diff baseline wider", "%mlops diff sales/1 sales/2 --key id", "%mlops diff before after"),
)  # fmt: skip
def diff(call: Call, *, a: str, b: str, key: list[str], tolerance: float) -> Any:
    """Show what differs between two runs (cells, parameters, environment, metrics, layers) or between two tables."""
    from nbops.tracking.code.differences import diff as differ

    return differ(_side(call, a), _side(call, b), tolerance=tolerance, key=key or None)


def _side(call: Call, name: str) -> Any:
    """Return a table that a variable holds, else the run of that name, else the name itself."""
    if call.namespace is not None and name.partition(".")[0] in call.namespace:
        return call.variable(name)
    try:
        return _run(name)
    except NotFound:
        return name
