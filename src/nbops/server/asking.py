"""Who asks, where Jupyter lets people in."""

from __future__ import annotations

import re
from typing import Any

from jupyter_server.auth.identity import IdentityProvider, PasswordIdentityProvider

from nbops.core.roles import Person
from nbops.server.access import Access
from nbops.store.identity import process_user

_ONE_FOR_ALL = (IdentityProvider, PasswordIdentityProvider)  # one token or password; names are made up per browser
_MADE_UP = re.compile(r"[0-9a-f]{32}")


class Asking:
    """What a handler in a Jupyter server knows of who asks; it comes before Jupyter's own class."""

    settings: dict[str, Any]
    _person: Person | None = None

    def person(self) -> Person:
        """Return who asks, with the role that they had when the request began to be answered."""
        if self._person is None:
            access: Access = self.settings["nbops_access"]
            self._person = access.person(name_of(self))
        return self._person


def name_of(handler: Any) -> str:
    """Return the name of who asks.

    That is the user name of Jupyter's identity provider. Jupyter's own providers know one token or password and no
    people, so whoever has it is the user of the server's process; so is a token's holder whom another provider gave a
    name that was made up. A cookie with such a name is not: it proves no token.
    """
    user = handler.current_user
    name = str(getattr(user, "username", user))
    if type(handler.identity_provider) in _ONE_FOR_ALL:
        return process_user()
    return process_user() if handler.token_authenticated and _MADE_UP.fullmatch(name) else name
