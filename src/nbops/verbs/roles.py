"""What `roles` shows: who may do what through the routes of the servers. Reading it makes no workspace."""

from __future__ import annotations

from dataclasses import dataclass

from nbops.core.display import Shown
from nbops.core.errors import InvalidInput
from nbops.core.roles import Role, Roles, allowed
from nbops.core.settings import read_settings
from nbops.store.discovery import locate
from nbops.store.identity import user
from nbops.store.workspace import is_open, workspace


@dataclass(frozen=True)
class Trust(Shown):
    """Roles as ``config.toml`` has them.

    Attributes
    ----------
    path : str
        The file.
    in_force : bool
        Whether it has the table; without it everybody may do everything.
    people : tuple of (str, Role)
        Who is named.
    default : Role
        What everybody else is.
    you : tuple of (str, Role)
        As whom this process acts.
    means : tuple of (Role, tuple of str)
        What each role may do besides what the one before it may.
    """

    path: str
    in_force: bool
    people: tuple[tuple[str, Role], ...]
    default: Role
    you: tuple[str, Role]
    means: tuple[tuple[Role, tuple[str, ...]], ...]

    def __repr__(self) -> str:
        if not self.in_force:
            return "Trust(no roles: everybody may do everything)"
        named = "".join(f"{name} {role}, " for name, role in self.people)
        return f"Trust({named}everybody else {self.default})"


def read_trust() -> Trust:
    """Return the roles of the workspace found from here.

    Raises
    ------
    InvalidInput
        ``config.toml`` cannot be used; servers let everybody read then, and no more.
    """
    path = (workspace().path if is_open() else locate()) / "config.toml"
    try:
        found = read_settings(path.read_text("utf-8") if path.exists() else "", {}).roles
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}", hint="Mend the file or its permissions.") from error
    roles = found or Roles({}, Role.APPROVER)
    means = tuple((role, tuple(action.value for action in allowed(role))) for role in Role)
    return Trust(
        str(path), found is not None, tuple(roles.people.items()), roles.default, (user(), roles.of(user())), means
    )
