"""Verbs of data: snapshot, check, datasets."""

from __future__ import annotations

from typing import Any

from nbops.verbs.grammar import Call, argument, verb


@verb(
    "snapshot",
    argument("variable", "the table: a variable of the notebook", completes="variables"),
    argument("--name", "name of the dataset; the variable's by default", completes="datasets"),
    argument("--source", "where the data comes from, in words or as a URL", values="TEXT"),
    argument("--key", "column that tells rows apart; may be repeated", form="list", values="COLUMN"),
    examples=("%mlops snapshot df", "%mlops snapshot df --name digits"),
    is_notebook_only=True,
)
def snapshot(call: Call, *, variable: str, name: str | None, source: str | None, key: list[str]) -> Any:
    """Keep a table as a version of a dataset."""
    table = call.variable(variable)
    from nbops.data.datasets import snapshot as keep

    return keep(table, name or variable.rpartition(".")[2], source=source, key=key or None)


@verb(
    "check",
    argument("data", "a variable of the notebook, or a dataset whose data is stored: name or name/version",
             completes="tables"),
    argument("--baseline", "what to compare with: a variable, or a dataset", completes="tables", values="DATA"),
    argument("--label", "the label column", values="COLUMN"),
    argument("--suite", "rules: a variable that holds a suite, or a YAML file", completes="variables", values="SUITE"),
    argument("--environment", "where the data is used: rules for other environments are skipped", values="NAME"),
    argument("--only", "run only this check; may be repeated", form="list", completes="checks", values="CHECK"),
    argument("--name", "what to call the report"),
    examples=("%mlops check df", "%mlops check df --baseline digits/1 --label target", "%mlops check digits/2"),
)  # fmt: skip
def check(
    call: Call, *, data: str, baseline: str | None, label: str | None, suite: str | None, environment: str | None,
    only: list[str], name: str | None,
) -> Any:  # fmt: skip
    """Run the data checks, or the rules of a suite, on a table."""
    table = table_of(call, data)
    reference = table_of(call, baseline) if baseline is not None else None
    from nbops.data.checking import check as check_table
    from nbops.verbs.learning import suite_of

    rules = suite_of(call, suite) if suite is not None else only or None
    return check_table(
        table, suite=rules, baseline=reference, label=label, name=name or "", environment=environment or ""
    )


def table_of(call: Call, name: str) -> Any:
    """Return the variable `name`, or `name` itself where it is a dataset; a variable comes first."""
    from nbops.core.errors import NotFound
    from nbops.core.records import Dataset
    from nbops.store.workspace import workspace
    from nbops.tracking.lineage import resolve

    if call.namespace is not None and name.partition(".")[0] in call.namespace:
        return call.variable(name)
    try:
        resolve(workspace(), name, kind=Dataset)
    except NotFound:
        if call.namespace is None:
            raise
        call.variable(name)  # says that there is no such variable either
    return name


@verb(
    "datasets",
    argument("where", 'a query: name == "digits" and rows > 1000', form="expression", completes="fields"),
    argument("--last", "show at most so many", kind=int, default=20, short="-n", values="N"),
    examples=("%mlops datasets", "%mlops datasets rows > 1000"),
)
def datasets(call: Call, *, where: str, last: int) -> Any:
    """List datasets, newest first."""
    from nbops.tracking.reading import find

    return find("datasets", where or None, limit=last)
