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
