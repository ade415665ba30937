"""The batcher, over an engine that the test drives by hand: each request gets its own rows, whatever happens."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbops.serving.batching import Answer, Batcher, Overdue, QueueFull, Stopping
from nbops.serving.engines import BatchResult, Done, EngineFailure

Array = np.ndarray[Any, Any]
POISON = -1.0


class HandEngine:
    """Doubles its rows when the test says so; fails a batch with a poisoned row."""

    def __init__(self) -> None:
        self.batches: deque[tuple[Array, Done]] = deque()
        self.sizes: list[int] = []

    def start(self, inputs: Any, done: Done) -> BatchResult | None:
        self.sizes.append(len(inputs["x"]))
        self.batches.append((inputs["x"].copy(), done))
        return None

    def finish(self) -> None:
        rows, done = self.batches.popleft()
        if (rows == POISON).any():
            done(BatchResult(None, EngineFailure("poisoned")))
        else:
            done(BatchResult({"y": rows * 2}))

    def close(self) -> None:
        self.batches.clear()


def rows(*values: float, width: int = 1) -> dict[str, Array]:
    return {"x": np.repeat(np.array(values, np.float32)[:, None], width, axis=1)}


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))


async def turn() -> None:
    """Let the event loop do what is due."""
    for _ in range(3):
        await asyncio.sleep(0)


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=30),
    poisoned=st.sets(st.integers(0, 29), max_size=4),
    cancelled=st.sets(st.integers(0, 29), max_size=3),
    steps=st.lists(st.sampled_from(["send", "turn", "finish"]), max_size=80),
    max_batch=st.integers(1, 8),
)
def test_any_interleaving_gives_each_request_its_own_rows(
    sizes: list[int], poisoned: set[int], cancelled: set[int], steps: list[str], max_batch: int
) -> None:
    async def scenario() -> None:
        engine = HandEngine()
        batcher = Batcher(engine, max_batch=max_batch)
        sent: list[tuple[dict[str, Array], asyncio.Future[Answer]]] = []
        todo = deque(enumerate(sizes))

        def send() -> None:
            number, size = todo.popleft()
            values = [100.0 * number + row for row in range(size)]
            if number in poisoned:
                values[-1] = POISON
            inputs = rows(*values)
            sent.append((inputs, batcher.submit(inputs, size)))
            if number in cancelled:
                sent[-1][1].cancel()

        for step in steps:
            if step == "send" and todo:
                send()
            elif step == "turn":
                await turn()
            elif step == "finish" and engine.batches:
                engine.finish()
        while todo:
            send()
        while not all(future.done() for _, future in sent):
            await turn()
            while engine.batches:
                engine.finish()
        await turn()  # what was cancelled is dropped when the next batch would form
        for number, (inputs, future) in enumerate(sent):
            if number in cancelled:
                assert future.cancelled()
            elif number in poisoned:
                assert isinstance(future.exception(), EngineFailure)
            else:
                np.testing.assert_array_equal(future.result().outputs["y"], inputs["x"] * 2)
        assert batcher.waiting_rows == 0
        assert max(engine.sizes, default=0) <= max_batch
        batcher.close()

    run(scenario)


def test_an_idle_engine_starts_at_once_and_a_busy_one_gathers() -> None:
    async def scenario() -> None:
        engine = HandEngine()
        batcher = Batcher(engine, max_batch=64)
        first = batcher.submit(rows(1), 1)
        await turn()
        assert engine.sizes == [1]
        more = [batcher.submit(rows(i), 1) for i in range(2, 7)]
        await turn()
        assert engine.sizes == [1]
        engine.finish()
        await turn()
        assert engine.sizes == [1, 5]
        engine.finish()
        assert [float((await f).outputs["y"][0, 0]) for f in [first, *more]] == [2, 4, 6, 8, 10, 12]
        assert (await more[0]).batch_rows == 5
        batcher.close()

    run(scenario)


def test_max_wait_gathers_before_an_idle_engine_starts() -> None:
    async def scenario() -> None:
        engine = HandEngine()
        batcher = Batcher(engine, max_batch=3, max_wait_ms=30_000)
        futures = [batcher.submit(rows(1), 1), batcher.submit(rows(2), 1)]
        await turn()
        assert engine.sizes == []
        futures.append(batcher.submit(rows(3), 1))
        await turn()
        assert engine.sizes == [3]  # full: no more waiting
        engine.finish()
        await asyncio.gather(*futures)
        batcher.close()
        short = Batcher(engine, max_batch=3, max_wait_ms=10)
        late = short.submit(rows(1), 1)
        while not engine.batches:
            await asyncio.sleep(0.005)
        engine.finish()
        await late
        short.close()

    run(scenario)


def test_rows_of_other_shapes_do_not_share_a_batch() -> None:
    async def scenario() -> None:
        engine = HandEngine()
        batcher = Batcher(engine)
        futures = [batcher.submit(rows(1, width=w), 1) for w in (2, 2, 3)]
        await turn()
        engine.finish()
        await turn()
        engine.finish()
        assert engine.sizes == [2, 1]
        assert [(await f).outputs["y"].shape for f in futures] == [(1, 2), (1, 2), (1, 3)]
        batcher.close()

    run(scenario)


def test_a_model_without_a_row_dimension_gets_each_request_alone_and_whole() -> None:
    async def scenario() -> None:
        engine = HandEngine()
        batcher = Batcher(engine, max_batch=2, by_rows=False)
        futures = [batcher.submit(rows(*range(1, 6)), 5), batcher.submit(rows(7), 1)]
        await turn()
        engine.finish()
        await turn()
        engine.finish()
        assert engine.sizes == [5, 1]
        await asyncio.gather(*futures)
        batcher.close()

    run(scenario)


def test_a_full_queue_refuses_but_never_a_lone_large_request() -> None:
    async def scenario() -> None:
        engine = HandEngine()
        batcher = Batcher(engine, max_batch=2, max_queue=3)
        large = batcher.submit(rows(1, 2, 3, 4, 5), 5)
        with pytest.raises(QueueFull, match="5 rows wait, 1 more exceed the limit of 3"):
            batcher.submit(rows(6), 1)
        for _ in range(3):
            await turn()
            engine.finish()
        assert (await large).outputs["y"].ravel().tolist() == [2, 4, 6, 8, 10]
        batcher.close()

    run(scenario)


def test_overdue_requests_fail_and_a_stuck_engine_is_told() -> None:
    async def scenario() -> None:
        engine = HandEngine()
        batcher = Batcher(engine, max_batch=1, timeout_s=0.1)
        running, waiting = batcher.submit(rows(1), 1), batcher.submit(rows(2), 1)
        await turn()
        assert not batcher.is_stuck
        for future in (running, waiting):
            with pytest.raises(Overdue, match=r"no answer within 0\.1 s"):
                await future
        assert batcher.is_stuck
        engine.finish()
        await turn()
        assert not batcher.is_stuck
        assert engine.sizes == [1]  # what nobody waits for is not run
        batcher.close()

    run(scenario)


def test_an_output_of_another_number_of_rows_fails_the_request_only() -> None:
    async def scenario() -> None:
        engine = HandEngine()
        batcher = Batcher(engine)
        future = batcher.submit(rows(1, 2), 2)
        await turn()
        _, done = engine.batches.popleft()
        done(BatchResult({"y": np.zeros((1, 1))}))
        with pytest.raises(EngineFailure, match="output 'y' has 1 rows for 2 input rows"):
            await future
        batcher.close()

    run(scenario)


def test_closing_fails_what_waits() -> None:
    async def scenario() -> None:
        batcher = Batcher(HandEngine(), max_batch=1)
        futures = [batcher.submit(rows(1), 1), batcher.submit(rows(2), 1)]
        await turn()
        batcher.close()
        for future in futures:
            with pytest.raises(Stopping):
                await future

    run(scenario)


def test_a_request_that_is_alone_starts_within_its_turn() -> None:
    class AtOnce(HandEngine):
        def start(self, inputs: Any, done: Done) -> BatchResult | None:
            return BatchResult({"y": inputs["x"] * 2})

    async def scenario() -> None:
        batcher = Batcher(AtOnce())
        assert not batcher.submit(rows(1), 1).done()
        await turn()
        assert batcher.submit(rows(1), 1, is_alone=True).done()
        waiting = Batcher(HandEngine(), max_wait_ms=10_000)
        assert not waiting.submit(rows(1), 1, is_alone=True).done()
        batcher.close()
        waiting.close()

    run(scenario)
