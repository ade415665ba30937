"""The engine of one watch: attaches hooks, follows the open run, contains its own errors, lets go.

What it hears is in `nbops.debugging.hearing`, what it does around a step in `nbops.debugging.engine`. Holds its
model weakly.
"""

from __future__ import annotations

import linecache
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor, nn

from nbops.core.commands import Command
from nbops.core.errors import TrainingStopped
from nbops.debugging import stepping
from nbops.debugging.batch import Batch, Place, Ring
from nbops.debugging.blackbox.recorder import MEBIBYTE, Recorder
from nbops.debugging.blackbox.scene import Scene
from nbops.debugging.control.changes import Change
from nbops.debugging.control.desk import Desk
from nbops.debugging.control.polling import Poller
from nbops.debugging.control.reporting import Leftover, Reporter, keep_traces, report_closed
from nbops.debugging.engine import Engine
from nbops.debugging.findings import as_heard, warn
from nbops.debugging.judging import Judge
from nbops.debugging.live.figure import WatchFigure
from nbops.debugging.live.screen import Live, Screen
from nbops.debugging.live.timeline import Timeline
from nbops.debugging.measuring import Layout
from nbops.debugging.places import is_cell_name
from nbops.debugging.probes import CallHook, InputHook, LayerHook, LossHook, OutputHook
from nbops.debugging.reading import running as reading
from nbops.debugging.signals.activations import SATURATING, Board
from nbops.debugging.signals.batches import LossCall, Samples
from nbops.debugging.signals.clearing import Probes
from nbops.debugging.signals.counting import Counters
from nbops.debugging.signals.keeping import Histograms
from nbops.debugging.signals.metrics import Metrics
from nbops.debugging.signals.phases import Phases
from nbops.debugging.signals.ranks import Ranks
from nbops.debugging.signals.structure import Structure
from nbops.debugging.signals.timing import Clock
from nbops.debugging.tensors import is_compiled, named_layers, unwrap
from nbops.debugging.tracks import Track
from nbops.debugging.views import StepView
from nbops.store.context import CellRef, current_cell, current_run, listen_to_metrics, note_run_of, unlisten_to_metrics

_ERRORS_ALLOWED = 3
_last: Session | None = None
_SOURCE_CHARS = 200_000
_MOST_READ = 8  # bodies of code


@dataclass(frozen=True)
class Options:
    """What the user asked for; see `nbops.debugging.watch.watch`."""

    on_error: str = "warn"
    sample_every: int | None = None
    step_ms: float | None = None
    pause_s: float | None = None
    batch_mb: float = 64
    snapshot_mb: float = 256


