"""The route that pauses, changes and stops a watched training: commands are records, which its kernel looks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from jupyter_server.auth.decorator import authorized
from jupyter_server.utils import url_path_join
from tornado import web

from nbops.core.errors import InvalidInput
from nbops.core.roles import Action
from nbops.server.access import allows, doing
from nbops.server.handlers import NbopsHandler

if TYPE_CHECKING:
    from nbops.core.commands import Command
    from nbops.core.watches import WatchState
    from nbops.store.workspace import Workspace

_STATE = ("id", "name", "model", "status", "step", "note", "actor", "lr")
_COMMAND = ("id", "name", "value", "status", "actor", "created_at", "step", "note")
_CHANGES = 20


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the body of a request asks a training for."""

    command: str
    value: float | None = None


class RunWatch(NbopsHandler):
    """``runs/ID/watch``: how the watches of a run stand, and what is asked of them."""

    @web.authenticated
    @authorized
    @doing(Action.READ)
    async def get(self, id: str) -> None:
        """Answer with watches, changes and commands, and whether whoever asks may give one."""
        await self.answer(lambda workspace: stand(workspace, id, may=allows(Action.CONTROL)))

    @web.authenticated
    @authorized
    @doing(Action.CONTROL)
    async def post(self, id: str) -> None:
        """Ask the training for ``{"command": "pause"}``; answer with the command, which waits for a step."""

        def write(workspace: Workspace) -> Any:
            from nbops.tracking.commanding import ask

            wish = _wish(self.request.body)
            return _row(ask(workspace, id, wish.command, value=wish.value), _COMMAND)

        await self.answer(write)

    @web.authenticated
    @authorized
    @doing(Action.CONTROL)
    async def delete(self, id: str) -> None:
        """Take back the command that ``?command=ID`` names, as long as it waits."""

        def write(workspace: Workspace) -> Any:
            from nbops.tracking.commanding import withdraw

            return _row(withdraw(workspace, self.get_query_argument("command", ""), run_id=id), _COMMAND)

        await self.answer(write)


def stand(workspace: Workspace, id: str, *, may: bool) -> dict[str, Any]:
    """Return how the watches of a run stand; `NotFound` for an unknown id."""
    from nbops.server.reading import plain
    from nbops.tracking.commanding import control_of

    control = control_of(workspace, id)
    return {
        "heard": control.is_heard,
        "may": may,
        "watches": [_row(one, _STATE) for one in control.watches],
        "changes": [plain(change) for one in control.watches for change in one.changes][-_CHANGES:],
        "commands": [_row(one, _COMMAND) for one in control.commands],
    }


def _row(record: Command | WatchState, fields: tuple[str, ...]) -> dict[str, Any]:
    from nbops.server.reading import plain

    return {name: plain(getattr(record, name)) for name in fields}


def _wish(body: bytes) -> Wish:
    try:
        return msgspec.json.decode(body, type=Wish)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the body is no command: {error}", hint='Send {"command": "pause"}.') from None


def control_routes(base_url: str) -> list[tuple[str, type[NbopsHandler]]]:
    """Return pattern and handler under ``base_url``."""
    return [(url_path_join(base_url, "nbops", "api", "v1", r"runs/([^/]+)/watch"), RunWatch)]
