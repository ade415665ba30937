"""Aliases: movable names of versions, with every setting kept. What a reference means is in `references`."""

from __future__ import annotations

import time

from nbops.core.errors import Conflict, InvalidInput, NotFound
from nbops.core.records import Alias, AliasMove, ModelVersion, replace
from nbops.models.gates import let_through
from nbops.models.names import check_alias_name, check_model_name
from nbops.models.references import alias_of, aliases_of, newest, version_of
from nbops.store.identity import user
from nbops.store.workspace import Workspace, workspace


def promote(
    name: str, version: int | str | ModelVersion, alias: str, *, reason: str = "", max_looks: int | None = None,
    override: bool = False,
) -> Alias:  # fmt: skip
    """Set an alias of a model to a version.

    Parameters
    ----------
    name : str
        The model.
    version : int, str or ModelVersion
        The version by number (``3``, ``"3"``, ``"digits/3"``) or as registered.
    alias : str
        ``"prod"``: what ``name@prod`` means from now on.
    reason : str
        Why, for the alias's history.
    max_looks : int, optional
        How often the sealed test set that the version's run was scored on may have been looked at, by anybody; 0: any
        number of times. By default the workspace's setting ``max_test_looks``.
    override : bool
        Let the version through although there were more looks; needs a `reason`, and is kept in the history.

    Returns
    -------
    Alias
        With its whole history; setting it to what it is already changes nothing.

    Raises
    ------
    NotFound
        No such model or version.
    InvalidInput
        A name that an alias cannot have, a version that is no number, or an override without a reason.
    Conflict
        The test set was looked at too often.
    """
    ws = workspace()
    check_model_name(name)
    found = version_of(ws, name, _number(name, version))
    with ws.store.transaction():
        return move(ws, found, alias, reason=reason, max_looks=max_looks, is_overridden=override)


def rollback(name: str, alias: str) -> Alias:
    """Set an alias back to the version that it named before, skipping versions that were deleted.

    A second rollback goes one further back: settings that were rolled back are not returned to.

    Raises
    ------
    NotFound
        No such alias.
    Conflict
        It has never named another version that still exists.
    """
    ws = workspace()
    check_model_name(name)
    check_alias_name(alias)
    with ws.store.transaction():
        _lock(ws, name, alias)
        setting = alias_of(ws, name, alias)
        if setting is None:
            known = ", ".join(f"'{a.alias}'" for a in aliases_of(ws, name)) or "none"
            raise NotFound(f"model '{name}' has no alias '{alias}'", hint=f"Use one that is set: {known}.")
        earlier = [number for number in _earlier(setting) if _exists(ws, name, number)]
        if not earlier:
            raise Conflict(
                f"{name}@{alias} has named no version but {setting.number} that still exists",
                hint=f"Choose one: nb.promote('{name}', number, '{alias}').",
            )
        reason = f"rollback from {setting.number}"
        return move(ws, version_of(ws, name, earlier[-1]), alias, reason=reason, is_rollback=True)


def move(
    ws: Workspace, version: ModelVersion, alias: str, *, reason: str = "", is_rollback: bool = False,
    max_looks: int | None = None, is_overridden: bool = False,
) -> Alias:  # fmt: skip
    """Set an alias within the open transaction, and tell it as the event ``alias.moved``; nothing bars a rollback."""
    name, number = version.name, version.number
    check_alias_name(alias)
    _lock(ws, name, alias)
    setting = alias_of(ws, name, alias)
    if setting is not None and setting.number == number:
        return setting
    if not is_rollback:
        reason = let_through(ws, version, alias, limit=max_looks, is_overridden=is_overridden, reason=reason)
    now = time.time()
    step = AliasMove(number=number, at=now, by=user(), reason=reason, is_rollback=is_rollback)
    if setting is None:
        # The id is made of the name, so that two first settings at once are one record.
        made = Alias(id=f"{Alias.prefix}_{name}@{alias}", created_at=now, name=f"{name}@{alias}", model=name,
                     alias=alias, number=number, history=[step])  # fmt: skip
    else:
        made = replace(setting, number=number, history=[*setting.history, step])
    before = None if setting is None else setting.number
    payload = {"name": name, "alias": alias, "number": number, "before": before, "reason": reason}
    ws.store.put(made, event="alias.moved", payload=payload)
    return made


def _lock(ws: Workspace, name: str, alias: str) -> None:
    """Let one writer at a time move this alias: the counter's row stays locked until the transaction ends."""
    ws.store.next_number(f"alias/{name}@{alias}")


def _earlier(setting: Alias) -> list[int]:
    """Return the versions that rollbacks can return to, nearest last."""
    stack: list[int] = []
    for step in setting.history:
        if step.is_rollback:
            while stack and stack[-1] != step.number:
                stack.pop()
        elif not stack or stack[-1] != step.number:
            stack.append(step.number)
    return [number for number in stack if number != setting.number]


def _exists(ws: Workspace, name: str, number: int) -> bool:
    try:
        version_of(ws, name, number)
    except NotFound:
        return False
    return True


def _number(name: str, version: int | str | ModelVersion) -> int:
    if isinstance(version, ModelVersion):
        if version.name != name:
            raise InvalidInput(f"{version.ref} is no version of '{name}'", hint=f"Pass a version of '{name}'.")
        return version.number
    text = str(version).removeprefix(f"{name}/")
    if isinstance(version, bool) or not text.isascii() or not text.isdecimal():
        newer = newest(workspace(), name)
        hint = f"Pass a number such as {newer.number if newer else 1}."
        raise InvalidInput(f"{version!r} is no version number of '{name}'", hint=hint)
    return int(text)