class Session(Engine):
    """One model being watched."""

    live: Live | None = None  # where it is shown, in a notebook

    def __init__(
        self, model: nn.Module, *, optimizers: Sequence[torch.optim.Optimizer], loss: nn.Module | None,
        options: Options, label: str, cell: CellRef | None,
    ) -> None:  # fmt: skip
        inner = unwrap(model)
        self.label, self.cell = label, cell
        self.model_name = type(inner).__name__
        self.board, self.clock, self.phases = Board(), Clock(budget_ms=options.step_ms), Phases()
        self.metrics, self.samples, self.ranks = Metrics(), Samples(), Ranks()
        self.structure, self.histograms, self.counters = Structure(inner), Histograms(), Counters()
        self.probes, self.ring = Probes(inner.parameters()), Ring(int(options.batch_mb * MEBIBYTE))
        self.box = Recorder(
            limit_bytes=int(options.snapshot_mb * MEBIBYTE), takes_snapshots=options.on_error == "rollback"
        )
        self.reporter = Reporter(name=label or self.model_name, model=self.model_name)
        self.desk = Desk(pause_s=options.pause_s, reporter=self.reporter)
        self.stats: dict[str, dict[str, float]] = {}
        self.timeline = Timeline()
        self.notes: list[str] = []
        self.errors: list[str] = []
        self.judge = Judge(on_error=options.on_error, errors=self.errors)
        mine = weakref.WeakMethod(self.source)
        self.judge.source = lambda: "" if (read := mine()) is None else read()
        self.run_id: str | None = None
        self.last_view: StepView | None = None
        self.bad_scene: Scene | None = None
        self.is_open = self.is_armed = True
        self.is_replaying = False
        self.spent_s = 0.0
        self.steps = self.sampled = 0  # of the optimizer that took most, and measured steps of all
        self.samplers: weakref.WeakKeyDictionary[Any, weakref.ref[Any] | None] = weakref.WeakKeyDictionary()
        self._every = options.sample_every
        self._model = weakref.ref(model)
        self._chosen = weakref.WeakSet(optimizers) if optimizers else None
        self._tracks: weakref.WeakKeyDictionary[torch.optim.Optimizer, Track] = weakref.WeakKeyDictionary()
        self._layout = Layout(inner)
        self._covered: set[int] = set()
        self._seen: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()
        self._handles: list[Any] = []
        self._layer_handles: list[Any] = []
        self._stray_steps = self._unstepped = 0
        self._containment = Containment(self)
        self._batch = Batch()
        self._unclaimed: list[tuple[set[int], tuple[str, int], Tensor]] = []
        self._loss_call: LossCall | None = None
        self._inputs: Tensor | None = None
        self._called_at: float | None = None
        self._optimizer_at = 0.0
        self._backward_frame: FrameType | None = None
        self._backward_places: tuple[Place, ...] = ()
        self._sampler: weakref.ref[Any] | None = None
        self._loader: weakref.ref[Any] | None = None
        self._has_backwards = self._is_evaluating = self._is_graded = self._is_replayed = False
        self.passes = self.lost_passes = self.thrown_away = self.seedings = 0
        self._thrown_before = self._steps_of_all = 0
        self._loop_file = ""
        self._makers: dict[int, int] = {}
        self._foreign: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()
        self._poller: Poller | None = None
        self._attach(model, loss)

    # -- hooks ---------------------------------------------------------------------------------------------------

    def _attach(self, model: nn.Module, loss: nn.Module | None) -> None:
        self._has_loss = loss is not None
        self.read_codes: set[CodeType] = set()
        self._hooks_layers = not is_compiled(model)
        if not self._hooks_layers:
            self.notes.append("compiled by torch.compile: layer outputs are not seen; gradients, updates and loss are")
        self._handles.append(model.register_forward_pre_hook(CallHook(self), with_kwargs=True))
        self._handles.append(model.register_forward_hook(OutputHook(self), with_kwargs=True))
        if loss is not None:
            self._handles.append(loss.register_forward_hook(LossHook(self)))
        self.arm(model, True)
        self._finalizer = weakref.finalize(model, self._end)
        global _last
        _last = self
        self._finalizer.atexit = False
        stepping.enlist(self)
        listen_to_metrics(self)
        self.enter_run(model)

    def arm(self, model: nn.Module, is_armed: bool) -> None:
        """Hook the layers for a step that is measured, and unhook them for one that is not: then they cost nothing."""
        self.is_armed = is_armed
        self.board.wants_histograms = is_armed and self.histograms.is_due
        asked = self.desk.wants_outputs(self.steps, is_sampled=is_armed) if self.desk.watchpoints else set()
        if self._layer_handles:
            self._unhook_layers()
        if not (is_armed or asked) or not self._hooks_layers:
            return
        inner = unwrap(model)
        layers = dict(named_layers(inner)) if is_armed else {}
        others = {name: m for name, m in inner.named_modules() if name in asked and name not in layers} if asked else {}
        for name, module in layers.items():
            self._layer_handles.append(module.register_forward_hook(LayerHook(self, name)))
            if type(module) in SATURATING:
                self._layer_handles.append(module.register_forward_pre_hook(InputHook(self, name)))
        for name, module in others.items():
            self._layer_handles.append(module.register_forward_hook(LayerHook(self, name, is_measured=False)))

    def _unhook_layers(self) -> None:
        for handle in self._layer_handles:
            handle.remove()
        self._layer_handles.clear()

    def layer_returned(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        """Show a layer's output to the functions that the user put on it."""
        if self.desk.watchpoints:
            self.desk.saw_output(self, name, self.steps, args, output)

    def close(self) -> None:
        """Remove every hook; closing twice is fine."""
        if self.is_open:
            with self.contained():
                self.judge_whole_evaluation()
                if self.run_id is not None and self.run_id == current_run():
                    self.run_ending(self.run_id)
        self._end(wait=True)
        stepping.dismiss(self)
        if self.live is not None:
            self.live.close()

    def _end(self, *, wait: bool = False) -> None:
        """Let go of the model. Also called when it is freed, at any moment, so torch's global hooks are left alone."""
        if self.is_open:
            self.is_open = self.is_armed = False
            self._finalizer.detach()
            for handle in self._handles:
                handle.remove()
            self._handles.clear()
            self._unhook_layers()
            unlisten_to_metrics(self)
            if not wait and self.run_id is not None and self.run_id == current_run():
                Leftover(self.timeline.traces, name=self.label or self.model_name, run_id=self.run_id)
            if self._poller is not None:
                self._poller.stop(wait=wait)
            if self.live is not None and not wait:
                self.live.abandon()
            self._tracks.clear()
            self._unclaimed.clear()
            self.box.clear()
            self.ring.calls.clear()
            self._batch = Batch()
            self._inputs = self._loss_call = self._backward_frame = self.bad_scene = None

    @property
    def model(self) -> nn.Module | None:
        """The watched model, None once it is gone."""
        return self._model()

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Return the optimizers that are looked at, in the order they were first seen."""
        return list(self._tracks)

    def source(self) -> str:
        """Return the text of the cell or file that holds the loop; "" if it is not known, or too long to be read."""
        lines = linecache.getlines(self._loop_file) if self._loop_file else []
        cell = current_cell()
        text = "".join(lines) or (cell.source if cell is not None else "")
        return text if len(text) < _SOURCE_CHARS else ""

    @property
    def loop_file(self) -> str:
        """File name of the code that called ``backward`` last, "" before the first time."""
        return self._loop_file

    @property
    def steppers(self) -> list[torch.optim.Optimizer]:
        """The optimizers that have stepped and are still there, those of other models too."""
        return [*self._seen, *self._foreign]

    def cell_source(self) -> str:
        """Return the text of the cell that holds the loop; "" where that is a file."""
        return self.source() if not self._loop_file or is_cell_name(self._loop_file) else ""

    def read(self, frame: FrameType | None, *, loss: nn.Module | None = None) -> None:
        """Read the code around a frame of the user, once per body of code, and tell what it says."""
        if frame is None or frame.f_code in self.read_codes or len(self.read_codes) >= _MOST_READ:
            return
        self.read_codes.add(frame.f_code)
        found = reading.findings(frame, model=self.model, loss=loss, optimizers=self.optimizers(), errors=self.notes)
        self.judge.tell(reading.untold(found, frame, by="watch"))

    def contained(self) -> Containment:
        """Return the block in which an error of ours is recorded instead of raised."""
        return self._containment

    def fail(self, error: Exception, *, where: str) -> None:
        """Record an error of ours; the third one switches the watch off."""
        self.errors.append(f"{where}: {type(error).__name__}: {error}")
        if len(self.errors) == _ERRORS_ALLOWED:
            self.close()
            warn("the watch switched itself off after three errors of its own: " + "; ".join(self.errors))

    def show_on(self, screen: Screen) -> None:
        """Show what is seen as one live output under the cell that trains."""
        self.live = Live(self.figure, screen, guard=self.contained())

    def figure(self, *, is_running: bool = False) -> WatchFigure:
        """Return what there is to draw now."""
        line, cost = self.timeline, self.clock.cost()
        return WatchFigure(
            self.label or self.model_name, self.is_open, self.steps, self.sampled,
            curves=tuple((curve.name, tuple(curve.points)) for curve in line.curves),
            columns=tuple(line.columns), layers=tuple(line.layers), of_layers=line.of_layers,
            diagnoses=tuple(map(as_heard, self.judge.findings.diagnoses)), notes=tuple(self.notes), run_id=self.run_id,
            cost=cost.get("watch_share"), is_running=is_running,
        )  # fmt: skip

    # -- changes -------------------------------------------------------------------------------------------------

    def note_change(self, change: Change) -> None:
        """Keep a change, and tell it as an event of the run."""
        self.desk.changes.append(change)
        self.reporter.changed(change)

    def roll_back(self, optimizer: torch.optim.Optimizer | None = None) -> str:
        """Put the last good snapshot back."""
        model = self.model
        return self.box.roll_back(self, model, self.steps) if model is not None else ""

    # -- the run -------------------------------------------------------------------------------------------------

    def enter_run(self, model: nn.Module) -> None:
        """Follow the open run; a new one counts its steps from 0 and is told everything again."""
        run_id = current_run()
        if run_id is None or run_id == self.run_id:
            return
        if self.run_id is not None or self.steps:
            self._tracks.clear()
            self.stats.clear()
            self.timeline = Timeline()
            self.box.clear()
            self.steps = self.sampled = 0
            self.judge.findings.begin_run()
        self.run_id = run_id
        for thing in {model, unwrap(model)}:
            note_run_of(thing, run_id)
        if self._poller is not None:
            self._poller.stop()
        self.reporter.enter(run_id)
        self._poller = Poller(run_id, _taker(weakref.ref(self)), ended=partial(report_closed, self.reporter.state_id))

    def run_ending(self, run_id: str) -> None:
        """Keep with a run that ends what another run can be compared by."""
        traces = self.timeline.traces.kept(self.label or self.model_name) if run_id == self.run_id else None
        if traces is not None:
            keep_traces(traces, run_id)

    def record(self, name: str, value: float, step: int) -> None:
        """Log one number of ours to the open run."""
        run_id = current_run()
        if run_id is not None:
            from nbops.store.workspace import workspace

            workspace().log(run_id, step, {name: value})

    def log(self, view: StepView) -> None:
        """Log what is known of a sampled step to the open run."""
        run_id = current_run()
        timing = view.timing
        values = {
            "watch/grad_norm": view.grad_norm, "watch/update_ratio": view.update_ratio,
            "watch/step_ms": timing.step_ms if timing is not None and timing.steps else None,
        }  # fmt: skip
        metrics = {name: value for name, value in values.items() if value is not None}
        if run_id is not None and metrics:
            from nbops.store.workspace import workspace

            workspace().log(run_id, view.step, metrics)


def last_session() -> Session | None:
    """Return the session that was made last in this process."""
    return _last


def _taker(reference: weakref.ref[Session]) -> Any:
    def take(command: Command) -> bool:
        session = reference()
        if session is None or not session.is_open:
            return False
        session.desk.put(command)
        return True

    return take


class Containment:
    """Context: an error of ours inside a hook is recorded, so that it never breaks the training loop."""

    def __init__(self, session: Session) -> None:
        self._session = weakref.ref(session)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        session = self._session()
        if session is None or not isinstance(error, Exception) or isinstance(error, TrainingStopped | Warning):
            return False  # a warning that is raised was made an error by the user's own filter
        session.fail(error, where="watch")
        return True
