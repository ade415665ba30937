"""Verbs of runs and of everything recorded: run, end, runs, find, show, lineage."""

from __future__ import annotations

from typing import Any

from nbops.verbs.grammar import Call, argument, verb
from nbops.verbs.words import UsageError, literal

_WHERE = argument("where", "a query: metrics.acc > 0.9 and params.lr < 0.1", form="expression", completes="fields")
_ORDER = argument("--order-by", "sort keys: 'metrics.acc desc, created_at'", completes="fields", values="KEYS")
_LAST = argument("--last", "show at most so many", kind=int, default=20, short="-n", values="N")


@verb(
    "run",
    argument("name", "name of the run, or path of a notebook to execute", form="optional", completes="notebooks"),
    argument("--param", "a parameter; may be repeated", form="pairs", short="-p"),
    argument("--tag", "a tag; may be repeated", form="pairs", short="-t"),
    argument("--data", "a dataset that the run uses; may be repeated", form="list", completes="datasets"),
    argument("--resume", "open this ended run again and go on with it", completes="runs", values="RUN"),
    argument("--attach", "log into this run, which another process has open", completes="runs", values="RUN"),
    argument("--quiet", "show no card at the end of the cell", form="flag", short="-q"),
    argument("--output", "notebook: where to write the executed copy", short="-o", completes="paths", values="PATH"),
    argument("--kernel", "notebook: kernel to use instead of its own", values="NAME"),
    argument("--timeout", "notebook: longest time for all cells, seconds", kind=float, values="S"),
    examples=("%%mlops run baseline --param lr 0.1", "%mlops run train.ipynb -p epochs 3", "%mlops run baseline"),
)
def run(
    call: Call,
    *,
    name: str | None,
    param: dict[str, str],
    tag: dict[str, str],
    data: list[str],
    resume: str | None,
    attach: str | None,
    quiet: bool,
    output: str | None,
    kernel: str | None,
    timeout: float | None,
) -> Any:
    """Track a cell, execute a notebook, or open a run that lasts until `end`."""
    only_notebook = {"--output": output, "--kernel": kernel, "--timeout": timeout}
    only_cell = {"--tag": tag, "--data": data, "--resume": resume, "--attach": attach, "--quiet": quiet}
    if name is not None and name.endswith(".ipynb"):
        if call.is_cell:
            raise UsageError(f"%%mlops run takes the name of a run, not the notebook '{name}'",
                             hint=f"Write %mlops run {name} on a line of its own.")  # fmt: skip
        _refuse(only_cell, f"belongs to a run of cells, not to the notebook '{name}'")
        from nbops.pipelines.steps import run_notebook

        return run_notebook(name, parameters=param, output=output, kernel_name=kernel, timeout_s=timeout, text=True)
    _refuse(only_notebook, "belongs to the run of a notebook")
    if call.namespace is None:
        raise UsageError(f"'{name or ''}' is no notebook", hint="Write nbops run NOTEBOOK.ipynb -p NAME VALUE")
    params = {key: literal(value) for key, value in param.items()}
    options: dict[str, Any] = {"params": params, "tags": tag, "data": data or None, "resume": resume, "attach": attach}
    if call.is_cell:
        call.open_cell_run(name, quiet=quiet, **options)
        return None
    from nbops.tracking.runs import start

    return start(name, **options)


def _refuse(options: dict[str, Any], why: str) -> None:
    for option, value in options.items():
        if value:
            raise UsageError(f"{option} {why}", hint="Leave it out.")


@verb(
    "end",
    argument("--status", "how it ended", default="FINISHED", choices=("FINISHED", "FAILED", "INTERRUPTED")),
    examples=("%mlops end",),
    is_notebook_only=True,
)
def end(call: Call, *, status: str) -> Any:
    """End the run that `%mlops run NAME` or nb.start opened."""
    from nbops.tracking.runs import end as end_run

    return end_run(status)


@verb(
    "runs", _WHERE, _ORDER, _LAST,
    examples=("%mlops runs", '%mlops runs metrics.acc > 0.9 and tags.team == "x" --order-by "metrics.acc desc"'),
)  # fmt: skip
def runs(call: Call, *, where: str, order_by: str | None, last: int) -> Any:
    """List runs, newest first."""
    return _table("runs", where, order_by, last)


@verb(
    "find",
    argument("kind", "runs, models, datasets, checks, diagnoses, artifacts, cells …", completes="kinds"),
    _WHERE, _ORDER, _LAST,
    examples=("%mlops find checks status == \"fail\"", "%mlops find cells --last 5"),
)  # fmt: skip
def find(call: Call, *, kind: str, where: str, order_by: str | None, last: int) -> Any:
    """List records of any kind."""
    return _table(kind, where, order_by, last)


def _table(kind: str, where: str, order_by: str | None, last: int) -> Any:
    from nbops.tracking.reading import find as find_records

    return find_records(kind, where or None, order_by=order_by, limit=last)


@verb(
    "show",
    argument("id", "an id (or its short form), name, name/version or model@alias", completes="ids"),
    examples=("%mlops show digits@prod", "%mlops show run_…7XK2QF"),
)
def show(call: Call, *, id: str) -> Any:
    """Show one record."""
    from nbops.verbs.finding import record_of

    return record_of(id)


@verb(
    "lineage",
    argument("id", "what to trace; the current or newest run if absent", form="optional", completes="ids"),
    examples=("%mlops lineage digits@prod",),
)
def lineage(call: Call, *, id: str | None) -> Any:
    """Show what something came from and what it led to."""
    from nbops.core.errors import NotFound
    from nbops.store.context import current_run
    from nbops.tracking.reading import find as find_records
    from nbops.tracking.reading import lineage as lineage_of
    from nbops.verbs.finding import record_of

    if id is None and current_run() is None:
        newest = find_records("runs", limit=1)
        if not newest:
            raise NotFound("nothing is recorded yet", hint="Open a run first.")
        return lineage_of(newest[0])
    return lineage_of(record_of(id or str(current_run())))


@verb(
    "autolog",
    argument("--off", "undo it", form="flag"),
    examples=("%mlops autolog", "%mlops autolog --off"),
    is_notebook_only=True,
)
def autolog(call: Call, *, off: bool) -> Any:
    """Let MLflow's clients and autologging in this kernel write into the workspace."""
    from nbops.tracking.autolog import autolog as set_up

    return set_up(off=off)
