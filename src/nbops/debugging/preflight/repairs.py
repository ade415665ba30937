"""Repairs that are tried on the fake twin before they are advised: other sizes, another order of axes, another pool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.rnn import RNNBase, RNNCellBase

from nbops.core.records import Cause

Undo = Callable[[], None]


@dataclass(frozen=True)
class Repair:
    """One thing that may be wrong, what to do about it, and how to do that to the twin (None: it cannot be tried).

    example, patch, name : code to look at, a patch of the user's source, and the id of the cause
    rewrite : changes one call of an operation instead of the model; see `Observer.rewrite`
    """

    text: str
    fix: str
    example: str = ""
    confidence: float = 0.5
    apply: Callable[[nn.Module], Undo] | None = None
    rewrite: Callable[[str, tuple[Any, ...], dict[str, Any]], Any] | None = None
    test: str = ""
    patch: str = ""
    name: str = ""

    @property
    def can_be_tried(self) -> bool:
        """Whether the twin can run with it."""
        return self.apply is not None or self.rewrite is not None

    def cause(self, *, confidence: float, test: str) -> Cause:
        """Return the record of it."""
        return Cause(
            text=self.text, test=test or self.test, fix=self.fix, patch=self.patch, example=self.example,
            confidence=confidence, name=self.name,
        )  # fmt: skip


def part(model: nn.Module, path: str) -> nn.Module:
    """Return the module at `path`, also where its name is one of a method.

    Raises
    ------
    KeyError
        There is none: it is not registered.
    """
    for name in path.split(".") if path else ():
        child = model._modules[name]
        if child is None:
            raise KeyError(path)
        model = child
    return model


def _nothing() -> None:
    """Undo what did not change anything."""


# ---- changes of a module ---------------------------------------------------------------------------------------------


def replaced(path: str, make: Callable[[nn.Module], nn.Module]) -> Callable[[nn.Module], Undo]:
    """Return what puts another module at `path`; `make` gets the one that is there."""

    def apply(model: nn.Module) -> Undo:
        owner = part(model, path.rpartition(".")[0])
        name = path.rpartition(".")[2]
        old = owner._modules[name]
        if old is None:
            return _nothing
        owner._modules[name] = make(old)

        def undo() -> None:
            owner._modules[name] = old

        return undo

    return apply


def with_settings(path: str, **settings: Any) -> Callable[[nn.Module], Undo]:
    """Return what sets plain attributes of the module at `path`."""

    def apply(model: nn.Module) -> Undo:
        module = part(model, path)
        before = {name: getattr(module, name) for name in settings}
        for name, value in settings.items():
            setattr(module, name, value)

        def undo() -> None:
            for name, value in before.items():
                setattr(module, name, value)

        return undo

    return apply


def with_input(path: str, change: Callable[[Tensor], Any]) -> Callable[[nn.Module], Undo]:
    """Return what changes the first argument of the module at `path` before each call."""

    def apply(model: nn.Module) -> Undo:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return (change(args[0]), *args[1:])

        return part(model, path).register_forward_pre_hook(hook, prepend=True).remove

    return apply


def with_dtype(path: str, dtype: torch.dtype) -> Callable[[nn.Module], Undo]:
    """Return what casts the module's tensor inputs."""
    return with_input(path, lambda x: x.to(dtype))


def remade(module: nn.Module, **changes: Any) -> nn.Module:
    """Return a module of the same kind with other sizes, with new weights."""
    names: tuple[str, ...]
    kind = type(module)
    if isinstance(module, nn.Linear):
        kind, names = nn.Linear, ("in_features", "out_features")
        changes.setdefault("bias", module.bias is not None)
    elif isinstance(module, _ConvNd):
        kind = next(k for k in kind.__mro__ if k.__module__.startswith("torch."))
        names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
        changes.setdefault("bias", module.bias is not None)
        if isinstance(module, _ConvTransposeNd):
            changes.setdefault("output_padding", module.output_padding)
    elif isinstance(module, _NormBase):
        names = ("num_features", "eps", "momentum", "affine", "track_running_stats")
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
        names = ("normalized_shape",)
    elif isinstance(module, nn.GroupNorm):
        names = ("num_groups", "num_channels")
    elif isinstance(module, RNNBase):
        names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
    elif isinstance(module, RNNCellBase):
        names = ("input_size", "hidden_size", "bias")
    elif isinstance(module, nn.Embedding):
        names = ("num_embeddings", "embedding_dim", "padding_idx")
    elif isinstance(module, nn.MultiheadAttention):
        names = ("embed_dim", "num_heads", "batch_first")
    else:
        raise TypeError(kind.__name__)
    settings = {name: getattr(module, name) for name in names} | changes
    made: nn.Module = kind(**settings)
    weight = next((p for p in module.parameters()), None)
    made.train(module.training)
    return made.to(weight.dtype) if weight is not None else made


def resized(path: str, **changes: Any) -> Callable[[nn.Module], Undo]:
    """Return what gives the module at `path` other sizes."""
    return replaced(path, lambda old: remade(old, **changes))
