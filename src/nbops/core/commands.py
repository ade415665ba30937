"""Commands to a training that runs in another process: written as records, carried out at its next optimizer step."""

from __future__ import annotations

from typing import ClassVar

from nbops.core.records import Record

COMMANDS = ("pause", "resume", "step", "stop", "rollback", "set-lr", "set-batch-size")


class Command(Record, frozen=True, kw_only=True):
    """One command to a watched run: who asked for what, and what came of it."""

    kind: ClassVar[str] = "command"
    prefix: ClassVar[str] = "cmd"

    name: str  # one of COMMANDS
    status: str = "pending"  # pending, applied, refused, withdrawn
    parent: str | None = None  # run
    value: float | None = None
    actor: str = ""
    step: int | None = None  # optimizer step before which it was carried out
    note: str = ""  # what changed, or why it was refused
