"""What a training step allocates and frees, in order, and what each piece was for. No torch here.

Pieces are numbered as they are allocated. What a piece was for is known at the end only: a tensor made in the backward
pass may turn out to be a gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

PARAMETERS, BUFFERS, BATCH = "parameters", "buffers", "batch"
GRADIENTS, STATE, ACTIVATIONS, TEMPORARY = "gradients", "optimizer state", "activations", "temporary"
SORTS = (PARAMETERS, BUFFERS, BATCH, GRADIENTS, STATE, ACTIVATIONS, TEMPORARY)
FORWARD, BACKWARD, STEP = "forward", "backward", "optimizer step"


@dataclass(frozen=True, slots=True)
class Piece:
    """One allocation: bytes, the phase of the step, and the module that was executing."""

    size: int
    phase: str
    module: str


@dataclass
class Trace:
    """The events of one step: a number is an allocation, its negative the release of that piece.

    Attributes
    ----------
    pieces : list of Piece
        By number, from 1; number 0 is none.
    events : list of int
    sorts : dict of int to str
        What a piece was for, as far as it is known otherwise than by its phase.
    """

    pieces: list[Piece] = field(default_factory=lambda: [Piece(0, "", "")])
    events: list[int] = field(default_factory=list)
    sorts: dict[int, str] = field(default_factory=dict)

    def allocate(self, size: int, *, phase: str, module: str = "") -> int:
        """Note an allocation and return its number."""
        self.pieces.append(Piece(size, phase, module))
        self.events.append(len(self.pieces) - 1)
        return len(self.pieces) - 1

    def release(self, number: int) -> None:
        """Note that a piece is gone."""
        self.events.append(-number)

    def scratch(self, size: int, *, phase: str, module: str) -> None:
        """Note what an operation takes and gives back while it runs."""
        if size:
            self.release(self.allocate(size, phase=phase, module=module))

    def insert(self, size: int, *, phase: str, between: tuple[int, int]) -> None:
        """Note a piece that was there between two events, by their index."""
        self.pieces.append(Piece(size, phase, ""))
        number = len(self.pieces) - 1
        self.events.insert(between[1], -number)
        self.events.insert(between[0], number)

    def sort_of(self, number: int) -> str:
        """Return what a piece was for."""
        known = self.sorts.get(number)
        if known is not None:
            return known
        return ACTIVATIONS if self.pieces[number].phase == FORWARD else TEMPORARY


@dataclass(frozen=True)
class Peak:
    """The moment at which most was allocated.

    Attributes
    ----------
    total : int, bytes
    phase : str
    parts : dict of str to int, bytes by what they were for
    modules : dict of str to int, bytes of activations by the module that made them
    """

    total: int
    phase: str
    parts: Mapping[str, int]
    modules: Mapping[str, int]


def curve(trace: Trace) -> Iterator[tuple[int, str]]:
    """Yield what is allocated after each event, in bytes, and the phase."""
    total, phase = 0, ""
    for number in trace.events:
        piece = trace.pieces[abs(number)]
        total += piece.size if number > 0 else -piece.size
        phase = piece.phase if number > 0 else phase
        yield total, phase


def peak_of(trace: Trace, *, since: int = 0) -> Peak:
    """Return the peak among the events from the index `since` on; what came before counts as allocated."""
    best, best_at, best_phase = 0, -1, ""
    for at, (total, phase) in enumerate(curve(trace)):
        if total > best and at >= since:
            best, best_at, best_phase = total, at, phase
    alive: set[int] = set()
    for number in trace.events[: best_at + 1]:
        alive.add(number) if number > 0 else alive.discard(-number)
    parts = dict.fromkeys(SORTS, 0)
    modules: dict[str, int] = {}
    for number in alive:
        piece, sort = trace.pieces[number], trace.sort_of(number)
        parts[sort] += piece.size
        if sort == ACTIVATIONS:
            modules[piece.module] = modules.get(piece.module, 0) + piece.size
    ordered = dict(sorted(modules.items(), key=lambda item: -item[1]))
    return Peak(best, best_phase, parts, ordered)
