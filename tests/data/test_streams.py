"""Detectors see a change of the mean soon, say nothing without one, and agree with `river` where it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nbops.core.errors import InvalidInput
from nbops.data.streams import Adwin, Ddm, Detector, PageHinkley, find_changes


def errors(seed: int, *rates: float, each: int = 1000) -> np.ndarray:
    """Return errors of 0 and 1 whose rate changes after each so many."""
    random = np.random.default_rng(seed)
    return np.concatenate([(random.random(each) < rate).astype(float) for rate in rates])


# what a user would choose for errors of 0 and 1: a tolerance, and some patience before the first alarm
MADE = {
    "adwin": Adwin,
    "page-hinkley": lambda: PageHinkley(threshold=20, tolerance=0.05),
    "ddm": lambda: Ddm(least=300, factor=4),
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("seed", range(5))
def test_a_rise_of_the_error_rate_is_seen_soon_after_it(name: str, seed: int) -> None:
    found = find_changes(errors(seed, 0.1, 0.4), detector=MADE[name]())
    assert found
    assert 1000 <= found[0] < 1250


@pytest.mark.parametrize("name", MADE)
def test_a_stable_rate_is_left_alone(name: str) -> None:
    false = [find_changes(errors(seed, 0.2, each=2000), detector=MADE[name]()) for seed in range(10)]
    assert sum(map(bool, false)) == 0


def test_a_fall_is_seen_too_by_those_that_look_for_it() -> None:
    falling = errors(0, 0.5, 0.1)
    assert find_changes(falling, detector=Adwin())
    assert find_changes(falling, detector=PageHinkley(threshold=20))
    assert find_changes(falling, detector=PageHinkley(threshold=20, tolerance=0.1, direction="up")) == []
    assert find_changes(falling, detector=PageHinkley(threshold=20, tolerance=0.1, direction="down"))
    assert find_changes(falling, detector="ddm") == []


def test_the_window_is_exact_and_shrinks_at_a_change() -> None:
    values = np.random.default_rng(3).normal(size=500)
    window = Adwin()
    for value in values:
        window.update(value)
    assert (window.width, window.changes) == (500, [])
    assert window.mean == pytest.approx(values.mean())
    assert window._square == pytest.approx(((values - values.mean()) ** 2).sum())
    for value in values + 3:
        window.update(value)
    assert window.width <= 520
    assert window.mean == pytest.approx(3 + values.mean(), abs=0.2)
    assert window._square / window.width == pytest.approx(values.var(), rel=0.3)
    assert np.isnan(Adwin().mean)


def test_memory_grows_with_the_logarithm() -> None:
    window = Adwin(every=10**9)
    for value in np.zeros(20_000):
        window.update(value)
    assert sum(map(len, window._sizes)) < 90


def test_a_warning_comes_before_the_change() -> None:
    detector, warned = Ddm(), None
    for at, value in enumerate(errors(1, 0.05, 0.3)):
        is_change = detector.update(value)
        if is_change:
            break
        warned = at if detector.is_warning else warned
    assert warned is not None
    assert warned < detector.changes[0] < 1200
    assert not detector.is_warning


def test_a_detector_goes_on_where_it_is() -> None:
    detector = Adwin()
    assert find_changes(errors(0, 0.1), detector=detector) == []
    (change, *_) = find_changes((value for value in errors(0, 0.6)), detector=detector)
    assert 1000 <= change < 1100
    assert detector.changes[0] == change


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: find_changes([1.0], detector="adwim"), "no detector 'adwim'\nDid you mean 'adwin'"),
        (lambda: find_changes([[1.0]]), "not float64 of rank 2"),
        (lambda: find_changes(["a"]), "a stream is one row of numbers"),
        (lambda: find_changes([0.0, np.nan]), "value 1 of the stream is nan\nLeave missing"),
        (lambda: find_changes([0.0, 0.5], detector="ddm"), "value 1 of the stream is 0.5, neither right"),
        (lambda: Adwin(delta=0), "delta is 0"),
        (lambda: PageHinkley(direction="left"), "direction is 'left'"),
        (lambda: PageHinkley(threshold=-1), "threshold is -1"),
        (lambda: PageHinkley(fading=2), "fading is 2"),
        (lambda: Ddm(factor=0), "factor is 0"),
    ],
)
def test_wrong_input_is_refused(call: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        call()


# ---- beside river ----------------------------------------------------------------------------------------------------


def _positions(detector: Any, values: np.ndarray) -> list[int]:
    found = []
    for at, value in enumerate(values.tolist()):
        detector.update(value)
        if detector.drift_detected:
            found.append(at)
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["adwin", "page-hinkley", "ddm"])
def test_changes_are_those_of_river(name: str, seed: int) -> None:
    drift = pytest.importorskip("river.drift")
    values = errors(seed, 0.1, 0.5, 0.2, 0.6)
    if seed >= 4 and name != "ddm":
        values = values + np.random.default_rng(seed).normal(scale=0.3, size=len(values))
    mine: Detector
    if name == "adwin":
        theirs, mine, room = drift.ADWIN(), Adwin(), 64
    elif name == "page-hinkley":
        theirs, mine, room = drift.PageHinkley(threshold=20), PageHinkley(threshold=20), 0
    else:
        theirs, mine, room = drift.binary.DDM(), Ddm(), 0
    wanted, found = _positions(theirs, values), find_changes(values, detector=mine)
    assert len(found) == len(wanted)
    assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) <= room
