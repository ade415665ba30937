"""The engine of one watch: attaches hooks, judges each optimizer step before it is taken, and measures around it.

Holds its model weakly. What is measured lives in probes and measuring, what is judged in the rules.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from nbops.core.errors import TrainingStopped
from nbops.debugging import stepping
from nbops.debugging.batch import Batch, Call
from nbops.debugging.findings import warn
from nbops.debugging.guard import bad_ones, is_skipped_by_scaler, scale_in, unless_skipped
from nbops.debugging.judging import Judge
from nbops.debugging.locating import locate
from nbops.debugging.measuring import Around, Layout, Owned, grad_norms, measure, missing_layers
from nbops.debugging.probes import Board, CallHook, LayerHook, LossHook, OutputHook
from nbops.debugging.tensors import dense, first_tensor, is_compiled, named_layers, pack, unwrap
from nbops.debugging.tracks import Track
from nbops.debugging.views import History, LayerView, StepView
from nbops.store.context import CellRef, current_run, note_run_of

_LOSSES_UNREAD = 8  # losses without a step of the optimizer, before they are read for their own sake
_ERRORS_ALLOWED = 3


class Session:
    """One model being watched; see `nbops.debugging.watch.watch` for the parameters."""

    def __init__(
        self, model: nn.Module, *, optimizers: Sequence[torch.optim.Optimizer], loss: nn.Module | None,
        on_error: str, sample_every: int | None, label: str, cell: CellRef | None,
    ) -> None:  # fmt: skip
        self.label = label
        self.cell = cell
        self.model_name = type(unwrap(model)).__name__
        self.board = Board()
        self.stats: dict[str, dict[str, float]] = {}
        self.notes: list[str] = []
        self.errors: list[str] = []
        self.judge = Judge(on_error=on_error, errors=self.errors)
        self.run_id: str | None = None
        self.is_open = True
        self.is_armed = True
        self.spent_s = 0.0
        self._every = sample_every
        self._model = weakref.ref(model)
        self._chosen = weakref.WeakSet(optimizers) if optimizers else None
        self.steps = self.sampled = 0  # of the optimizer that took most, and measured steps of all
        self._tracks: weakref.WeakKeyDictionary[torch.optim.Optimizer, Track] = weakref.WeakKeyDictionary()
        self._layout = Layout(unwrap(model))
        self._covered: set[int] = set()
        self._seen: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()
        self._hooked: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._handles: list[Any] = []
        self._stray_steps = 0
        self._containment = Containment(self)
        self._batch = Batch()
        self._unstepped = 0
        self._attach(model, loss)

    # -- hooks ---------------------------------------------------------------------------------------------------

    def _attach(self, model: nn.Module, loss: nn.Module | None) -> None:
        self._has_loss = loss is not None
        self._hooks_layers = not is_compiled(model)
        if not self._hooks_layers:
            self.notes.append("compiled by torch.compile: layer outputs are not seen; gradients, updates and loss are")
        self._handles.append(model.register_forward_pre_hook(CallHook(self), with_kwargs=True))
        self._handles.append(model.register_forward_hook(OutputHook(self)))
        if loss is not None:
            self._handles.append(loss.register_forward_hook(LossHook(self)))
        self._hook_layers(unwrap(model))
        self._finalizer = weakref.finalize(model, self._end)
        self._finalizer.atexit = False
        stepping.enlist(self)
        self._enter_run(model)

    def _hook_layers(self, model: nn.Module) -> None:
        """Hook layers that have no hook yet: all at first, later those that replaced others."""
        if self._hooks_layers:
            for name, module in named_layers(model):
                if module not in self._hooked:
                    self._hooked.add(module)
                    self._handles.append(module.register_forward_hook(LayerHook(self, name)))

    def close(self) -> None:
        """Remove every hook; closing twice is fine."""
        self._end()
        stepping.dismiss(self)

    def _end(self) -> None:
        """Let go of the model. Also called when it is freed, at any moment, so torch's global hooks are left alone."""
        if self.is_open:
            self.is_open = self.is_armed = False
            self._finalizer.detach()
            for handle in self._handles:
                handle.remove()
            self._handles.clear()
            self._tracks.clear()
            self._batch = Batch()

    @property
    def model(self) -> nn.Module | None:
        """The watched model, None once it is gone."""
        return self._model()

    def contained(self) -> Containment:
        """Return the block in which an error of ours is recorded instead of raised."""
        return self._containment

    def fail(self, error: Exception, *, where: str) -> None:
        """Record an error of ours; the third one switches the watch off."""
        self.errors.append(f"{where}: {type(error).__name__}: {error}")
        if len(self.errors) == _ERRORS_ALLOWED:
            self.close()
            warn("the watch switched itself off after three errors of its own: " + "; ".join(self.errors))

    # -- what the hooks tell -------------------------------------------------------------------------------------

    def called(self, call: Call) -> None:
        """Keep the arguments of the model's last call until the step."""
        self._batch.called(call)

    def keep_call(self) -> None:
        """Keep the last call: its output is not finite."""
        self._batch.keep_call()

    def saw_loss(self, output: Any) -> None:
        """Add a value of the loss; read from the device only when no step follows for long."""
        with self.contained(), torch.no_grad():
            found = first_tensor(output)
            if found is None or found.numel() == 0:
                return
            self._batch.add_loss(found.detach() if found.ndim == 0 else dense(found).float().mean())
            self._unstepped += 1
            if self._unstepped % _LOSSES_UNREAD == 0:
                self._judge_unstepped()

    def _judge_unstepped(self) -> None:
        """Judge the loss although no step follows: a gradient scaler skips steps without a word."""
        model, loss = self.model, self._batch.loss
        value = 0.0 if loss is None else float(loss)
        if model is not None and not math.isfinite(value):
            view = StepView(self.steps, loss=value, skipped=self._unstepped, is_sampled=False)
            self.judge.judge(replace(view, origin=self._locate(model, [], [])), History())

    # -- around a step -------------------------------------------------------------------------------------------

    def before(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Judge a step that is about to be taken; with a closure, each time it has computed the gradients."""
        model = self.model
        with self.contained(), torch.no_grad():
            owned = self._concerned(optimizer, model) if self.is_open and model is not None else []
            if owned and model is not None:
                closure = kwargs.get("closure") or (args[1] if len(args) > 1 else None)
                if not callable(closure):
                    self._guarded(model, optimizer, owned)
                elif "closure" in kwargs:
                    return args, {**kwargs, "closure": self._judging(closure, optimizer)}
                else:
                    return (args[0], self._judging(closure, optimizer), *args[2:]), kwargs
        return args, kwargs

    def _concerned(self, optimizer: torch.optim.Optimizer, model: nn.Module) -> list[Owned]:
        """Return the model's parameters that the step will change; nothing if it is not to be judged."""
        owned = self._layout.owned(optimizer)
        if not owned:
            self._saw_stray(optimizer, model)
        elif optimizer not in self._seen:  # also one that is not looked at covers its parameters
            self._seen.add(optimizer)
            self._covered |= {id(o.tensor) for o in owned}
        return owned if self._chosen is None or optimizer in self._chosen else []

    def _judging(self, closure: Any, optimizer: torch.optim.Optimizer) -> Any:
        def judged() -> Any:
            loss = closure()
            if not self._has_loss:
                self.saw_loss(loss)
            model = self.model
            with self.contained(), torch.no_grad():
                if self.is_open and model is not None:
                    self._guarded(model, optimizer, self._layout.owned(optimizer))
                    self._batch, self._unstepped = Batch(), 0
            return loss

        return judged

    def _guarded(self, model: nn.Module, optimizer: torch.optim.Optimizer, owned: list[Owned]) -> None:
        try:
            self._before(model, optimizer, owned)
        except TrainingStopped:
            self._batch, self._unstepped = Batch(), 0  # this batch is done with
            raise

    def _before(self, model: nn.Module, optimizer: torch.optim.Optimizer, owned: list[Owned]) -> None:
        started = time.perf_counter()
        self._enter_run(model)
        track = self._tracks.get(optimizer)
        if track is None:
            track = self._tracks[optimizer] = Track(every=self._every)
        track.began(started, spent_s=self.spent_s)
        is_sampled = track.governor.wants(track.steps) and track.around is None
        if is_sampled:
            self._layout = Layout(unwrap(model))
            self._hook_layers(unwrap(model))
            owned = self._layout.owned(optimizer)
        have, scalars = grad_norms(owned)
        scalars = [*scalars, *self._batch.scalars()]
        values = self._read(optimizer, track, have, pack(scalars), is_sampled) if scalars else None
        if values is None:
            return
        grads, losses = values[: len(have)], values[len(have) :]
        if not all(map(math.isfinite, values)) and self._is_tripped(model, optimizer, track, have, grads, losses):
            return
        track.tripped = []
        if is_sampled and have:
            loss = next((value for value in reversed(losses) if math.isfinite(value)), None)  # mean, else the last
            track.view = self._sample(model, optimizer, track, have, grads, loss)
            track.around = Around(have)
        track.judged(time.perf_counter() - started + self.spent_s)

    def _read(
        self, optimizer: torch.optim.Optimizer, track: Track, have: list[Owned], vector: Tensor, is_sampled: bool
    ) -> list[float] | None:
        """Return the values, or None where reading can wait until the next sampled step."""
        if self._reads_at_once(vector):
            return list(vector.tolist())
        names = [o.layer for o in have] + ["loss", "dropped"][: len(vector) - len(have)]
        late = track.tripwire.read() if is_sampled or not track.tripwire.takes(names) else None
        if late is not None:
            self._judge_late(track, *late)
        if is_sampled:
            return list(vector.tolist())
        track.tripwire.note(names, unless_skipped(optimizer, vector), track.steps)
        return None

    def _reads_at_once(self, vector: Tensor) -> bool:
        """Return whether each step is read: where it costs no wait, or where a stop depends on it."""
        return vector.device.type == "cpu" or self.judge.on_error == "stop"

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
        layers = measure(
            inner, self._layout, self.board, have, grads,
            missing=missing_layers(inner, self._covered), scale=scale_in(optimizer),
        )  # fmt: skip
        rates = tuple(float(group.get("lr", math.nan)) for group in optimizer.param_groups)
        view = StepView(track.steps, layers, loss=loss, optimizer=type(optimizer).__name__, lr=rates)
        self.judge.judge(view, track.history)
        return view

    def after(self, optimizer: torch.optim.Optimizer) -> None:
        """Measure what a step did."""
        track = self._tracks.get(optimizer)
        if track is None or not self.is_open:
            return
        with self.contained(), torch.no_grad():
            started = time.perf_counter()
            view, around = track.view, track.around
            track.view = track.around = None
            if view is not None and around is not None:
                view = replace(view, layers=around.compare(view.layers))
                for name, layer in view.layers.items():  # several optimizers fill in one layer's numbers
                    self.stats.setdefault(name, {}).update(layer.numbers())
                self._log(view)
                track.completed(view, time.perf_counter() - started)
                self.sampled += 1
            track.ended(time.perf_counter())
            self.steps = max(self.steps, track.steps)
            self.spent_s = 0.0
            self._stray_steps = 0
            self._batch, self._unstepped = Batch(), 0
            self.is_armed = any(t.governor.wants(t.steps) for t in self._tracks.values())

    # -- judging -------------------------------------------------------------------------------------------------

    def _is_tripped(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, track: Track, have: list[Owned],
        grads: list[float], losses: list[float],
    ) -> bool:  # fmt: skip
        """Judge a step with a loss or a gradient norm that is not finite; return whether one of them counts.

        The mean of several losses counts only if it has reached the gradients: a loop may drop a bad batch itself.
        """
        is_skipped = is_skipped_by_scaler(optimizer)
        bad = [] if is_skipped else bad_ones(have, grads)
        loss = None if not losses else losses[1] if bad else losses[0]
        if not bad and (loss is None or math.isfinite(loss)):
            return is_skipped
        if track.tripped and self.judge.on_error == "warn":  # the weights are lost already: count, but look no more
            for diagnosis in track.tripped:
                self.judge.findings.counts[diagnosis.id] += 1
            return True
        bad_layers = list(dict.fromkeys(o.layer for o in bad))
        known = self._layout.sorted(self.board.order)
        layers = {o.layer: LayerView(o.layer, kind=known.get(o.layer, "")) for o in have}
        layers = {name: layers[name] for name in known if name in layers}
        layers.update({name: replace(layers[name], is_grad_finite=False) for name in bad_layers})
        good = [name for name in layers if name not in bad_layers]
        origin = self._locate(model, bad_layers, good)
        view = StepView(track.steps, layers, loss=loss, origin=origin, optimizer=type(optimizer).__name__)
        track.tripped = self.judge.judge(replace(view, is_sampled=False), track.history)
        return True

    def _judge_late(self, track: Track, step: int, bad: list[str]) -> None:
        layers = {name: LayerView(name, is_grad_finite=False) for name in bad if name not in ("loss", "dropped")}
        view = StepView(step, layers, loss=math.nan if "loss" in bad else None, is_sampled=False)
        track.tripped = self.judge.judge(view, track.history)

    def _locate(self, model: nn.Module, bad: list[str], good: list[str]) -> Any:
        return locate(model, self._batch.call, bad_layers=bad, good_layers=good, order=self.board.order)

    def _saw_stray(self, optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
        """Count steps of optimizers that hold nothing of a model that was called and got gradients."""
        if self.steps or self._batch.call is None or all(p.grad is None for p in model.parameters()):
            return
        self._batch = Batch()
        self._stray_steps += 1
        view = StepView(0, optimizer=type(optimizer).__name__, stray_steps=self._stray_steps, is_sampled=False)
        self.judge.judge(view, History())

    # -- the run -------------------------------------------------------------------------------------------------

    def _enter_run(self, model: nn.Module) -> None:
        """Follow the open run; a new one counts its steps from 0 and is told everything again."""
        run_id = current_run()
        if run_id is None or run_id == self.run_id:
            return
        if self.run_id is not None or self.steps:
            self._tracks.clear()
            self.stats.clear()
            self.steps = self.sampled = 0
            self.judge.findings.begin_run()
        self.run_id = run_id
        for thing in {model, unwrap(model)}:
            note_run_of(thing, run_id)

    def _log(self, view: StepView) -> None:
        run_id = current_run()
        values = {"watch/grad_norm": view.grad_norm, "watch/update_ratio": view.update_ratio}
        metrics = {name: value for name, value in values.items() if value is not None}
        if run_id is not None and metrics:
            from nbops.store.workspace import workspace

            workspace().log(run_id, view.step, metrics)


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
