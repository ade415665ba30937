"""What is replaced in torch while a watch is open, and put back exactly: backward, scalers, losses, data loaders.

torch has no hook for any of them. Each replacement calls the original first or last, with the
arguments as they came, and tells the open sessions. A replacement that somebody else has
wrapped meanwhile stays in that wrapper and does nothing but call the original.
"""

from __future__ import annotations

import functools
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.utils.data import DataLoader, dataloader

LOSSES = (
    "cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss", "l1_loss",
    "smooth_l1_loss", "huber_loss", "kl_div", "poisson_nll_loss", "soft_margin_loss", "multilabel_soft_margin_loss",
    "multi_margin_loss", "hinge_embedding_loss",
)  # fmt: skip
_OURS = (f"{__name__.rpartition('.')[0].replace('.', '/')}/", "/torch/", "\\torch\\", "\\nbops\\debugging\\")


class Listener(Protocol):
    """What is told: a session."""

    def backward_begins(self) -> None: ...
    def backward_failed(self, error: RuntimeError) -> None: ...
    def backward_ended(self, losses: Sequence[Tensor], frame: FrameType | None, duration_s: float) -> None: ...
    def scaler_stepped(self, scaler: Any, optimizer: torch.optim.Optimizer, *, is_skipped: bool) -> None: ...
    def loss_called(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None: ...
    def seeded(self) -> None: ...
    def loader_began(self, loader: Any) -> None: ...
    def loader_was_empty(self, loader: Any) -> None: ...
    def batch_loaded(self, sampler: Any, loader: Any, workers: int, duration_s: float) -> None: ...


class _Local(threading.local):
    inside = False  # a backward pass of reentrant checkpointing runs inside another one


_local = _Local()
_listeners: Callable[[], Sequence[Listener]] = tuple
_stepped: set[int] = set()  # optimizers that were called while a scaler made its step
_scaled: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}  # id of a scaled loss: the loss itself
_applied: list[tuple[Any, str, Any, Any]] = []  # owner, name, what was there, what stands there now


def apply(listeners: Callable[[], Sequence[Listener]]) -> None:
    """Replace everything, unless that is done already; `listeners` returns who is to be told."""
    global _listeners
    _listeners = listeners
    if _applied:
        return
    _replace(torch.autograd, "backward", _telling_backward)
    _replace(GradScaler, "scale", _telling_scale)
    _replace(GradScaler, "step", _telling_step)
    for name in LOSSES:
        _replace(torch.nn.functional, name, functools.partial(_telling_loss, name))
    _replace(torch, "manual_seed", _telling_seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        _replace(numpy.random, "seed", _telling_seed)
    _replace(DataLoader, "__iter__", _telling_iter)
    _replace(dataloader._BaseDataLoaderIter, "__next__", _telling_next)


def undo() -> None:
    """Put everything back as it was."""
    global _listeners
    _listeners = tuple
    while _applied:
        owner, name, before, ours = _applied.pop()
        if getattr(owner, name) is ours:
            setattr(owner, name, before)
    _scaled.clear()
    _stepped.clear()


def was_called(optimizer: torch.optim.Optimizer) -> None:
    """Note that an optimizer takes a step."""
    _stepped.add(id(optimizer))


def user_frame() -> FrameType | None:
    """Return the nearest frame of the caller's own code: outside torch and this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


@functools.lru_cache(maxsize=4096)
def _is_ours(filename: str) -> bool:
    return any(part in filename for part in _OURS)


def _replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    before = getattr(owner, name, None)
    if before is None:  # another version of torch
        return
    ours = make(before)
    _applied.append((owner, name, before, ours))
    setattr(owner, name, ours)


def _telling_backward(original: Any) -> Any:
    @functools.wraps(original)
    def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or _local.inside:
            return original(tensors, *args, **kwargs)
        told = _listeners()
        if not told:
            return original(tensors, *args, **kwargs)
        losses = [tensors] if isinstance(tensors, Tensor) else [t for t in tensors if isinstance(t, Tensor)]
        _local.inside = True
        try:
            for one in told:
                one.backward_begins()
            started = time.perf_counter()
            try:
                result = original(tensors, *args, **kwargs)
            except RuntimeError as error:
                for one in told:
                    one.backward_failed(error)
                raise
            duration_s = time.perf_counter() - started
            if told:
                unscaled, frame = [_unscaled(loss) for loss in losses], user_frame()
                for one in told:
                    one.backward_ended(unscaled, frame, duration_s)
            return result
        finally:
            _local.inside = False

    return backward


def _unscaled(loss: Tensor) -> Tensor:
    found = _scaled.pop(id(loss), None)
    return found[1] if found is not None and found[0]() is loss else loss


def _telling_scale(original: Any) -> Any:
    @functools.wraps(original)
    def scale(self: Any, outputs: Any) -> Any:
        result = original(self, outputs)
        if isinstance(outputs, Tensor) and isinstance(result, Tensor) and _listeners():
            if len(_scaled) > 16:
                _scaled.clear()
            _scaled[id(result)] = weakref.ref(result), outputs
        return result

    return scale


def _telling_step(original: Any) -> Any:
    @functools.wraps(original)
    def step(self: Any, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> Any:
        _stepped.discard(id(optimizer))
        result = original(self, optimizer, *args, **kwargs)
        for one in _listeners():
            one.scaler_stepped(self, optimizer, is_skipped=id(optimizer) not in _stepped)
        return result

    return step


def _telling_loss(name: str, original: Any) -> Any:
    @functools.wraps(original)
    def loss(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if not torch.compiler.is_compiling():
            for one in _listeners():
                one.loss_called(name, args, kwargs, result)
        return result

    return loss


def _telling_seed(original: Any) -> Any:
    @functools.wraps(original)
    def seed(*args: Any, **kwargs: Any) -> Any:
        for one in _listeners():
            one.seeded()
        return original(*args, **kwargs)

    return seed


def _telling_iter(original: Any) -> Any:
    @functools.wraps(original)
    def __iter__(self: Any) -> Any:
        iterator = original(self)
        if isinstance(iterator, dataloader._BaseDataLoaderIter):
            iterator._nbops_loader = self  # type: ignore[attr-defined]  # nobody else may hold the loader
        for one in _listeners():
            one.loader_began(self)
        return iterator

    return __iter__


def _telling_next(original: Any) -> Any:
    @functools.wraps(original)
    def __next__(self: Any) -> Any:
        started = time.perf_counter()
        try:
            batch = original(self)
        except StopIteration:
            loader = getattr(self, "_nbops_loader", None)
            if getattr(self, "_num_yielded", 1) == 0 and loader is not None:
                for one in _listeners():
                    one.loader_was_empty(loader)
            raise
        told = _listeners()
        if told:
            duration_s = time.perf_counter() - started
            loader, sampler = getattr(self, "_nbops_loader", None), getattr(self, "_index_sampler", None)
            for one in told:
                one.batch_loaded(sampler, loader, getattr(self, "_num_workers", 0), duration_s)
        return batch

    return __next__
