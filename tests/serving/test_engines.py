"""The engine of this process: on a thread or in place, failures as outcomes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from nbops.core.errors import SignatureMismatch
from nbops.core.records import Signature
from nbops.serving.engines import BatchResult, EngineFailure, LocalEngine, Pace, run_batch


class Echo:
    """A runtime that notes on which thread it ran, and can be slow or fail."""

    signature = Signature(inputs=[], outputs=[])

    def __init__(self, *, sleep_s: float = 0.0, busy_s: float = 0.0, error: Exception | None = None) -> None:
        self.sleep_s = sleep_s
        self.busy_s = busy_s
        self.error = error
        self.threads: list[str] = []
        self.closed = 0

    def predict(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self.threads.append(threading.current_thread().name)
        if self.sleep_s:
            time.sleep(self.sleep_s)
        until = time.thread_time() + self.busy_s
        while time.thread_time() < until:
            continue
        if self.error:
            raise self.error
        return dict(inputs)

    def memory_bytes(self) -> int:
        return 0

    def close(self) -> None:
        self.closed += 1


def run_batches(runtime: Echo, count: int) -> list[BatchResult]:
    async def scenario() -> list[BatchResult]:
        loop = asyncio.get_running_loop()
        engine = LocalEngine(runtime, loop=loop)
        results = []
        for _ in range(count):
            told: asyncio.Future[BatchResult] = loop.create_future()
            at_once = engine.start({"x": np.ones(3)}, told.set_result)
            results.append(at_once or await told)
        engine.close()
        return results

    return asyncio.run(scenario())


def test_slow_batches_stay_on_the_thread() -> None:
    runtime = Echo(busy_s=0.002)
    run_batches(runtime, 12)
    assert set(runtime.threads) == {"nbops-engine"}
    assert runtime.closed == 1


def test_quick_batches_move_to_the_event_loop() -> None:
    runtime = Echo()
    results = run_batches(runtime, 50)
    assert runtime.threads[0] == "nbops-engine"
    assert "MainThread" in runtime.threads
    assert all(r.outputs is not None and r.error is None for r in results)


def test_batches_that_wait_without_computing_leave_the_event_loop_again() -> None:
    runtime = Echo(sleep_s=0.002)
    run_batches(runtime, 40)
    assert 0 < runtime.threads.count("MainThread") <= 12


def test_a_size_that_stays_slow_goes_back_for_longer_each_time() -> None:
    pace = Pace()
    holds = []
    for _ in range(12):
        while pace.hold:
            pace.ran_on_thread(0.0001)
        for _ in range(4):
            assert not pace.hold
            pace.ran_in_place(0.01)
        holds.append(pace.hold)
    assert holds[:3] == [8, 16, 32]
    assert max(holds) == 4096
    pace.ran_on_thread(1.0)
    assert pace.hold == 4096


def test_one_slow_batch_among_quick_ones_changes_nothing() -> None:
    pace = Pace()
    while pace.hold:
        pace.ran_on_thread(0.0001)
    for _ in range(20):
        pace.ran_in_place(0.01)
        pace.ran_in_place(0.0001)
    assert pace.hold == 0


def test_a_failure_is_an_outcome() -> None:
    [result] = run_batches(Echo(error=ZeroDivisionError("by\nzero")), 1)
    assert isinstance(result.error, EngineFailure)
    assert result.error.message == "the model failed: by zero"
    refused = SignatureMismatch("not these values")
    assert run_batch(Echo(error=refused), {}).error is refused


def test_a_warm_up_tells_the_pace_and_ends_at_slow_or_failing_batches() -> None:
    async def warm(runtime: Echo) -> bool:
        engine = LocalEngine(runtime, loop=asyncio.get_running_loop())
        try:
            return engine.warm_up({"x": np.ones(3)})
        finally:
            engine.close()

    assert asyncio.run(warm(Echo()))
    assert not asyncio.run(warm(Echo(busy_s=0.002)))
    assert not asyncio.run(warm(Echo(error=ValueError("no zeros"))))
