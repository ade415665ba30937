"""What somebody said is no problem in a notebook: a rule of the debugger, everywhere or in some layers."""

from __future__ import annotations

from typing import ClassVar

from nbops.core.records import Record


class Mute(Record, frozen=True, kw_only=True):
    """One rule that is not told again in one notebook."""

    kind: ClassVar[str] = "mute"
    prefix: ClassVar[str] = "mute"

    name: str  # the rule
    layer: str = ""  # its layer, or a glob pattern; everywhere when empty
    notebook: str = ""  # path relative to the folder of the workspace; a folder where the notebook has no name
    actor: str = ""
