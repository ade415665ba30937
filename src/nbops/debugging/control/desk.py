"""The desk of one watch: breakpoints, the pause at an optimizer's step, commands, and functions on layers."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from nbops.core.commands import Command
from nbops.core.errors import NbopsError, StopAsked, TrainingStopped
from nbops.debugging.control.changes import Change, checked_rate, checked_size, set_rate, set_size
from nbops.debugging.control.conditions import Condition
from nbops.debugging.control.polling import answer, is_withdrawn
from nbops.debugging.control.reporting import Reporter
from nbops.debugging.control.watchpoints import Glance, Watchpoint, number_of, outputs_of
from nbops.debugging.findings import warn
from nbops.debugging.measuring import Owned
from nbops.debugging.tracks import Track, rates_of
from nbops.debugging.views import StepView

PAUSE_S = 3600.0  # longest pause in a notebook
_LOOK_S = 0.25


class Watched(Protocol):
    """What the desk needs of a session."""

    samplers: weakref.WeakKeyDictionary[Any, weakref.ref[Any] | None]
    run_id: str | None
    last_view: StepView | None
    errors: list[str]

    def optimizers(self) -> list[torch.optim.Optimizer]: ...
    def roll_back(self, optimizer: torch.optim.Optimizer) -> str: ...
    def record(self, name: str, value: float, step: int) -> None: ...


@dataclass
class Breakpoint:
    """A condition, and what to do when it becomes true; it fires again only after it was false."""

    condition: Condition
    then: Callable[[Any], Any] | None
    is_armed: bool = True
    hits: int = 0


class Desk:
    """What can be asked of a running training.

    Parameters
    ----------
    pause_s : float or None, seconds
        Longest pause; None: an hour where somebody can answer, none (a pause stops the loop) in a script or papermill.
    reporter : Reporter
        Tells others what was changed.
    """

    def __init__(self, *, pause_s: float | None, reporter: Reporter) -> None:
        self.handle: weakref.ref[Any] | None = None  # what a breakpoint's function is given
        self.breakpoints: list[Breakpoint] = []
        self.watchpoints: list[Watchpoint] = []
        self.changes: list[Change] = []
        self.results: dict[str, float] = {}
        self.is_paused = False
        self.thread: int | None = None  # the one that trains
        self._pause_s = pause_s
        self._reporter = reporter
        self._inbox: deque[Command] = deque()
        self._bell = threading.Event()
        self._single = False

    @property
    def is_waiting(self) -> bool:
        """Whether each step must be read because a breakpoint looks at it."""
        return bool(self.breakpoints)

    @property
    def wants_layers(self) -> bool:
        """Whether a breakpoint needs each step to be measured in full."""
        return any(not one.condition.is_cheap for one in self.breakpoints)

    def put(self, command: Command) -> None:
        """Let a command be carried out before the next step, or at once if the training is paused."""
        self._inbox.append(command)
        self._bell.set()

    # -- in the step -------------------------------------------------------------------------------------------------

    def carry_out(self, session: Watched, optimizer: torch.optim.Optimizer, track: Track) -> None:
        """Carry out what was asked for since the last step."""
        self.thread = threading.get_ident()
        track.governor.always(self.wants_layers)
        if self._single:
            self._single = False
            self.pause(session, optimizer, track, "one step was taken")
        while self._inbox:
            self._obey(self._inbox.popleft(), session, optimizer, track)

    def look(
        self, session: Watched, optimizer: torch.optim.Optimizer, track: Track, loss: float | None, grads: list[float]
    ) -> None:
        """Pause where a breakpoint's condition has become true."""
        if not self.breakpoints:
            return
        sampled = track.view
        numbers = {
            "step": track.steps, "loss": loss, "grad_norm": sum(g * g for g in grads) ** 0.5 if grads else None,
            "lr": rates_of(optimizer)[0], "scale": track.scale,
            "update_ratio": sampled.update_ratio if sampled is not None else None,
            "layers": sampled.layers if sampled is not None else {},
        }  # fmt: skip
        for one in list(self.breakpoints):
            holds = one.condition.holds(numbers)
            if holds and one.is_armed:
                one.hits += 1
                one.is_armed = False
                if one.then is None:
                    self.pause(session, optimizer, track, f"{one.condition.text} became true")
                else:
                    one.then(self.handle() if self.handle is not None else None)
            elif not holds:
                one.is_armed = True

    def pause(
        self, session: Watched, optimizer: torch.optim.Optimizer, track: Track, why: str, *, by: str = "code"
    ) -> None:
        """Stay in the step until a command says to go on.

        Raises
        ------
        TrainingStopped
            Nobody can answer here, nobody did in time, or the command says stop.
        """
        limit_s = self._pause_s if self._pause_s is not None else (PAUSE_S if is_interactive() else 0.0)
        where = f"paused before step {track.steps}: {why}"
        if limit_s <= 0:
            raise TrainingStopped(
                f"{where}. Nobody can answer here, so the loop was stopped",
                hint="Run it in a notebook, or give nb.watch(pause_s=…) and answer from another thread or process.",
            )
        self._changed(Change(track.steps, "pause", after=why, by=by), lr=rates_of(optimizer)[0])
        print(f"nbops: {where}\n  go on with: nbops watch-control {session.run_id or 'RUN'} resume", flush=True)
        self.is_paused = True
        until = time.monotonic() + limit_s
        try:
            while self.is_paused:
                if self._inbox:
                    self._obey(self._inbox.popleft(), session, optimizer, track)
                    continue
                if time.monotonic() >= until:
                    raise TrainingStopped(f"{where}. Nobody answered in {limit_s:g} s",
                                          hint="The step was not taken; run the loop again to go on.")  # fmt: skip
                self._bell.wait(_LOOK_S)
                self._bell.clear()
        finally:
            if self.is_paused:  # stopped, interrupted, or left alone for too long
                self._reporter.freed()
            self.is_paused = False

    def _obey(self, command: Command, session: Watched, optimizer: torch.optim.Optimizer, track: Track) -> None:
        if command.parent is not None and is_withdrawn(command):
            return
        try:
            note = self._done(command, session, optimizer, track)
            status = "applied"
        except TrainingStopped:
            self._answer(command, "applied", track.steps, "stopped")
            raise
        except NbopsError as error:
            note, status = error.message, "refused"
        self._answer(command, status, track.steps, note)

    def _done(self, command: Command, session: Watched, optimizer: torch.optim.Optimizer, track: Track) -> str:
        by, step = command.actor or "code", track.steps
        if command.name == "set-lr":
            return self.set_rate(session, checked_rate(command.value), step, by=by)
        if command.name == "set-batch-size":
            return self.set_size(session, checked_size(command.value), step, by=by)
        if command.name == "stop":
            self._changed(Change(step, "stop", by=by))
            raise StopAsked(f"stopped before step {step} by {by}", hint="Run the loop again to go on.")
        if command.name == "rollback":
            note = session.roll_back(optimizer)
            self._changed(Change(step, "rollback", after=note, by=by))
            return note
        if command.name == "pause":
            if not self.is_paused:
                self._answer(command, "applied", step, "paused")
                self.pause(session, optimizer, track, f"asked by {by}", by=by)
            return "paused"
        self._single = command.name == "step"
        self.is_paused = False
        self._changed(Change(step, command.name, by=by))
        return "goes on"

    def _answer(self, command: Command, status: str, step: int, note: str) -> None:
        if command.parent is not None:
            answer(command, status=status, step=step, note=note)

    # -- changes -----------------------------------------------------------------------------------------------------

    def set_rate(self, session: Watched, lr: float, step: int, *, by: str) -> str:
        """Give every watched optimizer a learning rate, and say what changed."""
        before, after = set_rate(session.optimizers(), lr)
        return self._changed(Change(step, "lr", before, after, by), lr=after)

    def set_size(self, session: Watched, size: int, step: int, *, by: str) -> str:
        """Let the training's data loaders make batches of another size, and say what changed."""
        before, after = set_size(dict(session.samplers), size)
        return self._changed(Change(step, "batch_size", before, after, by))

    def _changed(self, change: Change, *, lr: float | None = None) -> str:
        self.changes.append(change)
        self._reporter.changed(change, lr=lr)
        return f"{change.what}: {change.before} -> {change.after}" if change.before is not None else change.what

    # -- functions on layers -----------------------------------------------------------------------------------------

    def wants_outputs(self, step: int, *, is_sampled: bool) -> set[str]:
        """Return the modules whose outputs a function is to see in a step."""
        names: set[str] = set()
        for one in self.watchpoints:
            if "forward" in one.kinds and not one.is_off and (is_sampled if not one.every else step % one.every == 0):
                names |= one.layers
        return names

    def saw_output(self, session: Watched, layer: str, step: int, args: Any, output: Any) -> None:
        """Show an output to the functions that ask for it."""
        for one in self.watchpoints:
            if one.wants(step, layer, "forward"):
                self._show(session, one, outputs_of(layer, step, args, output))

    def saw_parameters(self, session: Watched, have: list[Owned], step: int, *, is_sampled: bool) -> None:
        """Show gradients and weights to the functions that ask for them."""
        for one in self.watchpoints:
            if not one.every and not is_sampled:
                continue
            for o in have:
                for kind, tensor in (("gradient", o.tensor.grad), ("weight", o.tensor)):
                    if tensor is not None and one.wants(step, o.layer, kind):
                        self._show(session, one, [Glance(o.layer, kind, step, tensor.detach(), name=o.name)])

    def _show(self, session: Watched, point: Watchpoint, glances: list[Glance]) -> None:
        for glance in glances:
            try:
                value = number_of(point.function(glance))
            except Exception as error:  # one broken function of a user must not end the watch
                point.is_off = True
                session.errors.append(f"function {point.name}: {type(error).__name__}: {error}")
                warn(f"function '{point.name}' raised {type(error).__name__}: {error}; it is off for this watch")
                return
            if value is not None:
                where = f"{glance.layer}.{glance.name}" if glance.name else glance.layer
                name = f"watch/{point.name}/{where}"
                self.results[name] = value
                session.record(name, value, glance.step)


def is_interactive() -> bool:
    """Return whether somebody sits before the front end of this kernel: it takes input, unlike papermill's."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell = get_ipython()
    return bool(getattr(getattr(shell, "kernel", None), "_allow_stdin", False))


def layers_of(model: nn.Module) -> tuple[str, ...]:
    """Return the names that a condition may use."""
    return tuple(name for name, _ in model.named_modules() if name)
