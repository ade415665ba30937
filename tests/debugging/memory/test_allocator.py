"""The replay of CUDA's caching allocator, on traces whose outcome its rules give by hand."""

from __future__ import annotations

from nbops.debugging.memory.allocator import reserved_bytes
from nbops.debugging.memory.trace import FORWARD, Trace

KIB, MIB = 1 << 10, 1 << 20


def traced(*events: int) -> Trace:
    """A trace of sizes; a negative number -n releases the n-th allocation."""
    trace = Trace()
    for event in events:
        if event > 0:
            trace.allocate(event, phase=FORWARD)
        else:
            trace.release(-event)
    return trace


def test_small_pieces_share_segments_of_two_mib() -> None:
    assert reserved_bytes(traced(1)) == 2 * MIB
    assert reserved_bytes(traced(MIB, MIB)) == 2 * MIB
    assert reserved_bytes(traced(MIB, MIB, 1)) == 4 * MIB


def test_middle_pieces_share_segments_of_twenty_mib_and_large_ones_have_their_own() -> None:
    assert reserved_bytes(traced(2 * MIB, 9 * MIB)) == 20 * MIB
    assert reserved_bytes(traced(11 * MIB)) == 12 * MIB
    assert reserved_bytes(traced(10 * MIB, 10 * MIB)) == 20 * MIB


def test_what_was_released_is_used_again_and_never_given_back() -> None:
    assert reserved_bytes(traced(30 * MIB, -1, 30 * MIB)) == 30 * MIB
    assert reserved_bytes(traced(30 * MIB, -1, 12 * MIB)) == 30 * MIB


def test_neighbours_that_are_free_become_one_block() -> None:
    assert reserved_bytes(traced(6 * MIB, 6 * MIB, 6 * MIB, -1, -2, 9 * MIB)) == 20 * MIB
    assert reserved_bytes(traced(6 * MIB, 6 * MIB, 6 * MIB, -1, -3, 9 * MIB)) == 40 * MIB  # the middle is in between


def test_the_smallest_block_that_fits_is_taken() -> None:
    # 12 and 16 MiB are free; the request for 12 takes the first, so that 16 still fits
    assert reserved_bytes(traced(12 * MIB, 16 * MIB, -1, -2, 12 * MIB, 16 * MIB)) == 28 * MIB


def test_a_rest_of_a_mib_or_less_stays_with_its_block() -> None:
    # 12 MiB held, 11.5 asked for: the rest of 0.5 is lost, so a middle piece needs a segment
    assert reserved_bytes(traced(12 * MIB, -1, 11 * MIB + 512 * KIB, 2 * MIB)) == 32 * MIB


def test_same_trace_same_answer() -> None:
    trace = traced(*(KIB * (7 * i % 900 + 1) for i in range(1, 400)), *(-i for i in range(1, 400, 3)), 5 * MIB)
    assert len({reserved_bytes(trace) for _ in range(5)}) == 1
