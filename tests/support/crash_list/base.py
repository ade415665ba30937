"""What the programs of the crash list have in common: how they are declared, and their data."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import nbops as nb
from nbops.debugging.preflight.report import PreflightReport


@dataclass(frozen=True)
class Program:
    """One program: what must be found (check and layer), and words that its fix or causes must hold."""

    make: Callable[[bool], PreflightReport]
    check: str
    layer: str | None
    says: tuple[str, ...]
    status: str = "error"

    @property
    def name(self) -> str:
        return self.make.__name__

    def line(self) -> int | None:
        """Return the line of the file that carries the marker, None if none does."""
        lines, first = inspect.getsourcelines(self.make)
        found = [first + i for i, line in enumerate(lines) if line.rstrip().endswith("# here")]
        return found[0] if found else None


PROGRAMS: list[Program] = []


def program(check: str, layer: str | None = None, *says: str, status: str = "error") -> Callable[[Any], Any]:
    """Return a decorator that adds a program to the list."""

    def declare(make: Callable[[bool], PreflightReport]) -> Callable[[bool], PreflightReport]:
        PROGRAMS.append(Program(make, check, layer, says, status))
        return make

    return declare


def images(count: int = 8, channels: int = 1, side: int = 28) -> Tensor:
    return torch.randn(count, channels, side, side)


def labels(count: int = 8, classes: int = 10) -> Tensor:
    return torch.arange(count) % classes


def words(count: int = 8, length: int = 12, size: int = 50) -> Tensor:
    return torch.randint(0, size, (count, length))


def classify(model: nn.Module, x: Any, y: Tensor | None = None, **more: Any) -> PreflightReport:
    target = labels() if y is None else y
    return nb.preflight(model, (x, target), **{"loss": nn.CrossEntropyLoss(), **more})


def regress(model: nn.Module, x: Any, y: Tensor, **more: Any) -> PreflightReport:
    return nb.preflight(model, (x, y), **{"loss": nn.MSELoss(), **more})
