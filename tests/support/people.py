"""An identity provider for tests: people by name, as a hub has them."""

from __future__ import annotations

from typing import Any

from jupyter_server.auth import IdentityProvider, User


class People(IdentityProvider):
    """Knows people by name, as a hub does; a cookie with a made-up name stands for an old browser session."""

    async def get_user(self, handler: Any) -> User | None:
        scheme, _, name = handler.request.headers.get("Authorization", "").partition(" ")
        if scheme == "Person":
            handler._token_authenticated = True  # a script: no cookies, so no question where the page came from
            return User(name)
        return await self._get_user(handler)
