"""Verbs of data: snapshot, check, datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbops.verbs.grammar import Call, argument, verb


@verb(
    "snapshot",
    argument("data", "a variable of the notebook, or the path of a file, a folder or a Delta table",
             completes="variables"),
    argument("--name", "name of the dataset; the variable's or the path's by default", completes="datasets"),
    argument("--source", "where the data comes from, in words or as a URL", values="TEXT"),
    argument("--label-set", "version of the labels", values="TEXT"),
    argument("--code", "git hash of the code that extracted it; told by itself inside a repository", values="TEXT"),
    argument("--key", "column that tells rows apart; may be repeated", form="list", values="COLUMN"),
    argument("--store", "store the data whatever its size: only what the version before does not have", form="flag"),
    examples=("%mlops snapshot df", "%mlops snapshot df --name digits --store", "%mlops snapshot images/ --store"),
)  # fmt: skip
def snapshot(
    call: Call, *, data: str, name: str | None, source: str | None, label_set: str | None, code: str | None,
    key: list[str], store: bool,
) -> Any:  # fmt: skip
    """Keep a table, or a folder of files, as a version of a dataset."""
    is_path = not _is_variable(call, data) and Path(data).exists()
    found: Any = Path(data) if is_path else call.variable(data)
    given = {"origin": source, "label_set": label_set, "extraction_code": code}
    told = {field: text for field, text in given.items() if text is not None}
    from nbops.data.datasets import snapshot as keep

    own = Path(data).resolve().stem if is_path else data.rpartition(".")[2]
    return keep(found, name or own, source=told or None, key=key or None, store=store or None)


@verb(
    "check",
    argument("data", "a variable of the notebook, a dataset whose data is stored (name or name/version), or the path of"
             " a folder of pictures", completes="tables"),
    argument("--baseline", "what to compare with: a variable, a dataset, or a folder", completes="tables",
             values="DATA"),
    argument("--label", "the label column", values="COLUMN"),
    argument("--time", "the column of when a row happened: series in time are checked as well", values="COLUMN"),
    argument("--series", "column that tells series apart; may be repeated", form="list", values="COLUMN"),
    argument("--suite", "rules: a variable that holds a suite, or a YAML file", completes="variables", values="SUITE"),
    argument("--environment", "where the data is used: rules for other environments are skipped", values="NAME"),
    argument("--only", "run only this check; may be repeated", form="list", completes="checks", values="CHECK"),
    argument("--name", "what to call the report"),
    examples=("%mlops check df", "%mlops check df --baseline digits/1 --label target", "%mlops check digits/2",
              "%mlops check photos/ --baseline photos-of-march/"),
)  # fmt: skip
def check(
    call: Call, *, data: str, baseline: str | None, label: str | None, time: str | None, series: list[str],
    suite: str | None, environment: str | None, only: list[str], name: str | None,
) -> Any:  # fmt: skip
    """Run the data checks, or the rules of a suite, on a table."""
    table = _table_or_folder(call, data)
    reference = _table_or_folder(call, baseline) if baseline is not None else None
    from nbops.data.checking import check as check_table
    from nbops.verbs.learning import suite_of

    rules = suite_of(call, suite) if suite is not None else only or None
    return check_table(
        table,
        suite=rules,
        baseline=reference,
        label=label,
        time=time,
        series=series or None,
        name=name or "",
        environment=environment or "",
    )


def _table_or_folder(call: Call, name: str) -> Any:
    """Return what `table_of` does, or the path of a folder that neither a variable nor a dataset is called like."""
    from nbops.core.errors import NbopsError

    try:
        return table_of(call, name)
    except NbopsError:
        if Path(name).is_dir():
            return Path(name)
        raise


def table_of(call: Call, name: str) -> Any:
    """Return the variable `name`, or `name` itself where it is a dataset; a variable comes first."""
    from nbops.core.errors import NotFound
    from nbops.core.records import Dataset
    from nbops.store.workspace import workspace
    from nbops.tracking.lineage import resolve

    if _is_variable(call, name):
        return call.variable(name)
    try:
        resolve(workspace(), name, kind=Dataset)
    except NotFound:
        if call.namespace is None:
            raise
        call.variable(name)  # says that there is no such variable either
    return name


def _is_variable(call: Call, name: str) -> bool:
    return call.namespace is not None and name.partition(".")[0] in call.namespace


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
