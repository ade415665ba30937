"""What is no problem here: rules that are not told again in this notebook, kept with the workspace.

A notebook is known by its path, as Jupyter tells it to the kernel, relative to the workspace's folder, so that a
checkout elsewhere has the same. Where the kernel is told no name, the notebooks of one folder share what is muted.
"""

from __future__ import annotations

import time
from fnmatch import fnmatchcase

from nbops.core.errors import StoreError
from nbops.core.ids import new_id
from nbops.core.mutes import Mute
from nbops.core.query import Compare, Field
from nbops.debugging.rules import rules
from nbops.store import discovery
from nbops.store.identity import user
from nbops.store.using import notebook_path

MUTED = "muted"  # status of a diagnosis that is listed and not told


_known: list[Mute] | None = None  # of this notebook; read when a finding first asks, and again after `forget`


def mute(rule: str, *, layer: str | None = None) -> Mute:
    """Do not tell a rule again in this notebook: not its warnings, and no stop, pause or rollback for its sake.

    What it finds is listed as muted, and steps whose gradients are not finite are not taken all the same.

    Parameters
    ----------
    rule : str
        Name of the rule, as in `nbops.rules`, or of one that reads the code.
    layer : str, optional
        Only in this layer, or in those that a glob pattern names; everywhere by default.

    Raises
    ------
    NotFound
        There is no such rule.
    """
    if rule not in rules:
        from nbops.debugging.reading.noting import readings  # loads torch

        if rule not in readings:
            raise rules.missing(rule)
    forget()
    known = next((one for one in _all() if (one.name, one.layer) == (rule, layer or "")), None)
    if known is not None:
        return known
    from nbops.store.workspace import workspace

    made = Mute(
        id=new_id(Mute.prefix),
        created_at=time.time(),
        name=rule,
        layer=layer or "",
        notebook=notebook_path(),
        actor=user(),
    )
    workspace().outbox.put(made, event="rule.muted", payload={"layer": made.layer, "notebook": made.notebook})
    _all().append(made)
    return made


def unmute(rule: str, *, layer: str | None = None) -> list[Mute]:
    """Tell a rule again in this notebook; return what is no longer muted.

    Parameters
    ----------
    rule : str
    layer : str, optional
        Only what was muted for this layer or pattern; all of the rule's by default.
    """
    from nbops.store.workspace import workspace

    forget()
    gone = [one for one in _all() if one.name == rule and layer in (None, one.layer)]
    for one in gone:
        workspace().store.delete(Mute, one.id)
        _all().remove(one)
    return gone


def mutes() -> list[Mute]:
    """Return what is muted in this notebook, newest first."""
    forget()
    return list(_all())


def is_muted(rule: str, layer: str) -> bool:
    """Return whether what `rule` finds in `layer` is not to be told here."""
    return any(one.name == rule and (not one.layer or fnmatchcase(layer, one.layer)) for one in _all())


def forget() -> None:
    """Read again at the next finding: another process may have written."""
    global _known
    _known = None


def _all() -> list[Mute]:
    global _known
    if _known is None:
        _known = _read()
    return _known


def _read() -> list[Mute]:
    """Return what was muted; nothing where there is no workspace yet, or where it is out of reach."""
    from nbops.store.workspace import is_open, workspace

    if not (is_open() or discovery.locate().is_dir()):
        return []
    try:
        return workspace().store.find(Mute, Compare(Field("notebook"), "==", notebook_path()))
    except StoreError:
        return []
