"""Cards of a watched training's state, of commands to it, and of what is muted in it."""

from __future__ import annotations

from nbops.core.commands import Command
from nbops.core.display import Bundle
from nbops.core.ids import short_id
from nbops.core.mutes import Mute
from nbops.core.watches import PAUSED, WatchState
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Note, Part, chip
from nbops.view.format import number, when


def show_command(value: Command) -> Bundle:
    """Draw a `Command`: who asked for what, and what came of it."""
    said = f"{value.name} {number(value.value)}" if value.value is not None else value.name
    facts = [*([value.actor] if value.actor else []), when(value.created_at)]
    facts += [f"before step {value.step:,}"] if value.step is not None else []
    parts: tuple[Part, ...] = (Note(value.note),) if value.note else ()
    return bundle(Card(said, chip(value.status), short_id(value.id), tuple(facts), parts=parts))


def show_watch_state(value: WatchState) -> Bundle:
    """Draw a `WatchState`: whether it listens or waits, and the last change with who made it."""
    facts = [value.model, when(value.created_at)]
    facts += [f"learning rate {number(value.lr)}"] if value.lr is not None else []
    where = f"before step {value.step:,}" if value.step is not None else ""
    said = f"paused {where}: {value.note}" if value.status == PAUSED else ""
    last = value.changes[-1] if value.changes and not said else None
    if last is not None:
        said = f"{last.get('what')} {where}, by {value.actor}"
    parts: tuple[Part, ...] = (Note(said),) if said else ()
    action = f"nbops watch-control {value.parent} {'resume' if value.status == PAUSED else 'pause'}"
    actions = (action,) if value.parent and value.status != "closed" else ()
    return bundle(Card(value.name, chip(value.status), short_id(value.id), tuple(facts), (), parts, actions))


def show_mute(value: Mute) -> Bundle:
    """Draw a `Mute`: which rule is not told, where, and how it is told again."""
    where = value.layer or "everywhere"
    facts = tuple(fact for fact in (value.notebook, value.actor, when(value.created_at)) if fact)
    note = Note("It is listed and not told again here.", "dim")
    lift = f"%mlops watch-mute {value.name}{f' --layer {value.layer}' if value.layer else ''} --undo"
    return bundle(Card(f"{value.name}, {where}", chip("muted"), short_id(value.id), facts, (), (note,), (lift,)))
