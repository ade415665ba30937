"""The description of a card, from which `html` and `text` draw both forms, and the mime bundle of it.

A card is an answer first (head), evidence second (figures, then one picture or table), an
action third. Renderers build cards; they write no markup.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nbops.view.figures import Figure
from nbops.view.graphs import Graph

# what a state is called: sign, word, tone
_STATES = {
    "RUNNING": ("●", "running", "live"),
    "FINISHED": ("✓", "finished", "ok"),
    "FAILED": ("✕", "failed", "bad"),
    "INTERRUPTED": ("■", "interrupted", "warn"),
    "SUPERSEDED": ("↻", "superseded", "dim"),
    "pass": ("✓", "passed", "ok"),
    "skipped": ("–", "skipped", "dim"),
    "warn": ("!", "warning", "warn"),
    "fail": ("✕", "failed", "bad"),
    "error": ("✕", "error", "bad"),
    "warning": ("!", "warning", "warn"),
    "hint": ("i", "hint", "live"),
    "muted": ("–", "muted", "dim"),
    "open": ("●", "open", "live"),
    "paused": ("❚❚", "paused", "warn"),
    "closed": ("■", "closed", "dim"),
    "STARTING": ("●", "starting", "live"),
    "READY": ("✓", "ready", "ok"),
    "ready": ("✓", "ready", "ok"),
    "STOPPED": ("■", "stopped", "dim"),
    "DEAD": ("✕", "dead", "bad"),
    "ok": ("✓", "ok", "ok"),
    "pending": ("–", "pending", "dim"),
    "running": ("●", "running", "live"),
}


@dataclass(frozen=True)
class Chip:
    """A state as a sign and a word, never as a colour alone. Tones: ok, warn, bad, live, dim."""

    sign: str
    word: str
    tone: str

    def __str__(self) -> str:
        return f"{self.sign} {self.word}"


def chip(state: Any, word: str = "") -> Chip:
    """Return the chip of a state, optionally with other words; an unknown state is shown as it is called."""
    sign, known, tone = _STATES.get(str(state), ("·", str(state).lower(), "dim"))
    return Chip(sign, word or known, tone)


@dataclass(frozen=True)
class Mono:
    """Text in a fixed-width face: an id, a reference, code."""

    text: str


@dataclass(frozen=True)
class Drawing:
    """A small ``<svg>`` in a table's cell, and what stands there where no picture can be shown."""

    svg: str
    text: str


@dataclass(frozen=True)
class Key:
    """One key figure: the value with its unit, what it is, and a difference or a limit beside it."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Grid:
    """A table. `right` holds the numbers of the right-aligned columns, `sorted_by` the marked one."""

    head: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    right: frozenset[int] = frozenset()
    sorted_by: int = -1
    more: str = ""  # said below the rows when some are left out by the caller

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Note:
    """A sentence; tone ``dim`` for what is secondary, ``bad`` for an error."""

    text: str
    tone: str = ""


@dataclass(frozen=True)
class Facts:
    """Small pairs in one line: ``lr 0.1 · epochs 3`` after a title."""

    title: str
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Code:
    """Lines to type or to read, in a fixed-width block."""

    text: str


@dataclass(frozen=True)
class Picture:
    """A drawn ``<svg>`` (a heat map, parallel coordinates), and what it says as lines where no picture can be shown."""

    svg: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """The head of one of several things in a card: state, name, and the facts that place it."""

    title: str
    chip: Chip | None = None
    facts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """One entry of `Ranked`: what it is, how sure, and lines of ``(label, sentence)`` below it."""

    text: str
    note: str = ""
    lines: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Ranked:
    """A numbered list, first things first."""

    title: str
    items: tuple[Item, ...]


Part = Grid | Note | Facts | Code | Figure | Graph | Picture | Section | Ranked


@dataclass(frozen=True)
class Card:
    """What one value shows."""

    title: str
    chip: Chip | None = None
    id: str = ""
    facts: tuple[str, ...] = ()
    keys: tuple[Key, ...] = ()
    parts: tuple[Part, ...] = ()
    actions: tuple[str, ...] = ()  # lines to type next
