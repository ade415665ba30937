"""Dynamic batching on the event loop: rows of concurrent requests share a batch, each request gets its own rows.

An idle engine starts at once, so batching adds no latency; while it is busy, rows gather. A request
larger than a batch is split; a batch that fails is run again request by request, so one bad
request does not fail its neighbours.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nbops.core.errors import NbopsError
from nbops.serving.engines import BatchResult, Engine, EngineFailure

_SWEEP_S = 0.25


class QueueFull(NbopsError, RuntimeError):
    """More rows wait than the endpoint accepts."""


class Overdue(NbopsError, TimeoutError):
    """A request waited or ran longer than the endpoint's timeout."""


class Stopping(NbopsError, RuntimeError):
    """The endpoint ends before this request was run."""


class Answer:
    """Outputs of one request; `batch_rows` is the size of the (last) batch that it was part of."""

    __slots__ = ("batch_rows", "outputs")

    def __init__(self, outputs: dict[str, Any], *, batch_rows: int) -> None:
        self.outputs = outputs
        self.batch_rows = batch_rows


class _Job:
    """One request on its way: rows handed to the engine so far, and the parts that came back."""

    __slots__ = ("deadline", "future", "inputs", "key", "parts", "rows", "since", "taken")

    def __init__(self, inputs: Mapping[str, Any], rows: int, future: asyncio.Future[Answer], now: float) -> None:
        self.inputs = inputs
        self.rows = rows
        self.future = future
        self.since = now
        self.deadline = 0.0
        self.taken = 0
        self.parts: list[dict[str, Any]] = []
        # only rows of the same inputs with equal inner shapes can share a batch
        self.key = tuple([(name, array.shape[1:]) for name, array in inputs.items()])


_Slice = tuple[_Job, int, int]  # rows start to stop of a job


