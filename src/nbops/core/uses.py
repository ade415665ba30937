"""Which versions of which datasets the output of a notebook cell was made from."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from nbops.core.records import Record


class DataUse(Record, frozen=True, kw_only=True):
    """The last execution of one cell that used data; the next one of that cell takes its place."""

    kind: ClassVar[str] = "use"
    prefix: ClassVar[str] = "use"

    cell_id: str
    notebook: str = ""  # path relative to the folder of the workspace
    parent: str | None = None  # run of the step, where the notebook was executed as one
    execution_count: int | None = None
    head: str = ""  # first line of the cell
    datasets: dict[str, int] = msgspec.field(default_factory=dict)  # name to version; empty once the cell uses none
    after: list[str] = msgspec.field(default_factory=list)  # cells that made what this one takes; no order

    @property
    def made_from(self) -> list[tuple[str, int]]:
        """Name and version of each dataset, by name."""
        return sorted((str(name), int(version)) for name, version in self.datasets.items())
