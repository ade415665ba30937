"""What is going on right now in this process: the current run, the executing cell, which run trained an object.

Floors above meet here instead of importing each other. Runs opened by ``with nb.run()`` live
in a context variable, so concurrent and async cells do not mix; generators share the context of
their caller, so a run opened in one is current while its frame executes. A run opened by
``nb.start()`` is the process's default.
"""

from __future__ import annotations

import inspect
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

from nbops.core.ids import new_id

PARENT_VARIABLE = "NBOPS_PARENT_RUN"
_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_blocks: ContextVar[tuple[RunBlock, ...]] = ContextVar("nbops_run_blocks", default=())  # innermost last
_default_run: str | None = None
_cell: CellRef | None = None  # the one that this process executes
_own_cell: ContextVar[CellRef | None] = ContextVar("nbops_cell", default=None)  # the one that started this task
_cell_watchers: list[Callable[[CellRef | None], None]] = []
_executed: deque[CellRef] = deque(maxlen=500)
_trained_in: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class CellRef:
    """One execution of a notebook cell; equal to no other. `execution` is its own word, none other's."""

    cell_id: str
    source: str = ""
    execution: str = field(default_factory=lambda: new_id("x")[-12:])

    @property
    def name(self) -> str:
        """What stands beside the points that it logs: ``cell_id#execution``."""
        return f"{self.cell_id}#{self.execution}"


class RunBlock:
    """One open ``with`` block of a run; `frame` is the generator that holds it, if one does."""

    __slots__ = ("frame", "is_open", "run")

    def __init__(self, run: str, frame: FrameType | None) -> None:
        self.run = run
        self.frame = frame
        self.is_open = True


def current_run() -> str | None:
    """Return the id of the innermost open run here, or None."""
    blocks = _blocks.get()
    if not blocks:
        return _default_run
    resting = None
    for block in reversed(blocks):
        if not block.is_open:  # left meanwhile by the task that opened it; this one was started inside
            continue
        frame = block.frame
        if frame is None or frame.f_back is not None:  # a frame that rests has no caller
            return block.run
        resting = resting or block.run
    return _default_run or resting


def set_default_run(run_id: str | None) -> None:
    """Make `run_id` current wherever no ``with nb.run()`` block is open."""
    global _default_run
    _default_run = run_id


def enter_run(run_id: str, *, frame: FrameType | None = None) -> RunBlock:
    """Make `run_id` current from here, until `leave_run`; `frame` is the one that holds the block."""
    block = RunBlock(run_id, _resting_place(frame))
    _blocks.set((*(known for known in _blocks.get() if known.is_open), block))
    return block


def leave_run(block: RunBlock) -> None:
    """End a block, in whatever order or context blocks end."""
    block.is_open, block.frame = False, None
    _blocks.set(tuple(known for known in _blocks.get() if known.is_open))


@contextmanager
def inside_run(run_id: str) -> Iterator[None]:
    """Make `run_id` current within the block."""
    block = enter_run(run_id)
    try:
        yield
    finally:
        leave_run(block)


def _resting_place(frame: FrameType | None) -> FrameType | None:
    """Return the generator that holds a block and may rest while the block is open; None for any other code.

    A generator made a context manager rests for the sake of its caller's block: that one counts.
    """
    while frame is not None and frame.f_code.co_flags & _GENERATOR:
        back = frame.f_back
        if back is None or back.f_globals.get("__name__") != "contextlib":
            return frame
        while back is not None and back.f_globals.get("__name__") == "contextlib":
            back = back.f_back
        frame = back
    return None


def current_cell() -> CellRef | None:
    """Return the cell that started this task, else the one that executes now; None outside a notebook."""
    return _own_cell.get() or _cell


def current_cell_id() -> str | None:
    """Return the id of that cell, or None."""
    cell = current_cell()
    return cell.cell_id if cell is not None else None


def set_cell(cell: CellRef | None) -> None:
    """Tell which cell executes; called by the notebook hooks."""
    global _cell
    _cell = cell
    _own_cell.set(cell)
    if cell is not None:
        _executed.append(cell)
    for tell in _cell_watchers:
        tell(cell)


def executed_cells() -> list[CellRef]:
    """Return the last 500 cells that began in this process, oldest first; the executing one is the last."""
    return list(_executed)


def watch_cells(tell: Callable[[CellRef | None], None]) -> None:
    """Call `tell` whenever a cell begins or ends, until `unwatch_cells`."""
    _cell_watchers.append(tell)


def unwatch_cells(tell: Callable[[CellRef | None], None]) -> None:
    """End what `watch_cells` began."""
    if tell in _cell_watchers:
        _cell_watchers.remove(tell)


class MetricListener(Protocol):
    """Who wants to know what the user logs while it is logged, and that a run is about to end."""

    def metrics_logged(self, run_id: str, metrics: dict[str, float]) -> None: ...

    def run_ending(self, run_id: str) -> None: ...


metric_listeners: list[MetricListener] = []  # empty almost always: whoever logs asks it first


def listen_to_metrics(listener: MetricListener) -> None:
    """Tell `listener` of each metric that is logged here, until `unlisten_to_metrics`."""
    metric_listeners.append(listener)


def unlisten_to_metrics(listener: MetricListener) -> None:
    """End what `listen_to_metrics` began."""
    if listener in metric_listeners:
        metric_listeners.remove(listener)


def note_run_of(thing: Any, run_id: str) -> None:
    """Remember that `thing` (a model) was trained in `run_id`, as long as it lives."""
    _trained_in[thing] = run_id


def run_of(thing: Any) -> str | None:
    """Return the run that `thing` was trained in, or None."""
    try:
        return _trained_in.get(thing)
    except TypeError:  # not hashable or not weakly referable: it was never noted
        return None
