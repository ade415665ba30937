"""What of a resumed series is shown: the newest attempt at each step, and nothing is lost."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import nbops as nb
from nbops.core.protocols import Points
from nbops.server.reading import run_series
from nbops.store.points import Columns
from nbops.store.workspace import Workspace
from nbops.tracking.segments import newest_view

Segment = tuple[int, int]  # first step, count


def points(segments: list[Segment]) -> tuple[Points, list[dict[str, int]]]:
    """Segments one after the other, the n-th with values n; and how many points there were when each but one began."""
    steps = np.concatenate([np.arange(first, first + count) for first, count in segments]).astype("<i8")
    values = np.repeat(np.arange(len(segments), dtype="<f8"), [count for _, count in segments])
    times = np.full(len(values), 1000, dtype="<i8")  # a clock that stands still, or is set back, changes nothing
    made = Columns(steps, times, values).to_points("run_1", "m")
    return made, [{"m": sum(count for _, count in segments[:number])} for number in range(1, len(segments))]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20)), min_size=1, max_size=6))
def test_the_view_is_what_one_writer_would_have_kept(segments: list[Segment]) -> None:
    made, counts = points(segments)
    expected: list[tuple[int, float]] = []
    for number, (first, count) in enumerate(segments):
        if number and count:  # going back to a step throws away what came from there on
            expected = [(step, value) for step, value in expected if step < first]
        expected += [(step, float(number)) for step in range(first, first + count)]
    view = newest_view(made, counts)
    assert list(zip(view.steps.tolist(), view.values.tolist(), strict=True)) == expected
    everything = newest_view(made, [])
    assert len(everything) == sum(count for _, count in segments)
    steps = view.steps
    assert len(np.unique(steps)) == len(steps)


def test_points_of_one_attempt_stay_as_they_are() -> None:
    columns = Columns(np.array([5, 3, 3, 9]), np.array([1, 2, 3, 4]), np.array([np.nan, 1.0, 2.0, np.inf]))
    view = newest_view(columns.to_points("run_1", "m"), [])
    assert view.steps.tolist() == [5, 3, 3, 9]
    np.testing.assert_array_equal(view.values, columns.values)


def test_an_attempt_begins_with_its_earliest_point_also_where_a_later_one_arrived_before_it() -> None:
    steps, times = np.array([1, 2, 3, 4, 4, 3]), np.array([1, 2, 3, 4, 1002, 1001])
    columns = Columns(steps, times, np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0]))
    view = newest_view(columns.to_points("run_1", "m"), [{"m": 4}])
    assert (view.steps.tolist(), view.values.tolist()) == ([1, 2, 4, 3], [0.0, 0.0, 1.0, 1.0])


def test_the_panel_shows_the_newest_too(workspace: Workspace) -> None:
    with nb.run() as run:
        nb.log_series("m", range(10), np.zeros(10))
    with nb.run(resume=run):
        nb.log_series("m", range(5, 8), np.ones(3))
    (shown,) = run_series(workspace, run.id, metrics=["m"], px=100)["series"]
    assert (shown["steps"], shown["values"]) == (list(range(8)), [0.0] * 5 + [1.0] * 3)
