"""Verbs of looking at data: overview, dive, stale."""

from __future__ import annotations

from typing import Any

from nbops.verbs.grammar import Call, argument, verb


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
