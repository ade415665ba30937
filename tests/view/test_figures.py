"""Curves: nothing extreme is lost, what is not finite is marked, and the picture stays small."""

from __future__ import annotations

import math
import random
import re
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbops.view.figures import Figure, Line, plotly, sparkline, svg
from nbops.view.scales import axis, clean, round_ticks, thin, wants_log

SPACE = "{http://www.w3.org/2000/svg}"


def figure(*lines: Line, log: bool | None = None) -> Figure:
    return Figure("a figure", lines, log=log)


def drawn(text: str) -> ElementTree.Element:
    """Return the parsed picture: it must be well-formed."""
    return ElementTree.fromstring(text)  # noqa: S314


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=400), st.integers(2, 40))
def test_thinning_keeps_extremes_ends_and_order(values: list[float], count: int) -> None:
    steps = np.arange(len(values), dtype=float)
    x, y = thin(steps, np.array(values), count)
    assert len(x) <= 2 * count + 2
    assert (y.min(), y.max()) == (min(values), max(values))
    assert (x[0], x[-1], y[0], y[-1]) == (0.0, len(values) - 1, values[0], values[-1])
    assert np.all(np.diff(x) >= 0)


def test_a_single_spike_among_a_million_points_is_drawn() -> None:
    values = np.zeros(1_000_000)
    values[654_321] = 7.0
    text = svg(figure(Line("loss", np.arange(1_000_000), values)))
    pairs = " ".join(re.findall(r'points="([^"]+)"', text)).split()
    heights = [float(pair.split(",")[1]) for pair in pairs]
    assert min(heights) == pytest.approx(10.0, abs=0.2)  # the top of the picture
    assert max(plotly(figure(Line("loss", np.arange(1_000_000), values)))["data"][0]["y"]) == 7.0


def test_seven_long_noisy_lines_stay_below_30_kb() -> None:
    rng = np.random.default_rng(0)
    lines = [Line(f"metric/{i}", np.arange(50_000), rng.normal(size=50_000)) for i in range(9)]
    text = svg(figure(*lines), alone=True)
    assert len(text.encode()) <= 30_000
    assert len(drawn(text).findall(f".//{SPACE}polyline")) == 7
    assert len(str(plotly(figure(*lines))).encode()) <= 60_000


def test_lines_are_labelled_at_their_ends_without_overlap() -> None:
    lines = [Line(name, [0, 1], [1.0, 1.0 + i / 1000]) for i, name in enumerate(("a", "b", "c", "d"))]
    root = drawn(svg(figure(*lines), alone=True))
    ends = {t.text: float(t.get("y", "")) for t in root.findall(f".//{SPACE}text") if t.text in "abcd"}
    heights = sorted(ends.values())
    assert len(heights) == 4
    assert all(b - a >= 12.9 for a, b in pairwise(heights))
    assert all(0 < h < 170 for h in heights)


def test_the_first_value_that_is_not_finite_is_marked() -> None:
    values = [1.0, 2.0, 3.0, math.nan, 5.0, math.inf]
    text = svg(figure(Line("loss", range(6), values)))
    assert "not finite from step 3" in text
    assert "not finite" not in svg(figure(Line("loss", range(3), values[:3])))
    assert "not finite from step 3" in sparkline(figure(Line("loss", range(6), values)))[0]


def test_a_gap_is_not_bridged() -> None:
    text = svg(figure(Line("loss", range(7), [1, 2, 3, math.nan, 5, 6, 7])))
    assert text.count("<polyline") == 2


def test_very_many_gaps_still_make_a_small_picture() -> None:
    values = [1.0 if i % 2 else math.nan for i in range(20_000)]
    assert len(svg(figure(Line("loss", range(20_000), values)))) < 30_000


@pytest.mark.parametrize("values", [[], [math.nan], [math.nan, math.inf], [5.0], [2.0, 2.0, 2.0], [0.0, 0.0]])
def test_poor_data_is_drawn_without_fuss(values: list[float]) -> None:
    text = svg(figure(Line("loss", range(len(values)), values)), alone=True)
    assert bool(text) == bool(values)
    if text:
        drawn(text)
    assert len(sparkline(figure(Line("loss", range(len(values)), values)))) == bool(values)


def test_steps_out_of_order_are_sorted() -> None:
    x, y, bad = clean([3, 1, 2], [30.0, 10.0, math.nan])
    assert x.tolist() == [1, 2, 3]
    assert y[[0, 2]].tolist() == [10.0, 30.0]
    assert bad == 2


def test_a_wide_positive_range_gets_a_log_axis_and_a_narrow_one_does_not() -> None:
    wide = figure(Line("loss", range(5), [1e3, 10, 1, 0.1, 1e-2]))
    assert wide.is_log
    assert "log y" in svg(wide)
    assert plotly(wide)["layout"]["yaxis"]["type"] == "log"
    narrow = figure(Line("loss", range(3), [3.0, 2.0, 1.0]))
    assert not narrow.is_log
    assert "log y" not in svg(narrow)
    assert not wants_log(np.array([0.0, 1e9]))
    assert not figure(Line("loss", range(2), [1e-9, 1.0]), log=False).is_log


def test_ticks_are_round_and_within_the_axis() -> None:
    assert round_ticks(0, 2.3, 4) == [0.0, 1.0, 2.0]
    assert round_ticks(-0.031, 0.029, 4) == [-0.02, 0.0, 0.02]
    assert axis(0.02, 800, 0, 1, log=True).ticks(4) == [0.1, 1.0, 10.0, 100.0]
    assert axis(1e-9, 1.0, 0, 1, log=True).ticks(4) == [1e-9, 1e-6, 0.001, 1.0]
    assert axis(3, 3, 0, 1).low < 3 < axis(3, 3, 0, 1).high


def test_names_are_escaped_in_the_picture() -> None:
    text = svg(figure(Line("</svg><script>alert(1)</script>", range(3), [1, 2, 3])), alone=True)
    drawn(text)
    assert "<script" not in text


def test_plotlys_json_is_what_plotly_accepts() -> None:
    go = pytest.importorskip("plotly.graph_objects")
    rng = random.Random(0)
    made = plotly(figure(Line("loss", range(100), [rng.random() for _ in range(100)]), Line("acc", [0], [math.nan])))
    accepted = go.Figure({"data": made["data"], "layout": made["layout"]})
    assert len(accepted.data[0].y) == 100
    assert accepted.layout.yaxis.type == "linear"


def test_text_shows_the_course_and_the_ends() -> None:
    (line,) = sparkline(figure(Line("loss", range(50), [math.exp(-i / 10) for i in range(50)])))
    assert line.startswith("loss  █")
    assert "▁  1 → 0.007447, 50 points" in line
