"""What a watch hears between two steps: calls of the model, losses, backward passes, batches. A part of the session."""

from __future__ import annotations

import math
import statistics
import time
import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from nbops.debugging.batch import Batch, Call, Place, Ring, places_of, taken
from nbops.debugging.blackbox.scene import Scene, scene_of
from nbops.debugging.judging import Judge
from nbops.debugging.patches import user_frame
from nbops.debugging.signals.batches import LossCall, Samples, first_input, loss_call
from nbops.debugging.signals.clearing import Probes
from nbops.debugging.signals.loaders import kind_of, length
from nbops.debugging.signals.losses import scalar_of, site_of
from nbops.debugging.signals.metrics import Metrics
from nbops.debugging.signals.phases import Phases, has_gradients, has_gradients_at, spread_of
from nbops.debugging.signals.repeating import difference_of
from nbops.debugging.signals.timing import Clock
from nbops.debugging.tensors import dense, first_tensor
from nbops.debugging.tracks import Track
from nbops.debugging.views import History, StepView

LOSSES_UNREAD = 64  # backward passes without a step of the optimizer, before the loss is read for its own sake
SKIPPED_UNREAD = 8  # steps in a row that a gradient scaler skips
_EVALUATED_ROWS = 2048  # samples of one evaluation that are hashed
_JUDGED_AT = (2, 8)  # batches of an evaluation after which it is judged
_UNCLAIMED = 64
_THROWN_JUDGED = (10, 100)  # gradients thrown away before the first step
_TRY_S, _TRY_SHARE = 0.05, 0.01  # a second evaluation pass may take so long, or this share of the time so far


