"""Where a labelling widget in the browser meets its session in the kernel: one comm, a few words in each direction.

The browser says ``answer``, ``skip``, ``undo`` or ``hello``; the kernel answers each with the whole state. What is
answered names the item that it is about, so that a late or doubled message labels nothing else. Nothing is imported
for this: a kernel brings its comm manager along, and elsewhere there is none.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nbops.core.errors import Conflict, NbopsError

if TYPE_CHECKING:
    from nbops.data.labels.session import LiveLabelling

MIME = "application/vnd.nbops.label+json"
TARGET = "nbops.label"

State = Callable[[Any], dict[str, Any]]
_open: dict[str, tuple[LiveLabelling, State]] = {}  # the newest session of each label set and annotator


def offer(session: LiveLabelling, state: State) -> str | None:
    """Let the browser talk to `session`; return the word by which it asks for it, None where there is no kernel.

    A session of the same label set and annotator supersedes the one before: an older output shows the newer one.
    """
    manager = _comm_manager()
    if manager is None:
        return None
    key = f"{session.record.id}/{session.annotator}"
    _open[key] = (session, state)
    manager.register_target(TARGET, _greet)
    return key


def _comm_manager() -> Any:
    found = sys.modules.get("IPython.core.getipython")
    shell = found.get_ipython() if found is not None else None
    return getattr(getattr(shell, "kernel", None), "comm_manager", None)


def _greet(comm: Any, message: Mapping[str, Any]) -> None:
    """Answer a browser that opens a comm, and whatever it says on it."""
    key = str(_data(message).get("session", ""))

    def hear(message: Mapping[str, Any]) -> None:
        comm.send(reply(key, _data(message)))

    comm.on_msg(hear)
    comm.send(reply(key, {"do": "hello"}))


def _data(message: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = message["content"]["data"]
    return found


def reply(key: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """Do what the browser said and return the state after it; what went wrong is part of it, and never raised."""
    if key not in _open:
        return {"gone": True}
    session, state = _open[key]
    wrong = ""
    with session.lock:
        try:
            _act(session, said)
        except Conflict:  # it was meant for another item: the state says which is there now
            pass
        except NbopsError as error:
            wrong = f"{error.message}. {error.hint}"
        except Exception as error:  # a full disk, somebody's function: it is told where it is seen
            wrong = f"{type(error).__name__}: {error}"
        return {**state(session), "wrong": wrong}


def _act(session: LiveLabelling, said: Mapping[str, Any]) -> None:
    do, item = said.get("do"), str(said.get("item", ""))
    seconds = said.get("seconds")
    took = float(seconds) if isinstance(seconds, int | float) else None
    if do == "answer":
        classes = [session.classes[int(at)] for at in said.get("classes", ())]
        session.answer(*classes, note=str(said.get("note", "")), duration_s=took, item=item)
    elif do == "skip":
        session.skip(duration_s=took, item=item)
    elif do == "undo":
        session.undo()
