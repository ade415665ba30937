"""A thread that samples this process and its machine while runs are open, into their series ``system/…``.

A sample's rates (CPU, disk, network) are means since the sample before; its amounts are those of
the moment. What the samples mean for cells is in `usage`, what they cost in `cost`.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from nbops.core.errors import NbopsError
from nbops.store.workspace import Workspace
from nbops.tracking.capture.background import tell_once
from nbops.tracking.machine import nvml
from nbops.tracking.machine.cost import Meter

PREFIX = "system/"
_PATIENCE_S = 0.2


@dataclass
class _Counters:
    """What only grows, at one moment; a light one knows this process only."""

    at: float = field(default_factory=time.monotonic)
    process_s: float = field(default_factory=time.process_time)
    machine_busy_s: float = 0.0
    machine_s: float = 0.0
    children_s: dict[int, float] | None = None
    bytes: dict[str, int] = field(default_factory=dict)


@dataclass
class _Followed:
    """A run that gets samples."""

    ws: Workspace
    meter: Meter
    began: _Counters = field(default_factory=_Counters)
    samples: int = 0


class Sampler:
    """Samples for the open runs of this process; its thread lives while there are any.

    Parameters
    ----------
    interval_s : float, seconds
        Between two samples.
    """

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self._runs: dict[str, _Followed] = {}
        self._lock = threading.Lock()
        self._stop: threading.Event | None = None

    def add(self, ws: Workspace, run_id: str) -> None:
        """Begin to sample for a run."""
        with self._lock:
            self._runs[run_id] = _Followed(ws, Meter(ws.settings))
            if self._stop is None:
                self._stop = threading.Event()
                threading.Thread(target=self._work, args=(self._stop,), name="nbops-sampler", daemon=True).start()

    def remove(self, run_id: str) -> dict[str, Any]:
        """Stop sampling for a run, after one light sample if it had none; return its cost, for its context."""
        with self._lock:
            followed = self._runs.pop(run_id, None)
            if not self._runs and self._stop is not None:
                self._stop.set()
                self._stop = None
        if followed is None:
            return {}
        if not followed.samples:
            gpus = nvml.sample() if nvml.is_ready() else {}
            followed.meter.read(gpus)
            _write(run_id, followed, {**_process_values(followed.began, _Counters()), **gpus})
        return followed.meter.cost()

    def _work(self, stop: threading.Event) -> None:
        if stop.wait(min(_PATIENCE_S, self.interval_s)):  # a short run costs nothing of what follows
            return
        nvml.library()
        before = _counters()
        while not stop.wait(self.interval_s):
            now, gpus = _counters(), nvml.sample()
            values = {**_values(before, now), **gpus}
            children_s = _children_used_s(before, now)
            with self._lock:  # no point is written to a run that has ended
                for run_id, followed in self._runs.items() if self._stop is stop else ():
                    followed.meter.read(gpus, children_s=children_s)
                    _write(run_id, followed, values)
            before = now


def _write(run_id: str, followed: _Followed, values: dict[str, float]) -> None:
    try:
        followed.ws.log(run_id, None, {f"{PREFIX}{name}": value for name, value in values.items()})
        followed.samples += 1
    except (NbopsError, OSError, ValueError) as error:  # a full disk, a closed workspace: the run goes on
        tell_once("system metrics", error)


def _counters() -> _Counters:
    import psutil

    now = _Counters(children_s={})
    times = psutil.cpu_times()
    now.machine_s = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    now.machine_busy_s = now.machine_s - times.idle - getattr(times, "iowait", 0.0)
    disk, net = psutil.disk_io_counters(), psutil.net_io_counters()
    if disk is not None:  # there is none in some containers
        now.bytes |= {"disk_read": disk.read_bytes, "disk_write": disk.write_bytes}
    if net is not None:
        now.bytes |= {"net_receive": net.bytes_recv, "net_send": net.bytes_sent}
    now.children_s = {}
    for child in psutil.Process().children(recursive=True):
        try:
            used = child.cpu_times()
        except psutil.Error:  # it ended while we looked
            continue
        now.children_s[child.pid] = used.user + used.system
    return now


def _children_used_s(before: _Counters, now: _Counters) -> float:
    if before.children_s is None or now.children_s is None:
        return 0.0
    return sum(max(0.0, used - before.children_s.get(pid, 0.0)) for pid, used in now.children_s.items())


def _process_values(before: _Counters, now: _Counters) -> dict[str, float]:
    """Return CPU load (100 is one busy core; children count) and resident memory of this process."""
    import psutil

    used_s = now.process_s - before.process_s + _children_used_s(before, now)
    memory = psutil.Process().memory_info().rss
    return {"cpu_percent": 100.0 * used_s / max(now.at - before.at, 1e-6), "memory_bytes": float(memory)}


def _values(before: _Counters, now: _Counters) -> dict[str, float]:
    """Return one sample: rates since `before`, amounts now."""
    import psutil

    values = _process_values(before, now)
    values["machine_memory_percent"] = float(psutil.virtual_memory().percent)
    if now.machine_s > before.machine_s:
        share = (now.machine_busy_s - before.machine_busy_s) / (now.machine_s - before.machine_s)
        values["machine_cpu_percent"] = 100.0 * min(1.0, max(0.0, share))
    for name in sorted(before.bytes.keys() & now.bytes.keys()):
        values[f"{name}_bytes_per_s"] = max(0, now.bytes[name] - before.bytes[name]) / max(now.at - before.at, 1e-6)
    return values


_sampler: Sampler | None = None


def run_opened(ws: Workspace, run_id: str) -> None:
    """Sample for a run from now on, unless the setting says no."""
    global _sampler
    if not ws.settings.system_metrics:
        return
    if _sampler is None:
        _sampler = Sampler(ws.settings.system_metrics_interval_s)
    _sampler.interval_s = ws.settings.system_metrics_interval_s
    _sampler.add(ws, run_id)


def run_ending(run_id: str) -> dict[str, Any]:
    """Sample no more for a run; return what its context says of its cost."""
    cost = _sampler.remove(run_id) if _sampler is not None else {}
    return {"cost": cost} if cost else {}


def _after_fork() -> None:
    """A child samples for no run of its parent."""
    global _sampler
    _sampler = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
