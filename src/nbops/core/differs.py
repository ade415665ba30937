"""Who compares what: `nb.diff` compares runs itself, and asks the leaves of this table about anything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbops.core.registry import Registry

# name -> function (a, b, *, key) that returns a difference, or None where it cannot read one of them
differs: Registry[Callable[..., Any]] = Registry("differ", group="nbops.differs")
