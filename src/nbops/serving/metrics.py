"""Counts and times of one endpoint, as Prometheus text and as a small dict. Written on the event loop only."""

from __future__ import annotations

import os
import time
from array import array
from bisect import bisect_left
from pathlib import Path
from typing import Any

import numpy as np

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_KEEP = 4096


class ModelMetrics:
    """What happened to one model version.

    Parameters
    ----------
    model, version : str
        Labels of each series.
    """

    def __init__(self, model: str, version: str) -> None:
        self.model = model
        self.version = version
        self.codes: dict[int, int] = {}
        self.rows = 0
        self.batches = 0
        self.batched_rows = 0
        self._buckets = [0] * (len(BUCKETS_S) + 1)
        self._sum_s = 0.0
        self._recent = array("d")
        self._next = 0

    def answered(self, code: int, latency_s: float, rows: int) -> None:
        """Count one infer request that was answered with `code` after `latency_s` seconds."""
        self.codes[code] = self.codes.get(code, 0) + 1
        self._buckets[bisect_left(BUCKETS_S, latency_s)] += 1
        self._sum_s += latency_s
        if code == 200:
            self.rows += rows
        if len(self._recent) < _KEEP:
            self._recent.append(latency_s)
        else:
            self._recent[self._next] = latency_s
            self._next = (self._next + 1) % _KEEP

    def batched(self, rows: int) -> None:
        """Count one batch of `rows` rows handed to the engine."""
        self.batches += 1
        self.batched_rows += rows

    def summary(self) -> dict[str, Any]:
        """Return totals, and latency percentiles of the last 4,096 requests in milliseconds."""
        p50, p99 = np.percentile(self._recent, (50, 99)) * 1000 if self._recent else (None, None)
        total = sum(self.codes.values())
        return {
            "requests": total,
            "errors": total - self.codes.get(200, 0),
            "rows": self.rows,
            "batches": self.batches,
            "rows_per_batch": self.batched_rows / self.batches if self.batches else None,
            "p50_ms": None if p50 is None else float(p50),
            "p99_ms": None if p99 is None else float(p99),
        }

    def lines(self, waiting_rows: int) -> list[str]:
        """Return the samples of this model, without the headers."""
        labels = f'model="{_escape(self.model)}",version="{_escape(self.version)}"'
        name = "nbops_request_latency_seconds"
        lines = [
            f'nbops_requests_total{{{labels},code="{code}"}} {count}' for code, count in sorted(self.codes.items())
        ]
        seen = 0
        for limit, count in zip((*BUCKETS_S, "+Inf"), self._buckets, strict=True):
            seen += count
            lines.append(f'{name}_bucket{{{labels},le="{limit}"}} {seen}')
        return [
            *lines,
            f"{name}_sum{{{labels}}} {self._sum_s}",
            f"{name}_count{{{labels}}} {seen}",
            f"nbops_rows_total{{{labels}}} {self.rows}",
            f"nbops_batches_total{{{labels}}} {self.batches}",
            f"nbops_batch_rows_total{{{labels}}} {self.batched_rows}",
            f"nbops_queue_rows{{{labels}}} {waiting_rows}",
        ]


_HEADERS = {
    "nbops_requests_total": ("counter", "Infer requests answered, by status code."),
    "nbops_request_latency_seconds": ("histogram", "Time from the last byte of the request to its answer."),
    "nbops_rows_total": ("counter", "Rows answered."),
    "nbops_batches_total": ("counter", "Batches run by the engine."),
    "nbops_batch_rows_total": ("counter", "Rows of all batches; divided by the batches, the mean batch."),
    "nbops_queue_rows": ("gauge", "Rows that wait for the engine."),
}


class EndpointMetrics:
    """All series of one process: its models, its memory, what it refused before a model was reached."""

    def __init__(self) -> None:
        self.started = time.time()
        self.models: list[ModelMetrics] = []
        self.refused: dict[str, int] = {}

    def refuse(self, reason: str) -> None:
        """Count one request refused for `reason`: auth, host, size."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def text(self, waiting_rows: dict[str, int]) -> bytes:
        """Return Prometheus text format 0.0.4; `waiting_rows` is by model name."""
        samples = [line for model in self.models for line in model.lines(waiting_rows.get(model.model, 0))]
        lines = []
        for name, (kind, text) in _HEADERS.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
            lines += [
                line
                for line in samples
                if line.startswith((f"{name}{{", f"{name}_bucket", f"{name}_sum", f"{name}_count"))
            ]
        lines += [
            "# HELP nbops_refused_total Requests refused before a model was reached.",
            "# TYPE nbops_refused_total counter",
        ]
        lines += [f'nbops_refused_total{{reason="{key}"}} {count}' for key, count in sorted(self.refused.items())]
        lines += ["# HELP process_resident_memory_bytes Resident memory.", "# TYPE process_resident_memory_bytes gauge"]
        lines += [f"process_resident_memory_bytes {resident_bytes()}"]
        lines += ["# HELP process_start_time_seconds Start of the endpoint.", "# TYPE process_start_time_seconds gauge"]
        lines += [f"process_start_time_seconds {self.started}", ""]
        return "\n".join(lines).encode()


def resident_bytes() -> int:
    """Return the resident memory of this process in bytes."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # no /proc: the peak is what the standard library knows
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * os.sysconf("SC_PAGE_SIZE")


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
