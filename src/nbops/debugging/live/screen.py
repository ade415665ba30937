"""One output under the cell that trains, drawn again while it runs: at most four times a second, and within a budget.

Drawing happens at measured steps, in the thread that trains, so what is drawn is of one moment. After each, the next
one waits a hundred times as long as drawing took, so that it takes 1 % of the time. A notebook that nobody looks at
(papermill, nbconvert) gets one figure when its cell ends. Outside of a notebook nothing is shown.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from statistics import median
from typing import Any, Protocol

from nbops.core.display import mimebundle
from nbops.core.ids import new_id
from nbops.debugging.control.desk import is_interactive

SHORTEST_S = 0.25
BUDGET = 0.01  # share of the time that drawing may take
_DRAWN = 5  # so many durations are remembered


class Screen(Protocol):
    """Where figures are shown, and who says that a cell has ended."""

    def show(self, bundle: dict[str, Any], id: str, *, is_new: bool) -> None: ...
    def listen(self, ended: Callable[..., None]) -> None: ...
    def unlisten(self, ended: Callable[..., None]) -> None: ...
    def is_watched(self) -> bool: ...


class Notebook:
    """The outputs of the cell that executes in this kernel."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def show(self, bundle: dict[str, Any], id: str, *, is_new: bool) -> None:
        """Put out a bundle, or put it in the place of the one with that id."""
        self._shell.display_pub.publish(data=bundle, metadata={}, transient={"display_id": id}, update=not is_new)

    def listen(self, ended: Callable[..., None]) -> None:
        """Call `ended` after each cell."""
        self._shell.events.register("post_run_cell", ended)

    def unlisten(self, ended: Callable[..., None]) -> None:
        """End what `listen` began."""
        self._shell.events.unregister("post_run_cell", ended)

    def is_watched(self) -> bool:
        """Return whether somebody sits before the notebook."""
        return is_interactive()


def notebook() -> Notebook | None:
    """Return the notebook whose kernel this is, None anywhere else."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    shell = get_ipython()
    return Notebook(shell) if getattr(shell, "kernel", None) is not None else None


class Live:
    """The live output of one watch.

    Parameters
    ----------
    figure : callable
        Takes whether the training goes on; returns what is to be shown now.
    screen : Screen
    guard : context manager
        Within it an error of ours is noted instead of raised, where no step is around that does so.
    clock : callable
        Returns seconds.
    """

    def __init__(
        self, figure: Callable[..., Any], screen: Screen, *, guard: AbstractContextManager[None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:  # fmt: skip
        self._figure, self._screen, self._guard, self._clock = figure, screen, guard, clock
        self._durations: list[float] = []
        self._next_at = 0.0
        self._id = ""  # of the output under this cell; empty before it is there
        self._is_pending = self._is_over = False
        self._thread = 0
        self.was_shown = False
        self._is_warm = screen.is_watched()
        if self._is_warm:
            mimebundle(figure(is_running=True))  # what drawing needs is loaded before the training, not within it
        self._is_listening = True
        screen.listen(self.cell_ended)

    @property
    def wait_s(self) -> float:
        """Seconds from one drawing to the next."""
        return max(SHORTEST_S, median(self._durations) / BUDGET if self._durations else 0.0)

    def stepped(self) -> None:
        """Draw a step that was measured, unless the last drawing was a moment ago."""
        self._is_pending = True
        self._thread = threading.get_ident()
        if self._clock() >= self._next_at and self._screen.is_watched():
            self._draw(is_running=True)

    def cell_ended(self, *_: Any) -> None:
        """Draw what the cell did not show yet; what trains in the next cell is shown under that one."""
        if self._is_pending:
            with self._guard:
                self._draw(is_running=False)
        if self._thread == threading.get_ident():  # else a thread goes on training, and its output stays where it is
            self._id, self._next_at = "", 0.0
        if self._is_over:
            self._unlisten()

    def close(self) -> None:
        """Draw the last state, and draw no more. May be called twice."""
        if not self._is_over:
            self._is_over = True
            self._unlisten()
            if self._is_pending or self._id:
                with self._guard:
                    self._draw(is_running=False)

    def abandon(self) -> None:
        """The model is gone: what was not shown yet is shown when the cell ends."""
        self._is_over = True

    def _unlisten(self) -> None:
        if self._is_listening:
            self._is_listening = False
            self._screen.unlisten(self.cell_ended)

    def _draw(self, *, is_running: bool) -> None:
        began = self._clock()
        bundle = mimebundle(self._figure(is_running=is_running))
        is_new = not self._id
        self._id = self._id or new_id("live")
        self._screen.show(bundle, self._id, is_new=is_new)
        self.was_shown, self._is_pending = True, False
        ended = self._clock()
        if self._is_warm:
            self._durations = [*self._durations[1 - _DRAWN :], ended - began]
        self._is_warm = True
        self._next_at = began + self.wait_s
