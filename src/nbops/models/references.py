"""References to registered models: ``name``, ``name@alias``, ``name/3``."""

from __future__ import annotations

from nbops.core.errors import InvalidInput, NotFound, did_you_mean
from nbops.core.query import Both, Compare, Field, Order
from nbops.core.records import Alias, ModelVersion
from nbops.models.names import LATEST, check_alias_name, check_model_name
from nbops.store.workspace import Workspace

DEFAULT_ALIAS = "prod"
_HINT = "Write a reference as name, name@alias or name/3."
_BY_NUMBER = [Order(Field("number"), descending=True)]


def parse_reference(ref: str) -> tuple[str, str, int | None]:
    """Return (name, alias or "", number or None) of a reference.

    Raises
    ------
    InvalidInput
        The text is no reference.
    """
    if not isinstance(ref, str) or not ref.strip():
        raise InvalidInput(f"{ref!r} is no reference to a model", hint=_HINT)
    text = ref.strip()
    if "@" in text and "/" in text:
        raise InvalidInput(f"'{text}' names both an alias and a number", hint=_HINT)
    name, _, alias = text.partition("@")
    name, slash, number = name.partition("/")
    check_model_name(name)
    if "@" in text:
        return name, alias if alias == LATEST else check_alias_name(alias), None
    if slash:
        if not number.isascii() or not number.isdecimal() or int(number) < 1:
            raise InvalidInput(f"'{number}' in '{text}' is no version number", hint=_HINT)
        return name, "", int(number)
    return name, "", None


def resolve(ws: Workspace, ref: str | ModelVersion) -> ModelVersion:
    """Return the version that a reference means now.

    Parameters
    ----------
    ws : Workspace
        Where it is looked up.
    ref : str or ModelVersion
        ``name/3`` always means that version; ``name@alias`` what the alias is set to;
        ``name@latest`` the highest number; ``name`` the alias ``prod`` where it is set, else the
        highest number.

    Raises
    ------
    NotFound
        No such model, alias or number, with the nearest name as a hint.
    InvalidInput
        The text is no reference.
    """
    if isinstance(ref, ModelVersion):
        return ref
    name, alias, number = parse_reference(ref)
    if number is not None:
        return version_of(ws, name, number)
    if alias == LATEST:
        return _highest(ws, name)
    setting = alias_of(ws, name, alias or DEFAULT_ALIAS)
    if setting is not None:
        return version_of(ws, name, setting.number)
    if not alias:
        return _highest(ws, name)
    _highest(ws, name)  # an unknown model is told before an unknown alias
    known = sorted(a.alias for a in aliases_of(ws, name))
    hint = did_you_mean(alias, known) or (f"Use one of: {', '.join(known)}." if known else "")
    raise NotFound(
        f"model '{name}' has no alias '{alias}'", hint=hint or f"Set it: nb.promote('{name}', 1, '{alias}')."
    )


def version_of(ws: Workspace, name: str, number: int) -> ModelVersion:
    """Return one version by number, or raise `NotFound` naming those that exist."""
    where = Both("and", (Compare(Field("name"), "==", name), Compare(Field("number"), "==", number)))
    found = ws.store.find(ModelVersion, where, limit=1)
    if found:
        return found[0]
    highest = _highest(ws, name)
    if number > highest.number:
        raise NotFound(f"model '{name}' has no version {number}", hint=f"Use {highest.ref}, the newest.")
    raise NotFound(f"version {number} of model '{name}' was deleted", hint=f"Use {highest.ref}, the newest.")


def _highest(ws: Workspace, name: str) -> ModelVersion:
    found = newest(ws, name)
    if found is not None:
        return found
    names = {version.name for version in ws.store.find(ModelVersion, limit=10_000)}
    if not names:
        raise NotFound(
            f"no model '{name}': none is registered", hint="Register one: nb.register(model, name, example=rows)."
        )
    hint = did_you_mean(name, names) or f"Use one of: {', '.join(sorted(names)[:10])}."
    raise NotFound(f"no model '{name}'", hint=hint)


def newest(ws: Workspace, name: str) -> ModelVersion | None:
    """Return the version with the highest number, or None."""
    found = ws.store.find(ModelVersion, Compare(Field("name"), "==", name), order_by=_BY_NUMBER, limit=1)
    return found[0] if found else None


def aliases_of(ws: Workspace, name: str) -> list[Alias]:
    """Return the aliases of a model."""
    return ws.store.find(Alias, Compare(Field("model"), "==", name))


def alias_of(ws: Workspace, name: str, alias: str) -> Alias | None:
    """Return one alias of a model, or None."""
    found = ws.store.find(Alias, Compare(Field("name"), "==", f"{name}@{alias}"), limit=1)
    return found[0] if found else None
