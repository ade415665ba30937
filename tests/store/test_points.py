"""Chunks: any points come back bit for bit, and the common ones take half the room."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nbops.core.errors import CorruptData
from nbops.store.points import Columns, decode_chunk, encode_chunk, merge, stride_of, summarise

int64 = st.integers(-(2**63), 2**63 - 1)
steps = st.one_of(
    arrays("<i8", st.integers(1, 40), elements=int64),
    st.builds(lambda first, stride, n: np.arange(n, dtype="<i8") * stride + first, st.integers(-5, 5),
              st.integers(-9, 9), st.integers(1, 40)),
)  # fmt: skip
times = st.one_of(
    st.integers(0, 2**41).map(lambda t: lambda n: np.full(n, t, "<i8")),
    st.integers(0, 2**33).map(lambda t: lambda n: np.arange(n, dtype="<i8") * t),
)
any_bits = arrays("<u8", 40, elements=st.integers(0, 2**64 - 1)).map(lambda bits: bits.view("<f8"))


@given(steps=steps, times=times, values=any_bits)
def test_any_points_come_back_bit_for_bit(steps: np.ndarray, times: object, values: np.ndarray) -> None:
    n = len(steps)
    columns = Columns(steps, times(n), values[:n])  # type: ignore[operator]
    back = decode_chunk(encode_chunk(columns))
    for name in ("steps", "times_ms", "values"):
        assert getattr(back, name).tobytes() == getattr(columns, name).tobytes()


def test_even_steps_at_near_times_take_half_the_room() -> None:
    n = 4096
    even = Columns(np.arange(n, dtype="<i8"), 1_700_000_000_000 + np.arange(n, dtype="<i8"), np.zeros(n))
    odd = Columns(even.steps**2, even.times_ms * 100_000_003, even.values)
    assert len(encode_chunk(even)) < 0.52 * len(encode_chunk(odd))


@pytest.mark.parametrize("cut", [0, 3, 70, 100, -1])
def test_a_damaged_chunk_is_refused(cut: int) -> None:
    data = encode_chunk(Columns(np.arange(9, dtype="<i8"), np.zeros(9, "<i8"), np.zeros(9)))
    with pytest.raises(CorruptData, match="is damaged"):
        decode_chunk(data[:cut])


@pytest.mark.parametrize(
    ("steps", "stride"), [([], None), ([7], 1), ([3, 5, 7], 2), ([3, 3], 0), ([9, 6, 3], -3), ([0, 1, 3], None)]
)
def test_the_stride_of_steps(steps: list[int], stride: int | None) -> None:
    assert stride_of(np.array(steps, "<i8")) == stride


@given(values=st.lists(st.floats(), min_size=2, max_size=30), at=st.integers(1, 29))
def test_merged_summaries_are_those_of_the_whole(values: list[float], at: int) -> None:
    def columns(part: list[float], first: int) -> Columns:
        return Columns(np.arange(first, first + len(part), dtype="<i8"), np.zeros(len(part), "<i8"), np.array(part))

    at = min(at, len(values) - 1)
    left, right = columns(values[:at], 0), columns(values[at:], at)
    merged = merge(merge(None, summarise(left)), summarise(right))
    assert repr(merged) == repr(summarise(Columns.joined([left, right])))
