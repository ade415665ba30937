"""The handle of a watch: what was seen and found, and what can be asked of a training while it runs."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from torch import nn

from nbops.core.commands import Command
from nbops.core.display import Shown
from nbops.core.errors import Conflict, NotFound
from nbops.core.ids import new_id
from nbops.core.mutes import Mute
from nbops.core.records import Diagnosis
from nbops.debugging import muting
from nbops.debugging.blackbox.recorder import Incident
from nbops.debugging.control.changes import Change, checked_rate, checked_size
from nbops.debugging.control.conditions import parse_condition
from nbops.debugging.control.desk import Breakpoint, layers_of
from nbops.debugging.control.inspecting import Inspection, inspect_layer
from nbops.debugging.control.watchpoints import Function, watchpoint
from nbops.debugging.findings import as_heard
from nbops.debugging.live.figure import WatchFigure
from nbops.debugging.live.inserting import insert_below, remedy
from nbops.debugging.session import Session
from nbops.debugging.signals.counting import NonFinite
from nbops.debugging.tensors import unwrap
from nbops.debugging.views import Histogram, StepView


class Watch(Shown):
    """Handle of a watched model; made by `watch`. Holds the model weakly.

    Attributes
    ----------
    name, model_name : str
        Name of the watch (by default the model's class), and the model's class.
    """

    def __init__(self, session: Session, *, name: str, model_name: str) -> None:
        self.name = name
        self.model_name = model_name
        self._session = session
        session.desk.handle = weakref.ref(self)

    @property
    def model(self) -> nn.Module | None:
        """The watched model; None once it was freed."""
        return self._session.model

    @property
    def run_id(self) -> str | None:
        """Id of the last run that was open while the model was watched."""
        return self._session.run_id

    @property
    def steps(self) -> int:
        """Optimizer steps seen, in the current run if there is one."""
        return self._session.steps

    @property
    def sampled(self) -> int:
        """How many of `steps` were measured in full."""
        return self._session.sampled

    @property
    def is_open(self) -> bool:
        """False after `close`, when another watch took over, or when the model is gone."""
        return self._session.is_open

    @property
    def diagnoses(self) -> list[Diagnosis]:
        """What was found, oldest first; each rule and layer once per run. What you muted has status ``muted``."""
        return [as_heard(found) for found in self._session.judge.findings.diagnoses]

    @property
    def counts(self) -> dict[str, int]:
        """How often each diagnosis was found, by its id."""
        return dict(self._session.judge.findings.counts)

    @property
    def stats(self) -> dict[str, dict[str, float]]:
        """Last numbers of each layer in forward order: ``grad_norm``, ``update_ratio``, ``zero_share`` and others."""
        return {name: dict(numbers) for name, numbers in self._session.stats.items()}

    @property
    def notes(self) -> list[str]:
        """What cannot be watched here, and why."""
        return list(self._session.notes)

    @property
    def errors(self) -> list[str]:
        """Errors of the watch itself; the third switches it off."""
        return list(self._session.errors)

    @property
    def view(self) -> StepView | None:
        """The last sampled step as the rules saw it; None before the first."""
        return self._session.last_view

    @property
    def nonfinite(self) -> list[NonFinite]:
        """How many values were NaN and infinite, by layer and by what they belong to."""
        return self._session.counters.view()

    @property
    def changes(self) -> list[Change]:
        """What was changed while the training ran: by whom, before which step."""
        return list(self._session.desk.changes)

    @property
    def results(self) -> dict[str, float]:
        """Last number that each function given to `on` returned, by metric name."""
        return dict(self._session.desk.results)

    @property
    def cost(self) -> dict[str, float]:
        """Steps per second, and the share of the time that the watch itself takes, over the last 100 steps."""
        return self._session.clock.cost()

    @property
    def incident(self) -> Incident | None:
        """The last step that the guard refused, for `nb.replay`."""
        return self._session.box.incident_

    @property
    def is_paused(self) -> bool:
        """Whether the training waits in a step for a command."""
        return self._session.desk.is_paused

    @property
    def was_shown(self) -> bool:
        """Whether a live figure was put under a cell."""
        return self._session.live is not None and self._session.live.was_shown

    def figure(self) -> WatchFigure:
        """Return loss, layers over measured steps and findings as they are now, to show or to keep: it changes no more.

        It holds at most 200 of the measured steps and 40 layers.
        """
        return self._session.figure()

    def histogram(self, layer: str, what: str = "gradient") -> Histogram:
        """Return the last histogram of a layer: of its ``weight``, ``gradient`` or ``activation``.

        Raises
        ------
        NotFound
            None was taken yet, or there is no such layer.
        """
        return self._session.histograms.get(layer, what)

    def on(
        self, pattern: str, function: Function, *, kinds: str | Iterable[str] = "forward", every: int | None = None
    ) -> None:
        """Call a function of your own with a `Glance` at each layer that a glob pattern names.

        A number that it returns is logged with the open run as ``watch/<function>/<layer>``.

        Parameters
        ----------
        pattern : str
            ``conv1``, ``conv*``, ``*.attention``: names as in ``model.named_modules()``.
        function : callable
            Takes a `Glance`: name, step, sizes, norm, share of NaN, histogram, and the values themselves.
        kinds : str or iterable of str
            ``forward`` (outputs), ``gradient``, ``weight``.
        every : int, optional
            Each n-th step; by default on steps that are measured in full.

        Raises
        ------
        NotFound
            No layer is called so.
        InvalidInput
            An unknown kind, no function, or a distance below 1.
        """
        model = self._opened()
        self._session.desk.watchpoints.append(watchpoint(unwrap(model), pattern, function, kinds=kinds, every=every))
        self._session.arm(model, self._session.is_armed)

    def break_if(self, condition: str, *, then: Callable[[Watch], Any] | None = None) -> None:
        """Pause before the step at which a condition becomes true.

        Parameters
        ----------
        condition : str
            ``grad_norm > 1e3``, ``step == 100 and loss > 2``, ``layers["conv1"].zero_share > 0.9``. A condition on
            layers is looked at on each step, which is measured in full then.
        then : callable, optional
            Called with this watch instead of pausing.

        Raises
        ------
        QuerySyntaxError
            It cannot be parsed, or names a number or a layer that there is not.
        """
        names = layers_of(unwrap(self._opened()))
        self._session.desk.breakpoints.append(Breakpoint(parse_condition(condition, layers=names), then))

    def clear_breaks(self) -> None:
        """Forget all breakpoints."""
        self._session.desk.breakpoints.clear()

    def inspect(self, layer: str) -> Inspection:
        """Return weights, gradients and last outputs of a layer as numbers.

        Raises
        ------
        NotFound
            No layer is called so.
        """
        return inspect_layer(unwrap(self._opened()), layer, self._session.histograms, self._session.last_view)

    def insert(self, rule: str, *, cause: str | None = None) -> str:
        """Put the remedy of a finding into a new cell under this one, to edit and to run; return its code.

        It is the cell that holds the loop, with the patch applied. Outside of a notebook it is only returned.

        Parameters
        ----------
        rule : str
            Name of the rule: the ``name`` of a diagnosis.
        cause : str, optional
            Name of one of its causes; by default the likeliest that has a patch.

        Raises
        ------
        NotFound
            The rule found nothing, or has no such cause.
        """
        code = remedy(self.diagnoses, rule, cause=cause, source=self._session.cell_source())
        insert_below(code)
        return code

    def mute(self, rule: str, *, layer: str | None = None) -> Mute:
        """Say that what a rule finds is no problem in this notebook: it is listed as muted, and not told again.

        It raises, pauses and rolls back nothing. Steps whose gradients are not finite are not taken all the same.
        Kept with the workspace for this notebook, also when the kernel is restarted.

        Parameters
        ----------
        rule : str
            Name of the rule: the ``name`` of a diagnosis.
        layer : str, optional
            Only in this layer, or in those that a glob pattern names; everywhere by default.

        Raises
        ------
        NotFound
            There is no such rule.
        """
        return muting.mute(rule, layer=layer)

    def unmute(self, rule: str, *, layer: str | None = None) -> None:
        """Tell a rule again: all that was muted of it, or what was for one layer or pattern."""
        muting.unmute(rule, layer=layer)

    @property
    def mutes(self) -> list[Mute]:
        """What is muted in this notebook."""
        return muting.mutes()

    def pause(self) -> None:
        """Let the training wait before its next step, until `resume`, `step` or `stop`."""
        self._ask("pause")

    def resume(self) -> None:
        """Let a paused training go on."""
        self._ask("resume")

    def step(self) -> None:
        """Let a paused training take one step and pause again."""
        self._ask("step")

    def stop(self) -> None:
        """End the training loop before its next step: ``optimizer.step()`` raises `TrainingStopped`."""
        self._ask("stop")

    def set_lr(self, lr: float) -> None:
        """Give all watched optimizers another learning rate: at once, or before the next step of a loop that runs.

        A scheduler that computes the rate anew overwrites it at its next step.

        Raises
        ------
        InvalidInput
            No finite number from 0.
        """
        self._change("set-lr", checked_rate(lr))

    def set_batch_size(self, size: int) -> None:
        """Let the data loader of the training make batches of another size, from its next batch on.

        Raises
        ------
        InvalidInput
            No whole number from 1, or no torch ``DataLoader`` with a batch size was seen.
        """
        self._change("set-batch-size", checked_size(size))

    def rollback(self) -> str:
        """Put the last snapshot of weights, buffers and optimizer state back; return what was done.

        Raises
        ------
        NotFound
            There is none: snapshots are taken under ``on_error="rollback"``.
        """
        done = self._session.roll_back()
        if not done:
            raise NotFound("no snapshot was taken", hint="Watch with on_error='rollback' to have some.")
        return done

    def _opened(self) -> nn.Module:
        model = self._session.model
        if model is None or not self.is_open:
            raise Conflict(f"the watch '{self.name}' is closed", hint="Attach again with nb.watch(model).")
        return model

    def _ask(self, name: str, value: float | None = None) -> None:
        self._opened()
        self._session.desk.put(Command(id=new_id(Command.prefix), created_at=time.time(), name=name, value=value))

    def _change(self, name: str, value: float) -> None:
        desk, session = self._session.desk, self._session
        self._opened()
        if desk.is_paused or desk.thread not in (None, threading.get_ident()):
            self._ask(name, value)
        elif name == "set-lr":
            desk.set_rate(session, float(value), session.steps, by="code")
        else:
            desk.set_size(session, int(value), session.steps, by="code")

    def close(self) -> None:
        """Remove every hook. What was found stays readable; closing twice is fine."""
        self._session.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed"
        lines = [f"Watch({self.name}): {self.steps} steps, {self.sampled} sampled, {state}"]
        lines += [f"  note: {note}" for note in self.notes]
        for d in self.diagnoses:
            lines.append(f"  {d.status}: {d.name} at step {d.step} in '{d.layer}', {self.counts[d.id]}x: {d.what}")
        if len(lines) == 1 + len(self.notes):
            lines.append("  nothing found")
        return "\n".join(lines)
