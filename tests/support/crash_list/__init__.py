"""Programs that crash or cannot learn, each with a healthy twin: the crash list of preflight.

A program is a function of `sick`; it returns what `nb.preflight` reports. The line that must be named carries the
comment ``# here``.
"""

from crash_list import (
    backward,
    calls,
    circumstances,
    dependencies,
    derivatives,
    layers,
    losses,
    settings,
    shapes,
    structure,
    types_and_indices,
)
from crash_list.base import PROGRAMS, Program

__all__ = [
    "PROGRAMS",
    "Program",
    "backward",
    "calls",
    "circumstances",
    "dependencies",
    "derivatives",
    "layers",
    "losses",
    "settings",
    "shapes",
    "structure",
    "types_and_indices",
]
