"""Commands to a watched training, as records: which run listens, what was asked of it, and what came of that."""

from __future__ import annotations

import time
from dataclasses import dataclass

from nbops.core.commands import COMMANDS, Command
from nbops.core.errors import Conflict, InvalidInput, NotFound, did_you_mean
from nbops.core.ids import new_id
from nbops.core.query import Compare, Field
from nbops.core.records import Run, RunStatus, replace
from nbops.core.watches import CLOSED, WatchState
from nbops.store.identity import acting_as, user
from nbops.store.workspace import Workspace

_SHOWN = 20


@dataclass(frozen=True)
class Control:
    """How the watches of one run stand, and what was asked of them.

    Attributes
    ----------
    run : Run
    watches : list of WatchState
        Oldest first, also those that are closed.
    commands : list of Command
        The last twenty, newest first.
    """

    run: Run
    watches: list[WatchState]
    commands: list[Command]

    @property
    def is_heard(self) -> bool:
        """Whether somebody listens: the run is open, and one of its watches too."""
        return self.run.status is RunStatus.RUNNING and any(one.status != CLOSED for one in self.watches)


def control_of(ws: Workspace, run_id: str) -> Control:
    """Return how the watches of a run stand.

    Raises
    ------
    NotFound
        No such run.
    """
    run = ws.store.get(Run, run_id)
    mine = Compare(Field("parent"), "==", run_id)
    return Control(run, ws.store.find(WatchState, mine, limit=_SHOWN)[::-1], ws.store.find(Command, mine, limit=_SHOWN))


def ask(ws: Workspace, run_id: str, name: str, *, value: float | None = None) -> Command:
    """Ask a watched training for something, in the name of who acts now; it is done before its next step.

    Raises
    ------
    InvalidInput
        There is no such command, or it needs a number, or takes none.
    NotFound
        No such run.
    Conflict
        The run has ended, perhaps because its process died, or nothing listens in it.
    """
    if name not in COMMANDS:
        raise InvalidInput(f"there is no command '{name}'",
                           hint=did_you_mean(name, COMMANDS) or f"Use one of: {', '.join(COMMANDS)}")  # fmt: skip
    if name.startswith("set-") != (value is not None):
        what = "takes no number" if value is not None else "needs a number"
        raise InvalidInput(f"'{name}' {what}", hint=f"Write {name}{' 0.01' if value is None else ''}.")
    with acting_as(""):  # who asks has not ended the runs of dead processes
        ws.recover()
    control = control_of(ws, run_id)
    if control.run.status is not RunStatus.RUNNING:
        raise Conflict(f"run '{control.run.name}' is {control.run.status}",
                       hint="Only a run that is open can be controlled.")  # fmt: skip
    if not control.is_heard:
        raise Conflict(f"nothing listens in run '{control.run.name}'", hint="Watch its model: nb.watch(model).")
    command = Command(
        id=new_id(Command.prefix), created_at=time.time(), name=name, parent=run_id, value=value, actor=user()
    )
    ws.store.put(command)
    return command


def withdraw(ws: Workspace, command_id: str, *, run_id: str) -> Command:
    """Take a command back that was not carried out yet.

    Raises
    ------
    NotFound
        That run has no such command.
    Conflict
        Somebody has answered it.
    """
    by = user()
    if ws.store.get(Command, command_id).parent != run_id:
        raise NotFound(f"run '{run_id}' has no command '{command_id}'", hint="Name one of this run.")

    def taken_back(command: Command) -> Command:
        if command.status != "pending":
            raise Conflict(f"'{command.name}' was {command.status}", hint="Give another command.")
        return replace(command, status="withdrawn", note=f"by {by}")

    return ws.store.update(Command, command_id, taken_back)
