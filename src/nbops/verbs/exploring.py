"""Verbs of looking at data: overview, dive, stale."""

from __future__ import annotations

from typing import Any

from nbops.verbs.grammar import Call, argument, verb


@verb(
    "overview",
    argument("tables", "variables of the notebook, or datasets: name or name/version; the first is compared with",
             form="many", completes="tables"),
    argument("--name", "what to call it"),
    argument("--report", "write a page of all features to this file", completes="paths", values="FILE"),
    examples=("%mlops overview train val serving", "%mlops overview sales/3", "%mlops overview df --report df.html"),
)  # fmt: skip
def overview(call: Call, *, tables: list[str], name: str | None, report: str | None) -> Any:
    """Show tables side by side, the features that differ most first; of a dataset alone what was kept with it."""
    from nbops.data.overviews.making import overview as make
    from nbops.verbs.data import table_of

    given = {table: table_of(call, table) for table in tables}
    found = make(next(iter(given.values())) if len(given) == 1 else given, name=name or "")
    if report:
        found.report(report)
    return found


@verb(
    "dive",
    argument("data", "a variable of the notebook, or a dataset whose data is stored: name or name/version",
             completes="tables"),
    argument("--x", "column that goes across", values="COLUMN"),
    argument("--y", "column that goes up", values="COLUMN"),
    argument("--color", "column that colours", values="COLUMN"),
    argument("--facet", "column that makes a picture of its own for each value", values="COLUMN"),
    argument("--label", "the label column", values="COLUMN"),
    examples=("%mlops dive df", "%mlops dive sales --x price --color city --facet month"),
)  # fmt: skip
def dive(
    call: Call, *, data: str, x: str | None, y: str | None, color: str | None, facet: str | None, label: str | None
) -> Any:
    """Look into rows: counted by columns of your choice, and listed where you click."""
    from nbops.data.diving.dive import dive as look
    from nbops.verbs.data import table_of

    return look(table_of(call, data), x=x, y=y, color=color, facet=facet, label=label)


@verb(
    "stale",
    argument("notebook", "path of a notebook, relative to the workspace's folder; this one by default",
             form="optional", completes="paths"),
    argument("--all", "cells of all notebooks", form="flag"),
    examples=("%mlops stale", "%mlops stale --all"),
)  # fmt: skip
def stale(call: Call, *, notebook: str | None, all: bool) -> Any:
    """List the cells whose output was made from data that has a newer version."""
    from nbops.tracking.staleness import stale_cells

    everywhere = all or (notebook is None and call.namespace is None)
    return stale_cells("" if everywhere else notebook)
