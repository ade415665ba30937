"""Functions of the user's own on layers: called with a small view of an output, a gradient or a weight."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from nbops.core.errors import InvalidInput, NotFound, did_you_mean
from nbops.debugging.signals.histograms import exponents, histogram
from nbops.debugging.tensors import dense, floating
from nbops.debugging.views import Histogram

KINDS = ("forward", "gradient", "weight")


@dataclass(frozen=True)
class Glance:
    """What a function given to ``watch.on`` sees of one tensor. Numbers are computed when they are asked for.

    layer, kind : name of the layer; ``forward`` (its output), ``gradient`` or ``weight``
    name : of the parameter (``weight``, ``bias``); "" for an output
    step : optimizer steps taken before
    sizes, dtype : shape and type
    input_sizes : shapes of the layer's inputs (``forward`` only)
    values : the tensor itself, cut from its graph; valid during the call
    """

    layer: str
    kind: str
    step: int
    values: Tensor
    name: str = ""
    input_sizes: tuple[tuple[int, ...], ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return tuple(self.values.shape)

    @property
    def dtype(self) -> str:
        """Type of its values, without ``torch.``."""
        return str(self.values.dtype).removeprefix("torch.")

    @cached_property
    def _flat(self) -> Tensor:
        x = dense(self.values).detach().reshape(-1)
        return x if x.dtype == torch.float64 else x.float()

    @property
    def norm(self) -> float:
        """L2 norm."""
        return float(torch.linalg.vector_norm(self._flat))

    @property
    def mean(self) -> float:
        """Mean of all values."""
        return float(self._flat.mean())

    @property
    def rms(self) -> float:
        """Root of the mean square."""
        return float(self.norm / max(1, self._flat.numel()) ** 0.5)

    @property
    def absmax(self) -> float:
        """Largest absolute value."""
        return float(self._flat.abs().amax()) if self._flat.numel() else 0.0

    @property
    def nan_share(self) -> float:
        """Share of values that are NaN."""
        return float(torch.isnan(self._flat).float().mean())

    @property
    def zero_share(self) -> float:
        """Share of values that are 0."""
        return float((self._flat == 0).float().mean())

    @property
    def histogram(self) -> Histogram:
        """Histogram over powers of two."""
        return histogram(self.layer, self.kind, self.step, exponents(self._flat).tolist(), self._flat.numel())

    def __repr__(self) -> str:
        where = f"{self.layer}.{self.name}" if self.name else self.layer
        return f"{where} {self.kind} at step {self.step}: {list(self.sizes)} {self.dtype}, norm {self.norm:.4g}"


Function = Callable[[Glance], Any]


@dataclass
class Watchpoint:
    """One function on the layers that a pattern names."""

    function: Function
    layers: frozenset[str]
    kinds: frozenset[str]
    every: int | None
    is_off: bool = False

    @property
    def name(self) -> str:
        """Name of the function."""
        return str(getattr(self.function, "__name__", "function"))

    def wants(self, step: int, layer: str, kind: str) -> bool:
        """Return whether it is to be called."""
        return (
            not self.is_off
            and kind in self.kinds
            and layer in self.layers
            and (not self.every or step % self.every == 0)
        )


def watchpoint(
    model: nn.Module, pattern: str, function: Function, *, kinds: Iterable[str], every: int | None
) -> Watchpoint:
    """Return a watchpoint on the modules of a model that a glob pattern names.

    Raises
    ------
    NotFound
        No module is called so.
    InvalidInput
        An unknown kind, no function, or a distance below 1.
    """
    names = [name for name, _ in model.named_modules() if name]
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        plain = pattern.replace("*", "").replace("?", "")
        near = did_you_mean(pattern, names) or did_you_mean(plain, names)
        raise NotFound(f"no layer '{pattern}' in the model", hint=near or f"Use one of: {', '.join(names[:20])}")
    if not callable(function):
        raise InvalidInput(f"a {type(function).__name__} cannot be called", hint="Pass a function of one argument.")
    asked = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    for kind in asked:
        if kind not in KINDS:
            raise InvalidInput(
                f"no kind '{kind}'", hint=did_you_mean(kind, KINDS) or f"Use some of: {', '.join(KINDS)}"
            )
    if every is not None and every < 1:
        raise InvalidInput(f"every is {every}", hint="Give a whole number of steps from 1.")
    return Watchpoint(function, frozenset(found), frozenset(asked), every)


def outputs_of(layer: str, step: int, args: Any, output: Any) -> list[Glance]:
    """Return a glance at each floating tensor that a layer gave."""
    inputs = tuple(tuple(t.shape) for t in args if isinstance(t, Tensor)) if isinstance(args, tuple) else ()
    return [Glance(layer, "forward", step, t.detach(), input_sizes=inputs) for t in floating(output)]


def number_of(value: Any) -> float | None:
    """Return what a function gave as a number, None if it is none."""
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value)
    return float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else None
