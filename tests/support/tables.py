"""What a workspace's database holds, to be compared before and after."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from nbops.store.workspace import Workspace


def contents(workspace: Workspace) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table, with what the journal holds."""
    workspace.flush()
    with workspace.store.engine.connect() as connection:
        names = sa.inspect(connection).get_table_names()
        return {name: [tuple(row) for row in connection.execute(sa.text(f"select * from {name}"))] for name in names}
