"""NVIDIA GPUs through NVML, where the package nvidia-ml-py and a driver are there; nothing where they are not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any

_asked = False


def is_ready() -> bool:
    """Return whether `library` was asked for before, so that asking again takes no time."""
    return _asked


def library() -> Any:
    """Return the initialised module `pynvml`, or None where there is no such package, driver or GPU."""
    global _asked
    found = _load()
    _asked = True
    return found


@functools.cache
def _load() -> Any:
    try:
        module = import_module("pynvml")
    except ImportError:
        return None
    try:
        module.nvmlInit()
    except module.NVMLError:
        return None
    return module


@functools.cache
def _handles() -> list[Any]:
    nvml = library()
    return [] if nvml is None else [nvml.nvmlDeviceGetHandleByIndex(n) for n in range(nvml.nvmlDeviceGetCount())]


def describe() -> list[dict[str, Any]]:
    """Return name and memory of each GPU."""
    nvml = library()
    found = []
    for handle in _handles():
        name = nvml.nvmlDeviceGetName(handle)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle).total
        found.append({"name": name.decode() if isinstance(name, bytes) else name, "memory_bytes": int(memory)})
    return found


def sample() -> dict[str, float]:
    """Return load, used memory and power of each GPU now; what a GPU does not tell is left out."""
    nvml = library()
    values: dict[str, float] = {}
    for n, handle in enumerate(_handles()):
        for name, ask in _QUESTIONS.items():
            try:
                values[f"gpu{n}/{name}"] = float(ask(nvml, handle))
            except nvml.NVMLError:  # not supported by this card or in this container
                continue
    return values


_QUESTIONS: dict[str, Callable[[Any, Any], float]] = {
    "load_percent": lambda nvml, handle: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
    "memory_bytes": lambda nvml, handle: nvml.nvmlDeviceGetMemoryInfo(handle).used,
    "power_w": lambda nvml, handle: nvml.nvmlDeviceGetPowerUsage(handle) / 1000.0,
}
