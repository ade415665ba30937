"""Where the time of a step goes, what memory grows, and which graphs are kept alive. A few clock readings per step."""

from __future__ import annotations

import os
import time
import weakref
from collections import deque
from statistics import median
from typing import Any

import torch
from torch import Tensor

from nbops.debugging.aspects import TimingView
from nbops.debugging.signals.graphs import Canary, canary_in

_PARTS = ("data", "forward", "backward", "optimizer")
_KEPT = 100
_WARM_UP = 20
_LOSSES = 32
_GPU_PAUSE_S = 1.0


class Clock:
    """Adds up the parts of each step.

    Parameters
    ----------
    budget_ms : float or None
        What a step may take.
    """

    def __init__(self, *, budget_ms: float | None = None) -> None:
        self.budget_ms = budget_ms
        self.workers: int | None = None
        self.batch_size: int | None = None
        self.batches: int | None = None
        self.is_stream, self.shared_random = False, ""
        self.began_at = time.perf_counter()
        self.own_s = 0.0  # what the watch spent since the last step
        self._now = dict.fromkeys(_PARTS, 0.0)
        self._steps: deque[tuple[float, ...]] = deque(maxlen=_KEPT)
        self._own: deque[float] = deque(maxlen=_KEPT)
        self._ended: float | None = None
        self._has_loader = self._was_called = False
        self._busy = (time.perf_counter(), time.process_time())
        self._memory = _Memory()
        self._canaries: deque[weakref.ref[Canary]] = deque(maxlen=_LOSSES)

    def loaded(self, duration_s: float, *, workers: int, batch_size: int | None, batches: int | None = None) -> None:
        """Add the time that the loop waited for a data loader."""
        self._has_loader = True
        self.workers, self.batch_size, self.batches = workers, batch_size, batches
        self._now["data"] += duration_s

    def called(self) -> None:
        """Note the first forward pass of a step: without a loader, what went before it was waiting for data."""
        if not self._was_called:
            self._was_called = True
            if not self._has_loader and self._ended is not None:
                self._now["data"] += max(0.0, time.perf_counter() - self._ended)

    def add(self, part: str, duration_s: float) -> None:
        """Add time of ``forward``, ``backward`` or ``optimizer``."""
        self._now[part] += duration_s

    def stepped(self) -> None:
        """End a step."""
        at = time.perf_counter()
        if self._ended is not None:
            whole = max(0.0, at - self._ended - self.own_s)
            parts = [self._now[name] for name in _PARTS]
            self._steps.append((whole, *parts, max(0.0, whole - sum(parts))))
            self._own.append(self.own_s)
        self._ended = at
        self.own_s = 0.0
        self._now = dict.fromkeys(_PARTS, 0.0)
        self._was_called = False

    def watch_graph(self, losses: list[Tensor]) -> None:
        """Put a canary into the graph of each loss: it lives as long as the graph does."""
        self._canaries.extend(ref for loss in losses if (ref := canary_in(loss)) is not None)

    @property
    def kept_graphs(self) -> int:
        """How many of the last 32 graphs are alive."""
        return sum(reference() is not None for reference in self._canaries)

    @property
    def own_share(self) -> float:
        """Share of the time that the watch took, over the last 100 steps."""
        whole = sum(step[0] for step in self._steps) + sum(self._own)
        return sum(self._own) / whole if whole else 0.0

    def cost(self) -> dict[str, float]:
        """Return steps per second, and the share of the time that the watch took."""
        whole = sum(step[0] for step in self._steps) + sum(self._own)
        return {"steps_per_s": len(self._steps) / whole if whole else 0.0, "watch_share": self.own_share}

    def view(self, device: torch.device) -> TimingView:
        """Return the medians of the last steps, and load and memory now."""
        columns = list(zip(*self._steps, strict=True)) if self._steps else [(0.0,)] * 6
        mids = [median(column) * 1e3 for column in columns]
        at, used = time.perf_counter(), time.process_time()
        wall = at - self._busy[0]
        busy = (used - self._busy[1]) / wall if wall > 0 else None
        self._busy = at, used
        memory = self._memory.read(len(self._steps) >= _WARM_UP, device)
        step_ms = mids[0]
        over = ""
        if self.budget_ms is not None and step_ms > self.budget_ms:
            names = (*_PARTS, "other")
            over = names[max(range(5), key=lambda i: mids[1 + i])]
        longer = sum(step[0] * 1e3 > 3 * step_ms for step in self._steps)
        return TimingView(
            mids[0], mids[1], mids[2], mids[3], mids[4], mids[5], steps=len(self._steps),
            outlier_share=longer / len(self._steps) if self._steps else 0.0,
            own_share=self.own_share, loader_workers=self.workers, batch_size=self.batch_size,
            loader_batches=self.batches, is_stream=self.is_stream, shared_random=self.shared_random,
            budget_ms=self.budget_ms, over=over, busy_cores=busy, cores=os.cpu_count() or 1,
            kept_graphs=self.kept_graphs, **memory,
        )  # fmt: skip


class _Memory:
    """Resident memory of the process and what torch has allocated on a GPU, and their growth."""

    def __init__(self) -> None:
        self._first: dict[str, int] = {}
        self._gpu: float | None = None
        self._gpu_at = 0.0

    def read(self, is_warm: bool, device: torch.device) -> dict[str, Any]:
        import psutil

        now = {"memory_bytes": int(psutil.Process().memory_info().rss)}
        if device.type == "cuda":
            now["device_bytes"] = int(torch.cuda.memory_allocated(device))
            self._read_load(device)
        if is_warm and not self._first:
            self._first = dict(now)
        grown = {name.replace("bytes", "growth_bytes"): now[name] - self._first[name] for name in self._first}
        return {**now, **grown, "gpu_share": self._gpu}

    def _read_load(self, device: torch.device) -> None:
        """Ask the driver, at most once a second; nothing where its library is not installed."""
        if time.perf_counter() - self._gpu_at < _GPU_PAUSE_S:
            return
        self._gpu_at = time.perf_counter()
        try:
            self._gpu = torch.cuda.utilization(device) / 100
        except (ModuleNotFoundError, RuntimeError):
            self._gpu = None