class Hearing:
    """The ears of a session; the session itself brings what they fill."""

    is_open: bool
    is_armed: bool
    is_replaying: bool
    spent_s: float
    steps: int
    judge: Judge
    clock: Clock
    phases: Phases
    metrics: Metrics
    probes: Probes
    samples: Samples
    ring: Ring
    samplers: weakref.WeakKeyDictionary[Any, weakref.ref[Any] | None]
    _tracks: weakref.WeakKeyDictionary[torch.optim.Optimizer, Track]
    _batch: Batch
    _unstepped: int
    _unclaimed: list[tuple[set[int], tuple[str, int], Tensor]]
    _loss_call: LossCall | None
    _inputs: Tensor | None
    _called_at: float | None
    _called_spent_s: float = 0.0
    _is_recorded: bool = False
    _has_several: bool = False  # whether the last step came of several calls or backward passes
    bad_scene: Scene | None
    _backward_frame: FrameType | None
    _backward_places: tuple[Place, ...]
    _sampler: weakref.ref[Any] | None
    _loader: weakref.ref[Any] | None
    _has_backwards: bool
    passes: int
    lost_passes: int
    thrown_away: int
    seedings: int
    _thrown_before: int
    _is_graded: bool
    _loop_file: str
    _foreign: weakref.WeakSet[torch.optim.Optimizer]
    _is_evaluating: bool

    @property
    def model(self) -> nn.Module | None: ...
    def read(self, frame: FrameType | None) -> None: ...
    def contained(self) -> AbstractContextManager[None]: ...  # type: ignore[empty-body]
    def locate(self, model: nn.Module, bad: list[str], good: list[str]) -> Any: ...

    # -- the model ---------------------------------------------------------------------------------------------------

    def model_called(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note in which mode the model is called, and keep the arguments of a call with gradients until the step."""
        if self.is_replaying:
            return
        with self.contained():
            started = time.perf_counter()
            is_recorded = self._is_recorded = has_gradients()
            self._is_evaluating = self.phases.called(module, has_gradients=is_recorded)
            self._inputs = None
            if is_recorded:
                self.clock.called()
                kept, named, device, size = taken(args, kwargs)
                call = Call(
                    kept, named, (device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)),
                    step=self.steps, random=torch.get_rng_state(), is_training=module.training,
                    device_random=torch.cuda.get_rng_state() if device == "cuda" else None,
                    places=places_of(user_frame()), size_bytes=size,
                )  # fmt: skip
                self._batch.called(call)
                self.ring.add(call)
                sampler = self._sampler() if self._sampler is not None and not self._is_evaluating else None
                if sampler is not None:
                    self.samplers[sampler] = self._loader
            if self._is_evaluating or self.is_armed:
                self._inputs = first_input(args, kwargs)
            self._called_at = time.perf_counter()
            self.spent_s += self._called_at - started
            self._called_spent_s = self.spent_s

    def model_returned(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Note what the model gave: whether it is finite, where reading is free; judge an evaluation."""
        if self.is_replaying:
            return
        with self.contained(), torch.no_grad():
            started = time.perf_counter()
            inside_s = self.spent_s - self._called_spent_s  # the layers' hooks
            forward_s = 0.0 if self._called_at is None else max(0.0, started - self._called_at - inside_s)
            self._called_at = None
            if has_gradients_at(output) and not self._is_evaluating:
                self.clock.add("forward", forward_s)
                if self._has_several or self.is_armed:  # with one call in a step there is nothing to tell apart
                    self._note_bad_call(first_tensor(output))
            elif self._is_evaluating:
                self._evaluated(output if self._is_recorded else None)
                if not (module.training or self.phases.is_tried or self._is_recorded):
                    self.phases.is_tried = True
                    if forward_s <= max(_TRY_S, _TRY_SHARE * (started - self.clock.began_at)):
                        self._try_again(module, args, kwargs, output)
            self.spent_s += time.perf_counter() - started

    def _note_bad_call(self, output: Tensor | None) -> None:
        if output is not None and output.device.type == "cpu" and not math.isfinite(output.sum().item()):
            self._batch.keep_call()

    def _evaluated(self, output: Any) -> None:
        now, inputs, self._inputs = self.phases.evaluation, self._inputs, None
        now.saw(inputs, first_tensor(output))
        if now.rows < _EVALUATED_ROWS:
            rows, leaked = self.samples.leaked(inputs)
            now.rows, now.leaked = now.rows + rows, now.leaked + leaked
            now.mixed += rows if rows and 0.02 < leaked / rows < 0.98 else 0
        if now.batches in _JUDGED_AT:
            self.judge_evaluation()

    def _try_again(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        self.is_replaying = True
        try:
            self.phases.difference, self.phases.dropout = difference_of(module, args, kwargs, output)
        finally:
            self.is_replaying = False

    def judge_evaluation(self) -> None:
        """Judge the evaluation that goes on."""
        seen = self.phases.view(self.steps)
        if seen is not None:
            losses = [one for track in self._tracks.values() for one in track.history.losses(20)]
            views = [v for track in self._tracks.values() for v in track.history]
            seen = replace(
                seen, is_training_set_known=self.samples.is_complete,
                trained=spread_of([v.batch.inputs for v in views if v.batch is not None]),
                train_loss=statistics.median(losses) if losses and len(self._tracks) == 1 else None,
            )  # fmt: skip
        view = StepView(
            self.steps, moment="evaluation", is_sampled=False, evaluation=seen, metrics=self.metrics.view(),
            optimizers=self.optimizers_seen,
        )  # fmt: skip
        self.phases.evaluation.is_told = True
        self.judge.judge(view, History())

    def judge_whole_evaluation(self) -> None:
        """Judge an evaluation that is over; again, if its first batches were judged."""
        seen = self.phases.evaluation
        if self.phases.is_open and not (seen.is_told and seen.batches < 2):
            self.judge_evaluation()

    @property
    def optimizers_seen(self) -> int:
        """How many optimizers step: those of the model, and those of other models (an adversary, a critic)."""
        return len(self._tracks) + len(self._foreign)

    @property
    def bad_call(self) -> Call | None:
        """The call of the model to look at: the first with a non-finite output, else the last."""
        return self._batch.call

    # -- losses ------------------------------------------------------------------------------------------------------

    def loss_called(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Note a call of a loss function: of a training step that is measured, or of an evaluation."""
        if self.is_replaying or not (self.is_armed or self.phases.is_open):
            return
        with self.contained(), torch.no_grad():
            if not (isinstance(result, Tensor) and result.requires_grad):
                if self.phases.is_open and isinstance(result, Tensor):
                    self.phases.add_loss(result.detach())
                    if not self.phases.evaluation.is_told:
                        self.judge_evaluation()
            elif self.is_armed:
                self._loss_call = loss_call(name, args, kwargs, result) or self._loss_call

    def saw_loss(self, output: Any) -> None:
        """Add a value of the watched loss module; read from the device only when no step follows for long."""
        if self.is_replaying:
            return
        with self.contained(), torch.no_grad():
            found = first_tensor(output)
            if found is None or found.numel() == 0:
                return
            self._batch.add_loss(found.detach() if found.ndim == 0 else dense(found).float().mean())
            if not self._has_backwards:
                self._count_unstepped()

    def _count_unstepped(self) -> None:
        self._unstepped += 1
        if self._unstepped % LOSSES_UNREAD == 0:
            self.judge_unstepped(self._batch.loss)

    def judge_unstepped(self, loss: Tensor | None) -> None:
        """Judge the loss although no step follows: a gradient scaler skips steps without a word."""
        model = self.model
        value = 0.0 if loss is None else float(loss)
        if model is not None and not math.isfinite(value):
            view = StepView(self.steps, loss=value, skipped=self._unstepped, is_sampled=False)
            self.judge.judge(replace(view, origin=self.locate(model, [], [])), History())

    # -- backward passes ---------------------------------------------------------------------------------------------

    def backward_begins(self) -> None:
        """Note which gradients were cleared since the last backward pass or step."""
        if self.is_replaying:
            return
        with self.contained():
            started = time.perf_counter()
            changed = self.probes.changed()
            if changed and self._is_graded and self.probes.are_gone(changed) and not self.probes.is_written:
                self._threw_away()
            for track in self._tracks.values():
                if track.clearing.begins(changed & track.ids) or (changed and _is_gone(track)):
                    track.losses.clear()
                    self._batch.forget_bad()
                    self.bad_scene = None
            self.spent_s += time.perf_counter() - started

    def backward_failed(self, error: RuntimeError) -> None:
        """Judge a backward pass that raised."""
        if not self.is_replaying and self.is_open:
            with self.contained():
                view = StepView(self.steps, moment="backward", is_sampled=False, failure=str(error))
                self.judge.judge(view, History())

    def backward_ended(self, losses: Sequence[Tensor], frame: FrameType | None, duration_s: float) -> None:
        """Add the loss to the optimizers whose gradients the pass changed."""
        if self.is_replaying:
            return
        with self.contained(), torch.no_grad():
            started = time.perf_counter()
            changed = self.probes.changed()
            self.probes.remember()
            self.passes += 1
            self.lost_passes += not changed
            if changed:
                self._has_backwards = self._is_graded = True
                self._backward_frame, self._backward_places = frame, places_of(frame)
                self._loop_file = frame.f_code.co_filename if frame is not None else ""
                self.read(frame)
                self.phases.reached()
                self.clock.add("backward", duration_s)
                self.clock.watch_graph([loss for loss in losses if loss.requires_grad])
                self._reached(changed, scalar_of(list(losses)), frame)
            self.spent_s += time.perf_counter() - started

    def _threw_away(self) -> None:
        """Count gradients that were cleared before a step could use them; judge them where no step comes at all."""
        self._is_graded = False
        self.thrown_away += 1
        if self.thrown_away in _THROWN_JUDGED and not self._tracks:
            view = StepView(0, moment="backward", is_sampled=False, thrown_away=self.thrown_away)
            self.judge.judge(view, History())

    def _reached(self, changed: set[int], value: Tensor | None, frame: FrameType | None) -> None:
        if value is None:
            return
        if self.bad_scene is None and value.device.type == "cpu" and not math.isfinite(value.item()):
            call = self.bad_call  # now: with micro-batches, the variables are others when the step comes
            if call is not None:
                self.bad_scene = scene_of(frame, self._backward_places, call.places, self.model)
        site, known = site_of(frame), set()
        for track in self._tracks.values():
            known |= track.ids
            if changed & track.ids:
                track.losses.add(site, value)
                track.clearing.backwards += 1
        if changed - known:
            self._unclaimed = [*self._unclaimed[-_UNCLAIMED:], (changed, site, value)]
        self._last_loss = value
        self._unstepped += 1
        if self._unstepped % LOSSES_UNREAD == 0:
            self.judge_unstepped(value)

    def claim(self, track: Track) -> None:
        """Give an optimizer that steps for the first time the losses that reached it."""
        self.probes.include([o.tensor for o in track.owned])
        left = []
        for changed, site, value in self._unclaimed:
            if changed & track.ids:
                track.losses.add(site, value)
                track.clearing.backwards += 1
            if changed - track.ids:
                left.append((changed - track.ids, site, value))
        self._unclaimed = left

    def scaler_stepped(self, scaler: Any, optimizer: torch.optim.Optimizer, *, is_skipped: bool) -> None:
        """Note the scale, and a step that the scaler skipped."""
        track = self._tracks.get(optimizer)
        if self.is_replaying or not scaler.is_enabled() or (track is None and not is_skipped):
            return
        with self.contained(), torch.no_grad():
            self._scaler = weakref.ref(scaler)
            if not is_skipped:
                return
            if track is not None:
                track.skipped += 1
                track.skipped_in_a_row += 1
                track.clearing.stepped(set())
                self._skips = track.skipped_in_a_row
                track.losses.clear()
            else:
                self._skips += 1
            if self._skips % SKIPPED_UNREAD == 0:
                self._unstepped = self._skips
                self.judge_unstepped(self._last_loss)

    _last_loss: Tensor | None = None
    _scaler: weakref.ref[Any] | None = None
    _skips = 0

    # -- data and metrics --------------------------------------------------------------------------------------------

    def batch_loaded(self, sampler: Any, loader: Any, workers: int, duration_s: float) -> None:
        """Add the time that the loop waited for a batch."""
        with self.contained():
            if loader is not None and (self._loader is None or self._loader() is not loader):
                self.clock.is_stream, self.clock.shared_random = kind_of(loader, workers)
            self._sampler = None if sampler is None else weakref.ref(sampler)
            self._loader = None if loader is None else weakref.ref(loader)
            self.clock.loaded(
                duration_s, workers=workers, batch_size=getattr(sampler, "batch_size", None), batches=length(loader)
            )

    def loader_began(self, loader: Any) -> None:
        """Forget the batches of the last epoch of a stream: within one epoch no sample may come twice."""
        if isinstance(getattr(loader, "dataset", None), torch.utils.data.IterableDataset):
            self.samples.begin_epoch()

    def loader_was_empty(self, loader: Any) -> None:
        """Judge a loader that gave no batch."""
        with self.contained():
            rows = length(getattr(loader, "dataset", None))
            if rows and not self.is_replaying and self.is_open:
                self.judge.judge(StepView(self.steps, moment="loader", is_sampled=False, empty_loader=rows), History())

    def seeded(self) -> None:
        """Count that a random state was seeded anew."""
        self.seedings += 1

    def metrics_logged(self, run_id: str, metrics: dict[str, float]) -> None:
        """Note what the user logs; judge it at once."""
        if self.is_replaying or not self.is_open:
            return
        with self.contained():
            if self.metrics.add(metrics):
                view = StepView(
                    self.steps, moment="metric", is_sampled=False, metrics=self.metrics.view(),
                    evaluation=self.phases.view(self.steps), batch=self.metrics.batch, optimizers=self.optimizers_seen,
                )  # fmt: skip
                only = next(iter(self._tracks.values()), None)
                self.judge.judge(view, only.history if only is not None and len(self._tracks) == 1 else History())


def _is_gone(track: Track) -> bool:
    """Return whether none of an optimizer's first parameters has a gradient: the loop dropped them."""
    return bool(track.owned) and all(o.tensor.grad is None for o in track.owned[:4])
