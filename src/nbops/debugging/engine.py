"""What a watch does around an optimizer's step: guard, rules, measurements. A part of the session."""

from __future__ import annotations

import math
import time
import weakref
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from nbops.core.errors import TrainingStopped
from nbops.core.records import Diagnosis
from nbops.debugging.aspects import TimingView
from nbops.debugging.batch import Batch
from nbops.debugging.blackbox.naming import with_operation
from nbops.debugging.blackbox.recorder import Recorder
from nbops.debugging.control.changes import Change
from nbops.debugging.control.desk import Desk
from nbops.debugging.findings import sentence
from nbops.debugging.guard import bad_ones, is_skipped_by_scaler, scale_in, unless_skipped
from nbops.debugging.hearing import Hearing
from nbops.debugging.live.screen import Live
from nbops.debugging.live.timeline import Timeline
from nbops.debugging.locating import bad_target, locate
from nbops.debugging.measuring import Around, Layout, Owned, grad_norms, measure, missing_layers
from nbops.debugging.signals.activations import Board
from nbops.debugging.signals.batches import batch_view
from nbops.debugging.signals.counting import Counters
from nbops.debugging.signals.keeping import Histograms
from nbops.debugging.signals.ranks import Ranks
from nbops.debugging.signals.structure import Structure
from nbops.debugging.tensors import pack, unwrap
from nbops.debugging.tracks import Track, rates_of, scale_and_rate
from nbops.debugging.views import History, LayerView, StepView
from nbops.store.context import current_cell_id

_EMPTY_JUDGED = (3, 20)  # steps in a row without any gradient


