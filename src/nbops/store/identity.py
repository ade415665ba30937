"""Who acts: the name that stands in events and in the history of aliases."""

from __future__ import annotations

import getpass
import os
from functools import cache

VARIABLES = ("NBOPS_USER", "JUPYTERHUB_USER")


def user() -> str:
    """Return ``NBOPS_USER``, else JupyterHub's user, else the account's name; empty if it has none."""
    return next((os.environ[name] for name in VARIABLES if os.environ.get(name)), "") or _account()


@cache
def _account() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""  # a container's user without a name
