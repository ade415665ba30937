"""Who asks a server and what they may: roles from files that are read again when they change, and the check itself.

A file that cannot be read or used leaves reading and nothing else. How each server learns a person's name is its own.
"""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

from nbops.core.errors import InvalidInput, NbopsError, NotPermitted
from nbops.core.roles import Action, Person, Role, Roles
from nbops.core.settings import read_settings
from nbops.store.identity import acting_as

T = TypeVar("T")
Method = TypeVar("Method", bound=Callable[..., Any])
CONFIG = "config.toml"
_asking: ContextVar[Person | None] = ContextVar("nbops_asking", default=None)


class Watched(Generic[T]):
    """A small file that is read again whenever it is another one than last time.

    Parameters
    ----------
    path : Path
        The file.
    read : callable
        Makes a value of its text; raises `InvalidInput`.
    absent : T, optional
        The value while there is no file; without it, that is an error.
    """

    def __init__(self, path: Path, read: Callable[[str], T], *, absent: T | None = None) -> None:
        self.path = path
        self._read = read
        self._absent = absent
        self._stamp: tuple[int, ...] | None = None
        self._found: T | NbopsError | None = None
        self._lock = threading.Lock()

    def current(self) -> T:
        """Return the value of the file as it is now.

        Raises
        ------
        InvalidInput
            It is absent, cannot be read, or says what cannot be used.
        """
        with self._lock:
            stamp = self._stamp_now()  # before it is read: what is written meanwhile is seen at the next call
            if stamp != self._stamp or self._found is None:
                self._found, self._stamp = self._fresh(), stamp
            found = self._found
        if isinstance(found, NbopsError):
            raise InvalidInput(found.message, hint=found.hint)
        return found

    def _stamp_now(self) -> tuple[int, ...]:
        try:
            state = os.stat(self.path)
        except OSError as error:
            return (error.errno or 0,)
        return state.st_ino, state.st_size, state.st_mtime_ns, state.st_mode

    def _fresh(self) -> T | NbopsError:
        try:
            return self._read(self.path.read_text("utf-8"))
        except FileNotFoundError:
            if self._absent is not None:
                return self._absent
            return InvalidInput(f"there is no {self.path.name}", hint=f"Bring {self.path} back.")
        except OSError as error:
            return InvalidInput(f"{self.path.name} cannot be read: {error.strerror}", hint="Mend its permissions.")
        except UnicodeDecodeError:
            return InvalidInput(f"{self.path.name} is not UTF-8", hint="Save it as UTF-8.")
        except InvalidInput as error:
            return error


class Access:
    """What ``[roles]`` of a workspace's ``config.toml`` lets whom do.

    Roles that were seen once stay in force while the server runs: a file that is empty for the blink of an eye, while
    an editor saves it, must not open everything.

    Parameters
    ----------
    folder : Path
        The workspace; it need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._config: Watched[tuple[Roles | None]] = Watched(folder / CONFIG, _roles_in, absent=(None,))
        self._was_in_force = False

    def person(self, name: str) -> Person:
        """Return somebody whom Jupyter has let in, with the role that they have now."""
        try:
            (roles,) = self._config.current()
        except InvalidInput as error:
            return Person(name=name, role=Role.VIEWER, doubt=error.message, remedy=error.hint)
        if roles is not None:
            self._was_in_force = True
            return Person(name=name, role=roles.of(name))
        if self._was_in_force:
            doubt = f"the table [roles] has gone from {CONFIG}"
            remedy = "Put it back, or restart the server to do without roles."
            return Person(name=name, role=Role.VIEWER, doubt=doubt, remedy=remedy)
        return Person(name=name, role=Role.APPROVER, in_force=False)


def _roles_in(text: str) -> tuple[Roles | None]:
    return (read_settings(text, {}).roles,)


class Asked(Protocol):
    """A handler of a request that knows who asks."""

    def person(self) -> Person:
        """Return who asks."""

    def refuse(self, error: NbopsError) -> None:
        """Finish with an error."""


def doing(action: Action) -> Callable[[Method], Method]:
    """Return a decorator for a handler's method that does `action`: whose role is not enough is refused.

    It stands innermost, so that a server's own authentication and authorisation come first.
    """

    def wrap(method: Method) -> Method:
        @wraps(method)
        async def checked(handler: Asked, *args: Any, **kwargs: Any) -> None:
            person = handler.person()
            try:
                person.check(action)
            except NotPermitted as error:
                handler.refuse(error)
                return
            with answering(person, action):
                made = method(handler, *args, **kwargs)
                if inspect.isawaitable(made):
                    await made

        checked.action = action  # type: ignore[attr-defined]
        return cast(Method, checked)

    return wrap


@contextmanager
def answering(person: Person, action: Action) -> Iterator[None]:
    """Let what a request writes be written by the person who asks.

    What only reads writes nothing of its own. If the server has to write then (points that wait in the journal, the
    runs of a process that died), it is the server's doing.
    """
    token = _asking.set(person)
    try:
        with acting_as("" if action is Action.READ else person.name):
            yield
    finally:
        _asking.reset(token)


def allows(action: Action) -> bool:
    """Return whether whoever asks may do `action` too; so may all that is no request."""
    person = _asking.get()
    return person is None or (person.role.may(action) and not person.doubt)


def demand(action: Action) -> None:
    """Let whoever asks do `action` too, beyond what their request does anyway.

    Nothing happens outside a request.

    Raises
    ------
    NotPermitted
        Their role is not enough.
    """
    person = _asking.get()
    if person is not None:
        person.check(action)
