"""What may stand in the way of an alias: a score that was the best of too many looks at its sealed test set."""

from __future__ import annotations

from nbops.core.errors import Conflict, InvalidInput
from nbops.core.records import ModelVersion
from nbops.data.splits.sealing import looks_at, looks_of
from nbops.store.workspace import Workspace


def too_many_looks(ws: Workspace, version: ModelVersion, *, limit: int) -> str:
    """Return which sealed test set of a version's run was looked at more than `limit` times; "" for none.

    Every look counts, whoever took it: the score of a version is the best of all that were compared.
    """
    if limit < 1 or version.parent is None:
        return ""
    for look in looks_of(ws, version.parent):
        looks = looks_at(ws, look.digest)
        if looks > limit:
            return f"the test set of split '{look.split_name}' was looked at {looks:,} times, and {limit:,} are allowed"
    return ""


def let_through(
    ws: Workspace, version: ModelVersion, alias: str, *, limit: int | None, is_overridden: bool, reason: str
) -> str:
    """Return the reason to keep in the history of an alias, with what was overridden.

    Parameters
    ----------
    limit : int or None
        Looks that are allowed; None: as many as the setting ``max_test_looks`` says, 0: any number.

    Raises
    ------
    Conflict
        The test set was looked at too often, and that is not overridden.
    InvalidInput
        A limit below 0; an override without a reason.
    """
    if limit is not None and limit < 0:
        raise InvalidInput(f"max_looks is {limit}", hint="Pass how many looks are allowed; 0 for any number.")
    problem = too_many_looks(ws, version, limit=ws.settings.max_test_looks if limit is None else limit)
    if not problem:
        return reason
    if not is_overridden:
        raise Conflict(
            f"{version.ref} cannot become {version.name}@{alias}: {problem}",
            hint="Score it on a fresh test set, or say why it may pass: "
            f"nb.promote('{version.name}', {version.number}, '{alias}', override=True, reason=\"…\").",
        )
    if not reason.strip():
        raise InvalidInput("an override needs a reason", hint='Add reason="…": it is kept in the history of the alias.')
    return f"{reason} (overridden: {problem})"
