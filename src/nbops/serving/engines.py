"""Engines run batches off the event loop; the batcher knows only `Engine`: a thread today, a process tomorrow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from time import perf_counter, thread_time
from typing import Any, Protocol

from nbops.core.errors import NbopsError, SignatureMismatch
from nbops.core.protocols import Runtime

Arrays = Mapping[str, Any]
_QUICK_S = 0.0003
_WARM_UPS = 5
_SLOW_IN_A_ROW = 4
_MAX_STRIKES = 10


class EngineFailure(NbopsError, RuntimeError):
    """The model raised, or returned something that cannot be given back row by row."""


class BatchResult:
    """Outcome of one batch: `outputs` by name, or the `error`."""

    __slots__ = ("error", "outputs")

    def __init__(self, outputs: dict[str, Any] | None, error: Exception | None = None) -> None:
        self.outputs = outputs
        self.error = error


Done = Callable[[BatchResult], None]


class Engine(Protocol):
    """Runs one batch at a time."""

    def start(self, inputs: Arrays, done: Done) -> BatchResult | None:
        """Return the outcome of a batch that was run at once; else None, and `done` is called on the loop later."""

    def close(self) -> None:
        """Stop after the batch that runs."""


class LocalEngine:
    """Engine in this process: slow batches on a thread of their own, quick ones in place.

    ONNX Runtime computes without the interpreter lock, so the event loop goes on while the thread
    works. A batch of some microseconds costs less than handing it over, so sizes whose batches
    prove quick are run on the loop itself. The handover is the larger part of the latency of
    a small model: see the table in the benchmarks.

    Parameters
    ----------
    runtime : Runtime
        The loaded model; the engine closes it.
    loop : asyncio.AbstractEventLoop
        Where outcomes are told.
    """

    def __init__(self, runtime: Runtime, *, loop: asyncio.AbstractEventLoop) -> None:
        self._runtime = runtime
        self._loop = loop
        self._work: SimpleQueue[tuple[Arrays, Done, Pace] | None] = SimpleQueue()
        self._paces: dict[int, Pace] = {}  # by power of two of the input's size
        self._thread = threading.Thread(target=self._serve, name="nbops-engine", daemon=True)
        self._thread.start()

    def start(self, inputs: Arrays, done: Done) -> BatchResult | None:
        """Run the batch in place if batches of its size are quick, else hand it to the thread."""
        pace = self._pace(inputs)
        if pace.hold:
            self._work.put((inputs, done, pace))
            return None
        began = perf_counter()
        result = run_batch(self._runtime, inputs)
        pace.ran_in_place(perf_counter() - began)
        return result

    def warm_up(self, inputs: Arrays) -> bool:
        """Run a batch here and now, before anything is served; return whether it was quick and a larger one may be."""
        pace = self._pace(inputs)
        for _ in range(_WARM_UPS):
            began = thread_time()
            if run_batch(self._runtime, inputs).error is not None:
                return False
            pace.ran_on_thread(thread_time() - began)
        return not pace.hold

    def _pace(self, inputs: Arrays) -> Pace:
        size = 0
        for array in inputs.values():
            size += array.size
        pace = self._paces.get(size.bit_length())
        if pace is None:
            pace = self._paces[size.bit_length()] = Pace()
        return pace

    def close(self) -> None:
        """End the thread after the batch that runs, and release the model; a hung batch is left behind."""
        self._work.put(None)
        self._thread.join(timeout=5.0)
        if not self._thread.is_alive():
            self._runtime.close()

    def _serve(self) -> None:
        while (item := self._work.get()) is not None:
            inputs, done, pace = item
            began = thread_time()
            result = run_batch(self._runtime, inputs)
            pace.ran_on_thread(thread_time() - began)
            self._loop.call_soon_threadsafe(done, result)


class Pace:
    """Whether batches of one size are quick enough to run on the event loop.

    On the thread the processor time counts, which waiting for the interpreter lock or for a busy machine does not
    lengthen. In place the time on the clock counts, because that is how long the loop stands still: several
    slow batches in a row send the size back to the thread, each time for longer.
    """

    __slots__ = ("_slow", "_strikes", "hold")

    def __init__(self) -> None:
        self.hold = 2  # quick batches to see on the thread before one is run in place
        self._slow = 0
        self._strikes = 0

    def ran_on_thread(self, cpu_s: float) -> None:
        """Note one batch of the thread."""
        if cpu_s <= _QUICK_S:
            self.hold = max(0, self.hold - 1)

    def ran_in_place(self, took_s: float) -> None:
        """Note one batch of the event loop."""
        self._slow = 0 if took_s <= _QUICK_S else self._slow + 1
        if self._slow == _SLOW_IN_A_ROW:
            self._slow = 0
            self._strikes = min(self._strikes + 1, _MAX_STRIKES)
            self.hold = 4 << self._strikes


def run_batch(runtime: Runtime, inputs: Arrays) -> BatchResult:
    """Return the outcome of `inputs`; an error of the model is an outcome, not an exception."""
    try:
        outputs = runtime.predict(inputs)
    except SignatureMismatch as error:  # the model itself calls the input wrong
        return BatchResult(None, error)
    except Exception as error:  # whatever a model raises must reach the client as an answer
        return BatchResult(None, EngineFailure(f"the model failed: {' '.join(str(error).split())}"))
    return BatchResult(outputs)