class Engine(Hearing):
    """The hands of a session; the session itself brings what they need."""

    board: Board
    notes: list[str]
    stats: dict[str, dict[str, float]]
    sampled: int
    box: Recorder
    desk: Desk
    ranks: Ranks
    structure: Structure
    timeline: Timeline
    live: Live | None
    histograms: Histograms
    counters: Counters
    last_view: StepView | None
    _every: int | None
    _chosen: weakref.WeakSet[torch.optim.Optimizer] | None
    _layout: Layout
    _covered: set[int]
    _seen: weakref.WeakSet[torch.optim.Optimizer]
    _has_loss: bool
    _hooks_layers: bool
    label: str
    model_name: str
    run_id: str | None
    errors: list[str]
    _stray_steps: int
    _optimizer_at: float
    _makers: dict[int, int]
    _foreign: weakref.WeakSet[torch.optim.Optimizer]
    _steps_of_all: int
    _is_replayed: bool

    def enter_run(self, model: nn.Module) -> None: ...
    def log(self, view: StepView) -> None: ...
    def arm(self, model: nn.Module, is_armed: bool) -> None: ...
    def optimizers(self) -> list[torch.optim.Optimizer]: ...  # type: ignore[empty-body]
    def roll_back(self, optimizer: torch.optim.Optimizer) -> str: ...  # type: ignore[empty-body]
    def record(self, name: str, value: float, step: int) -> None: ...
    def note_change(self, change: Change) -> None: ...
    def contained(self) -> AbstractContextManager[None]: ...  # type: ignore[empty-body]

    # -- around a step -----------------------------------------------------------------------------------------------

    def before(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Judge a step that is about to be taken; with a closure, each time it has computed the gradients."""
        model = self.model
        if self.is_replaying or not self.is_open or model is None:
            return args, kwargs
        with self.contained(), torch.no_grad():
            track = self._concerned(optimizer, model)
            if track is not None:
                closure = kwargs.get("closure") or (args[1] if len(args) > 1 else None)
                if not callable(closure):
                    self._guarded(model, optimizer, track)
                elif "closure" in kwargs:
                    return args, {**kwargs, "closure": self._judging(closure, optimizer, track)}
                else:
                    return (args[0], self._judging(closure, optimizer, track), *args[2:]), kwargs
        return args, kwargs

    def _concerned(self, optimizer: torch.optim.Optimizer, model: nn.Module) -> Track | None:
        """Return the track of an optimizer that is looked at, None for another one."""
        self.enter_run(model)
        track = self._tracks.get(optimizer)
        if track is not None:
            track.refresh(optimizer, self._layout, always=False)
            return track
        owned = self._layout.owned(optimizer)
        if not owned:
            self._foreign.add(optimizer)
            self._saw_stray(optimizer, model)
            return None
        if optimizer not in self._seen:  # also one that is not looked at covers its parameters
            self._seen.add(optimizer)
            self._covered |= {id(o.tensor) for o in owned}
        if self._chosen is not None and optimizer not in self._chosen:
            return None
        track = self._tracks[optimizer] = Track(every=self._every, curve=self.timeline.curve(type(optimizer).__name__))
        track.refresh(optimizer, self._layout, always=True)
        first = id(track.owned[0].tensor)
        track.made = self._makers[first] = self._makers.get(first, 0) + 1
        self.claim(track)
        return track

    def _judging(self, closure: Any, optimizer: torch.optim.Optimizer, track: Track) -> Any:
        def judged() -> Any:
            loss = closure()
            if not self._has_loss and not self._has_backwards:
                self.saw_loss(loss)
            with self.contained(), torch.no_grad():
                if self.is_open and (model := self.model) is not None:
                    self._guarded(model, optimizer, track)
                    self._batch, self._unstepped = Batch(), 0
                    track.losses.clear()
            return loss

        return judged

    def _guarded(self, model: nn.Module, optimizer: torch.optim.Optimizer, track: Track) -> None:
        try:
            self._before(model, optimizer, track)
        except TrainingStopped:
            self._batch, self._unstepped = Batch(), 0  # this batch is done with
            track.losses.clear()
            raise
        finally:
            self._optimizer_at = time.perf_counter()

    def _before(self, model: nn.Module, optimizer: torch.optim.Optimizer, track: Track) -> None:
        started = time.perf_counter()
        track.began(started, spent_s=self.spent_s)
        self.desk.carry_out(self, optimizer, track)
        is_sampled = track.governor.wants(track.steps) and track.around is None
        if is_sampled:
            self._layout = Layout(unwrap(model))
            track.refresh(optimizer, self._layout, always=True)
        losses = track.losses.scalars() or self._batch.scalars()
        is_brief = not (is_sampled or self.desk.watchpoints or self.timeline.traces.wants(track.steps))
        values, count = (track.few_values(losses) if is_brief else None), 0
        have: list[Owned] = []
        if values is not None and all(map(math.isfinite, values)):
            count = len(values) - len(losses)
        else:
            have, scalars = grad_norms(track.owned)
            scalars, count = [*scalars, *losses], len(scalars)
            values = self._read(optimizer, track, have, pack(scalars), is_sampled) if scalars else None
        self._note_gradients(optimizer, track, bool(count))
        if values is None:
            return
        grads, numbers = values[:count], values[count:]
        if not all(map(math.isfinite, values)) and self._is_tripped(model, optimizer, track, have, grads, numbers):
            return
        track.tripped = []
        loss = track.loss_of(numbers)
        track.read(loss, math.hypot(*grads) if grads else math.nan)
        if is_sampled and have:
            track.view = self._sample(model, optimizer, track, have, grads, loss)
            track.around = Around(have)
        if have:
            self.timeline.traces.gradients(track.steps, have, grads, about=lambda: scale_and_rate(optimizer))
            self.desk.saw_parameters(self, have, track.steps, is_sampled=is_sampled)
        self.desk.look(self, optimizer, track, loss, grads)
        self.box.keep(self, model, track)
        track.judged(time.perf_counter() - started + self.spent_s)

    def _note_gradients(self, optimizer: torch.optim.Optimizer, track: Track, has_some: bool) -> None:
        """Judge steps of an optimizer that finds no gradient at all."""
        track.empty_steps = 0 if has_some else track.empty_steps + 1
        if track.empty_steps in _EMPTY_JUDGED:
            view = StepView(
                track.steps, optimizer=type(optimizer).__name__, lr=rates_of(optimizer), is_sampled=False,
                empty_steps=track.empty_steps, backwards=track.clearing.backwards, passes=self.passes,
                lost_passes=self.lost_passes, optimizers=self.optimizers_seen,
            )  # fmt: skip
            self.judge.judge(view, track.history)

    def _read(
        self, optimizer: torch.optim.Optimizer, track: Track, have: list[Owned], vector: Tensor, is_sampled: bool
    ) -> list[float] | None:
        """Return the values, or None where reading can wait until the next sampled step."""
        if self._reads_at_once(vector):
            return list(vector.tolist())
        names = [o.layer for o in have] + ["loss", *["dropped"] * len(vector)][: len(vector) - len(have)]
        late = track.tripwire.read() if is_sampled or not track.tripwire.takes(names) else None
        if late is not None:
            self._judge_late(track, *late)
        if is_sampled:
            return list(vector.tolist())
        track.tripwire.note(names, unless_skipped(optimizer, vector), track.steps)
        return None

    def _reads_at_once(self, vector: Tensor) -> bool:
        """Return whether each step is read: where it costs no wait, or where what is done depends on it."""
        return vector.device.type == "cpu" or self.judge.on_error != "warn" or self.desk.is_waiting

    def _sample(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, track: Track, have: list[Owned],
        grads: list[float], loss: float | None,
    ) -> StepView:  # fmt: skip
        inner = unwrap(model)
        if self._hooks_layers and not self.board.order and track.history.sampled == 2:
            self._hooks_layers = False
            self.notes.append(
                "no layer's output was seen (the model runs compiled, or in evaluation mode); gradients, updates and "
                "loss are"
            )
        self._covered |= {id(o.tensor) for o in have}
        self.histograms.take(track.steps, have, self.board)
        layers = measure(
            inner, self._layout, self.board, have, grads,
            missing=missing_layers(inner, self._covered), owned=track.owned,
            scale=scale_in(optimizer),
        )  # fmt: skip
        view = replace(self._surroundings(inner, optimizer, track), layers=layers, loss=loss)
        self.last_view = view
        self._handle(self.judge.judge(view, track.history), model, optimizer, track)
        return view

    def _surroundings(self, inner: nn.Module, optimizer: torch.optim.Optimizer, track: Track) -> StepView:
        """Return a view of everything but the layers."""
        is_cleared, uncleared = track.clearing.stepping()
        if self._inputs is not None or self._loss_call is not None:
            self.metrics.batch = batch_view(self._inputs, self._loss_call, self.samples)
        scaler = self._scaler() if self._scaler is not None else None
        track.scale = float(scaler.get_scale()) if scaler is not None else track.scale
        device = next((o.tensor.device for o in track.owned), torch.device("cpu"))
        timing: TimingView = self.clock.view(device)
        losses: dict[str, float] = {}
        for name, one in zip(track.losses.names(), track.losses.scalars(), strict=True):
            losses[name] = losses.get(name, 0.0) + float(one)
        return StepView(
            track.steps, optimizer=type(optimizer).__name__, lr=rates_of(optimizer), losses=losses,
            backwards=track.clearing.backwards, forwards=self.phases.forwards, is_cleared=is_cleared,
            uncleared_steps=uncleared, passes=self.passes, lost_passes=self.lost_passes, thrown_away=self.thrown_away,
            thrown_before=self._thrown_before, optimizers=self.optimizers_seen, seedings=self.seedings,
            batch=self.metrics.batch,
            stepper=track.stepper(optimizer, self._layout, self._tracks.items(), steps_of_all=self._steps_of_all),
            model=self.structure.view(inner, is_training=self.phases.is_training),
            evaluation=self.phases.view(self.steps), metrics=self.metrics.view(), timing=timing,
            ranks=self.ranks.compare(inner, track.steps),
        )  # fmt: skip

    def after(self, optimizer: torch.optim.Optimizer) -> None:
        """Measure what a step did."""
        track = self._tracks.get(optimizer)
        model = self.model
        if track is None or not self.is_open or self.is_replaying or model is None:
            return
        with self.contained(), torch.no_grad():
            started = time.perf_counter()
            self.clock.add("optimizer", started - self._optimizer_at)
            view, around = track.view, track.around
            track.view = track.around = None
            if view is not None and around is not None:
                view = replace(view, layers=around.compare(view.layers))
                self.last_view = view
                for name, layer in view.layers.items():  # several optimizers fill in one layer's numbers
                    self.stats.setdefault(name, {}).update(layer.numbers())
                self.structure.remember(unwrap(model))
                self.log(view)
                self.timeline.add(view.step, view.layers, found=(d.layer for d in self.judge.findings.diagnoses))
                track.completed(view, time.perf_counter() - started)
                self.sampled += 1
            else:
                track.clearing.stepping()
            self.ranks.note(model, track.steps + 1)
            self.probes.remember()
            if view is not None and self.live is not None:
                self.live.stepped()
            self._thrown_before, self.thrown_away = self.thrown_away, 0
            self._has_several = self.passes > 1 or self.phases.forwards > 1
            self.passes = self.lost_passes = self.seedings = 0
            self._is_graded, self._steps_of_all = False, self._steps_of_all + 1
            track.clearing.stepped(self.probes.having() & track.ids)
            track.ended(time.perf_counter(), steps_of_all=self._steps_of_all)
            self.steps = max(self.steps, track.steps)
            self._stray_steps = 0
            self._batch, self._unstepped = Batch(), 0
            self._inputs = self._loss_call = self._backward_frame = self.bad_scene = None
            self.judge_whole_evaluation()
            self.phases.stepped()
            self.clock.own_s += self.spent_s + time.perf_counter() - started
            self.clock.stepped()
            self.spent_s = 0.0
            self.arm(model, any(t.governor.wants(t.steps) for t in self._tracks.values()))

    # -- judging -----------------------------------------------------------------------------------------------------

    def _is_tripped(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, track: Track, have: list[Owned],
        grads: list[float], losses: list[float],
    ) -> bool:  # fmt: skip
        """Judge a step with a loss or a gradient norm that is not finite; return whether one of them counts.

        The mean of several losses counts only if it has reached the gradients: a loop may drop a bad batch itself.
        """
        is_skipped = is_skipped_by_scaler(optimizer)
        bad = [] if is_skipped else bad_ones(have, grads)
        if track.losses.count:
            loss: float | None = sum(losses)
        else:
            loss = None if not losses else losses[1] if bad else losses[0]
        if not bad and (loss is None or math.isfinite(loss)):
            return is_skipped
        if loss is not None and not math.isfinite(loss):
            track.curve.add(track.steps, math.nan)
        bad_layers = list(dict.fromkeys(o.layer for o in bad))
        known = self._layout.sorted(self.board.order)
        layers = {o.layer: LayerView(o.layer, kind=known.get(o.layer, "")) for o in have}
        layers = {name: layers[name] for name in known if name in layers}
        layers.update({name: replace(layers[name], is_grad_finite=False) for name in bad_layers})
        self.counters.gradients(bad, track.steps)
        if track.tripped and self.judge.on_error == "warn":  # step after step: count, but look no more
            for diagnosis in track.tripped:
                self.judge.findings.counts[diagnosis.id] += 1
            self._drop(track, is_dangerous=bool(bad))
            return True
        good = [name for name in layers if name not in bad_layers]
        origin = bad_target(self._loss_call) or self.locate(model, bad_layers, good)
        self.counters.origin(origin, track.steps)
        view = StepView(track.steps, layers, loss=loss, origin=origin, optimizer=type(optimizer).__name__)
        self.box.note(self, model, view, cell_id=current_cell_id())
        if not self._is_replayed and origin.place not in ("input", "weights"):
            self._is_replayed = True
            view = with_operation(view, step_ms=self.clock.view(torch.device("cpu")).step_ms, notes=self.notes)
        track.tripped = self.judge.judge(replace(view, is_sampled=False), track.history)
        self._handle(track.tripped, model, optimizer, track, is_dangerous=bool(bad))
        return True

    def _handle(
        self, found: list[Diagnosis], model: nn.Module, optimizer: torch.optim.Optimizer, track: Track,
        *, is_dangerous: bool = False,
    ) -> None:  # fmt: skip
        """Do what the policy asks for; a step that would write NaN into the weights is not taken under any."""
        errors = [d for d in found if d.status == "error" and (is_dangerous or self.judge.findings.counts[d.id] == 1)]
        if errors and self.judge.on_error == "pause":
            self.desk.pause(self, optimizer, track, sentence(errors[0]))
        elif errors and self.judge.on_error == "rollback":
            self.box.recover(self, model, track.steps, errors[0])
            is_dangerous = True
        self._drop(track, is_dangerous=is_dangerous)

    def _drop(self, track: Track, *, is_dangerous: bool) -> None:
        """Take the gradients away, so that the optimizer changes nothing in this step."""
        if is_dangerous:
            for o in track.owned:
                o.tensor.grad = None
            track.view = track.around = None

    def _judge_late(self, track: Track, step: int, bad: list[str]) -> None:
        layers = {name: LayerView(name, is_grad_finite=False) for name in bad if name not in ("loss", "dropped")}
        view = StepView(step, layers, loss=math.nan if "loss" in bad else None, is_sampled=False)
        track.tripped = self.judge.judge(view, track.history)

    def locate(self, model: nn.Module, bad: list[str], good: list[str]) -> Any:
        """Return where a non-finite value was made, by running the bad call again."""
        self.is_replaying = True
        try:
            return locate(model, self._batch.call, bad_layers=bad, good_layers=good, order=self.board.order)
        finally:
            self.is_replaying = False

    def _saw_stray(self, optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
        """Count steps of optimizers that hold nothing of a model that was called and got gradients."""
        if self.steps or self._batch.call is None or all(p.grad is None for p in model.parameters()):
            return
        self._batch = Batch()
        self._stray_steps += 1
        view = StepView(0, optimizer=type(optimizer).__name__, stray_steps=self._stray_steps, is_sampled=False)
        self.judge.judge(view, History())
