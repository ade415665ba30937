"""Who acts: the name that stands in events and in the history of aliases.

A notebook or a script acts for one account. A server answers several people: what it writes for one of them is
written within `acting_as`, whose name lives in a context variable, so that requests side by side do not mix and a
thread that `asyncio.to_thread` lends carries it along. A thread that is started otherwise acts for the process.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

VARIABLES = ("NBOPS_USER", "JUPYTERHUB_USER")
_acting: ContextVar[str] = ContextVar("nbops_acting", default="")


def user() -> str:
    """Return for whom this code acts: the person of `acting_as`, else the process's user."""
    return _acting.get() or process_user()


def process_user() -> str:
    """Return ``NBOPS_USER``, else JupyterHub's user, else the account's name; empty if it has none."""
    return next((os.environ[name] for name in VARIABLES if os.environ.get(name)), "") or _account()


@contextmanager
def acting_as(name: str) -> Iterator[None]:
    """Let all that is written within the block, here and in what is awaited, be written by `name`; "" is the process.

    The block must end in the context in which it began: within one coroutine, or one function.
    """
    token = _acting.set(name)
    try:
        yield
    finally:
        _acting.reset(token)


@cache
def _account() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""  # a container's user without a name
