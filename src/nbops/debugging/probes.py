"""Hooks on modules: outputs reduced at once to a few numbers, the model's calls, the loss.

Hooks hold their session strongly and the session holds no module, so a watch lives as long
as its model. Copies and pickles of the model get an inert hook. Each hook leaves at once
while a graph is captured; those of layers are there on sampled steps only, and leave in
evaluation and without gradients (export, inference).
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import nn

from nbops.debugging.signals.activations import Board
from nbops.debugging.tensors import inert


def is_training(module: nn.Module) -> bool:
    """Return whether a call of `module` is part of a training step that we can look at."""
    return not is_captured() and module.training and torch.is_grad_enabled()


def is_captured() -> bool:
    """Return whether a graph is captured rather than computed: by torch.compile, torch.export or torch.jit.trace."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


class Listener(Protocol):
    """What the hooks tell: the session."""

    board: Board
    is_replaying: bool
    spent_s: float

    def contained(self) -> AbstractContextManager[None]: ...
    def model_called(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None: ...
    def model_returned(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None: ...
    def layer_returned(self, name: str, module: nn.Module, args: Any, output: Any) -> None: ...
    def saw_loss(self, output: Any) -> None: ...


class LayerHook:
    """Forward hook of one layer; one that is not measured is only shown to the user's functions."""

    def __init__(self, session: Listener, name: str, *, is_measured: bool = True) -> None:
        self._session = session
        self._name = name
        self._is_measured = is_measured

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if torch.compiler.is_compiling():
            return  # first, so that a captured graph depends on nothing of ours
        session = self._session
        if session.is_replaying or not is_training(module):
            return
        started = time.perf_counter()
        with session.contained(), torch.no_grad():
            if self._is_measured:
                session.board.note(self._name, module, output)
            session.layer_returned(self._name, module, args, output)
        session.spent_s += time.perf_counter() - started

    def __reduce__(self) -> Any:
        return inert()


class InputHook:
    """Forward pre-hook of a saturating activation, which may write over its input."""

    def __init__(self, session: Listener, name: str) -> None:
        self._session = session
        self._name = name

    def __call__(self, module: nn.Module, args: Any) -> None:
        if is_captured():
            return
        session = self._session
        if not session.is_replaying and is_training(module):
            started = time.perf_counter()
            with session.contained(), torch.no_grad():
                session.board.note_input(self._name, module, args)
            session.spent_s += time.perf_counter() - started

    def __reduce__(self) -> Any:
        return inert()


class CallHook:
    """Forward pre-hook of the model: says in which mode it is called, and keeps the arguments until the step."""

    def __init__(self, session: Listener) -> None:
        self._session = session

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not is_captured():
            self._session.model_called(module, args, kwargs)

    def __reduce__(self) -> Any:
        return inert()


class OutputHook:
    """Forward hook of the model: on the CPU, where reading is free, remembers which call gave a non-finite output."""

    def __init__(self, session: Listener) -> None:
        self._session = session

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not is_captured():
            self._session.model_returned(module, args, kwargs, output)

    def __reduce__(self) -> Any:
        return inert()


class LossHook:
    """Forward hook of the loss module."""

    def __init__(self, session: Listener) -> None:
        self._session = session

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if not torch.compiler.is_compiling() and torch.is_grad_enabled():
            self._session.saw_loss(output)

    def __reduce__(self) -> Any:
        return inert()