class Batcher:
    """Forms batches for one engine.

    Parameters
    ----------
    engine : Engine
        Runs one batch at a time.
    max_batch : int, rows
        Largest batch.
    max_queue : int, rows
        Rows that may wait; beyond it `submit` raises `QueueFull`.
    max_wait_ms : float, milliseconds
        How long an idle engine waits for more rows; 0 starts at once.
    timeout_s : float, seconds
        Time from `submit` to the answer; beyond it the request fails with `Overdue`.
    by_rows : bool
        False for a model without a dynamic first dimension: each request runs alone and whole.
    observe : callable
        Called with the rows of each batch.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_batch: int = 64,
        max_queue: int = 4096,
        max_wait_ms: float = 0.0,
        timeout_s: float = 60.0,
        by_rows: bool = True,
        observe: Callable[[int], None] = lambda rows: None,
    ) -> None:
        self._engine = engine
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._max_wait_s = max_wait_ms / 1000
        self._timeout_s = timeout_s
        self._by_rows = by_rows
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Job] = deque()
        self._running: list[_Slice] = []
        self._running_rows = 0
        self._retry: deque[_Slice] = deque()  # slices of a failed batch, each to be run alone
        self._sweeper: asyncio.TimerHandle | None = None
        self._scheduled = False
        self.waiting_rows = 0

    @property
    def is_stuck(self) -> bool:
        """True when the engine works on a batch whose requests have all timed out."""
        return bool(self._running) and all(job.future.done() for job, _, _ in self._running)

    def submit(self, inputs: Mapping[str, Any], rows: int, *, is_alone: bool = False) -> asyncio.Future[Answer]:
        """Queue `rows` rows of `inputs` (arrays by name) and return the future of their answer.

        With `is_alone` no other request is being read, so an idle engine need not wait for the end of this turn of
        the loop; the answer may be there on return.
        """
        if self.waiting_rows and self.waiting_rows + rows > self._max_queue:
            raise QueueFull(
                f"{self.waiting_rows} rows wait, {rows} more exceed the limit of {self._max_queue}",
                hint="Retry later, or serve with a larger max_queue.",
            )
        now = self._loop.time()
        job = _Job(inputs, rows, self._loop.create_future(), now)
        job.deadline = now + self._timeout_s
        self._waiting.append(job)
        self.waiting_rows += rows
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)
        if not self._running and not self._scheduled:
            if is_alone:
                self._start()
            else:  # after the requests that this turn of the loop has still to read
                self._scheduled = True
                self._loop.call_soon(self._start)
        return job.future

    def close(self) -> None:
        """Fail what waits and stop the engine."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        stopped = Stopping("the endpoint is stopping")
        for job in [*self._waiting, *(job for job, _, _ in [*self._running, *self._retry])]:
            _fail(job, stopped)
        self._waiting.clear()
        self._retry.clear()
        self._engine.close()

    def _start(self) -> None:
        self._scheduled = False
        if self._running:
            return
        while self._retry and self._retry[0][0].future.done():
            self._retry.popleft()
        if self._retry:
            slices = [self._retry.popleft()]
            self._running_rows = slices[0][2] - slices[0][1]
        else:
            if self._should_wait():
                return
            slices = self._gather()
        if not slices:
            return
        self._running = slices
        self._observe(self._running_rows)
        result = self._engine.start(_join(slices), self._finish)
        if result is not None:
            self._finish(result)

    def _should_wait(self) -> bool:
        if not self._max_wait_s or not self._waiting or self.waiting_rows >= self._max_batch:
            return False
        left = self._waiting[0].since + self._max_wait_s - self._loop.time()
        if left <= 0:
            return False
        self._loop.call_later(left, self._start)
        return True

    def _gather(self) -> list[_Slice]:
        """Take rows off the queue in order, up to a full batch of one shape."""
        slices: list[_Slice] = []
        room = self._max_batch
        while self._waiting and room > 0:
            job = self._waiting[0]
            if job.future.done():  # timed out, or its client is gone
                self._waiting.popleft()
                self.waiting_rows -= job.rows - job.taken
                continue
            if slices and (not self._by_rows or job.key != slices[0][0].key):
                break
            count = min(room, job.rows - job.taken) if self._by_rows else job.rows
            slices.append((job, job.taken, job.taken + count))
            job.taken += count
            self.waiting_rows -= count
            room -= count
            if job.taken == job.rows:
                self._waiting.popleft()
        self._running_rows = self._max_batch - room
        return slices

    def _finish(self, result: BatchResult) -> None:
        slices, self._running = self._running, []
        error = result.error or self._misfit(result)
        if error is None:
            _share(slices, result.outputs or {}, self._running_rows)
        elif len(slices) == 1:
            _fail(slices[0][0], error)
        else:
            self._retry.extend(slices)
        if (self._waiting or self._retry) and not self._scheduled:
            # not at once: new requests are read first, and an engine that runs in place does not hold the loop
            self._scheduled = True
            self._loop.call_soon(self._start)

    def _misfit(self, result: BatchResult) -> Exception | None:
        if not self._by_rows:
            return None
        rows = self._running_rows
        for name, array in (result.outputs or {}).items():
            got = array.shape[0] if array.ndim else 0
            if got != rows:
                return EngineFailure(f"output '{name}' has {got} rows for {rows} input rows")
        return None

    def _sweep(self) -> None:
        """Fail what is overdue, waiting or running; runs only while there is work."""
        self._sweeper = None
        now = self._loop.time()
        jobs = [*self._waiting, *(job for job, _, _ in [*self._running, *self._retry])]
        for job in jobs:
            if now >= job.deadline:
                _fail(job, Overdue(f"no answer within {self._timeout_s:g} s"))
        if jobs:
            self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)


def _join(slices: list[_Slice]) -> Mapping[str, Any]:
    if len(slices) == 1:
        job, start, stop = slices[0]
        if start == 0 and stop == job.rows:
            return job.inputs
        return {name: array[start:stop] for name, array in job.inputs.items()}
    return {
        name: np.concatenate([job.inputs[name][start:stop] for job, start, stop in slices])
        for name in slices[0][0].inputs
    }


def _share(slices: list[_Slice], outputs: dict[str, Any], total: int) -> None:
    at = 0
    for job, start, stop in slices:
        count = stop - start
        part = outputs if len(slices) == 1 else {name: a[at : at + count] for name, a in outputs.items()}
        at += count
        job.parts.append(part)
        if stop < job.rows or job.future.done():
            continue
        if len(job.parts) > 1:
            part = {name: np.concatenate([p[name] for p in job.parts]) for name in part}
        job.future.set_result(Answer(part, batch_rows=total))


def _fail(job: _Job, error: Exception) -> None:
    if not job.future.done():
        job.future.set_exception(error)
