"""After an out-of-memory error: which layer asked for how much, in which part of the step, and what the step takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from nbops.core.display import Shown
from nbops.core.errors import NbopsError
from nbops.debugging.memory.estimating import memory
from nbops.debugging.memory.report import MemoryReport
from nbops.debugging.memory.trace import BACKWARD, FORWARD, STEP

_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_ASKED = re.compile(r"[Tt]ried to allocate ([\d.]+) (\w+)")
_HAS = re.compile(r"total capacity of ([\d.]+) (\w+)")
BUDGET_S = 8.0  # for what follows an error in a cell
_ON_CPU = "DefaultCPUAllocator"


@dataclass(frozen=True)
class OutOfMemory(Shown):
    """What is known of an out-of-memory error.

    Attributes
    ----------
    asked_bytes, capacity_bytes : int or None
        As the error says.
    phase : str
        ``forward``, ``backward`` or ``optimizer step``; empty if it was elsewhere.
    layer : str
        Path of the innermost module that executed, empty if none did.
    report : MemoryReport or None
        What the step takes, estimated; None if model and batch cannot be found.
    """

    asked_bytes: int | None
    capacity_bytes: int | None
    phase: str
    layer: str
    report: MemoryReport | None


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error says that there was no memory for a tensor."""
    return isinstance(error, torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and _ON_CPU in str(error))


def explain(error: BaseException) -> OutOfMemory:
    """Return which layer asked, and what the step takes, from an error and the frames it came through."""
    text = str(error)
    frames = list(_frames(error.__traceback__))
    modules = [frame.f_locals["self"] for frame in frames if isinstance(frame.f_locals.get("self"), nn.Module)]
    root = modules[0] if modules else _largest(frames)
    layer = ""
    if modules and root is not None:
        names = {module: name for name, module in root.named_modules()}
        layer = next((names[m] for m in reversed(modules) if names.get(m)), "")
    capacity = _bytes(_HAS, text)
    device = "cpu" if _ON_CPU in text else "cuda"
    report = _report(root, frames, device, capacity)
    return OutOfMemory(_bytes(_ASKED, text), capacity, _phase(frames), layer, report)


def _frames(trace: TracebackType | None) -> Iterator[FrameType]:
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def _phase(frames: list[FrameType]) -> str:
    for frame in reversed(frames):
        if isinstance(frame.f_locals.get("self"), torch.optim.Optimizer):
            return STEP
        if frame.f_code.co_name == "backward" and "torch" in frame.f_code.co_filename:
            return BACKWARD
        if isinstance(frame.f_locals.get("self"), nn.Module):
            return FORWARD
    return ""


def _bytes(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    if found is None or found[2] not in _UNITS:
        return None
    return int(float(found[1]) * _UNITS[found[2]])


def _values(frames: list[FrameType]) -> Iterator[Any]:
    """Yield what the user's frames hold, innermost first."""
    for frame in reversed(frames):
        if f"{torch.__name__}/" not in frame.f_code.co_filename.replace("\\", "/"):
            yield from list(frame.f_locals.values())
            if frame.f_code.co_name == "<module>":
                yield from list(frame.f_globals.values())


def _largest(frames: list[FrameType]) -> nn.Module | None:
    found = {id(value): value for value in _values(frames) if isinstance(value, nn.Module)}
    return max(found.values(), key=lambda m: sum(p.numel() for p in m.parameters()), default=None)


def _called(model: nn.Module, batch: Any) -> Any:
    return model(*batch["args"], **batch["kwargs"])


def _report(root: nn.Module | None, frames: list[FrameType], device: str, capacity: int | None) -> MemoryReport | None:
    """Estimate the step whose model and arguments stand in the frames."""
    if root is None:
        return None
    call = next((f for f in frames if f.f_locals.get("self") is root and "args" in f.f_locals), None)
    if call is None:
        return None
    args, kwargs = call.f_locals["args"], call.f_locals.get("kwargs", {})
    if not any(isinstance(item, Tensor) for item in (*args, *kwargs.values())):
        return None
    optimizer = next((value for value in _values(frames) if isinstance(value, torch.optim.Optimizer)), None)
    room = None if capacity is None else capacity / 1e9
    try:
        batch = {"args": args, "kwargs": kwargs}
        return memory(
            root, batch, forward=_called, optimizer=optimizer, device=device, device_gb=room, budget_s=BUDGET_S
        )
    except NbopsError:  # a step that cannot be estimated: what the error says is still worth telling
        return None
