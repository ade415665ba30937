"""Dense at first, then as often as the budget allows, and in the early phase often enough whatever it costs."""

from __future__ import annotations

from itertools import pairwise

from nbops.debugging.governor import DENSE_STEPS, EARLY_STEPS, RAREST, Governor


def sampled_steps(governor: Governor, *, step_s: float, cost_s: float, steps: int) -> list[int]:
    found = []
    for step in range(steps):
        if governor.wants(step):
            found.append(step)
            governor.sampled(step, cost_s)
        governor.timed(step_s)
    return found


def test_cost_stays_within_one_percent_after_the_early_steps() -> None:
    found = sampled_steps(Governor(), step_s=0.010, cost_s=0.002, steps=1400)
    assert found[:DENSE_STEPS] == list(range(DENSE_STEPS))
    late = [step for step in found if step >= EARLY_STEPS]
    assert {b - a for a, b in pairwise(late)} == {20}  # 2 ms in 20 steps of 10 ms


def test_early_steps_are_an_eighth_of_the_way_apart_at_most() -> None:
    found = sampled_steps(Governor(), step_s=0.001, cost_s=0.090, steps=EARLY_STEPS)  # the budget alone: 900 steps
    early = [step for step in found if step >= DENSE_STEPS]
    assert early[:5] == [23, 27, 31, 35, 39]  # four steps at least
    assert all(b - a <= max(4, a / 8) for a, b in pairwise(early))
    assert 30 <= len(early) <= 45


def test_cheap_sampling_is_done_always() -> None:
    assert len(sampled_steps(Governor(), step_s=1.0, cost_s=0.001, steps=100)) == 100


def test_dear_sampling_is_still_done_now_and_then() -> None:
    """Beyond 0.1 s the early phase is none."""
    found = sampled_steps(Governor(), step_s=1e-5, cost_s=1.0, steps=2500)
    assert found[DENSE_STEPS:] == [DENSE_STEPS - 1 + RAREST, DENSE_STEPS - 1 + 2 * RAREST]


def test_fixed_distance() -> None:
    assert sampled_steps(Governor(every=7), step_s=0.01, cost_s=1.0, steps=30) == [0, 7, 14, 21, 28]


def test_stirred_steps_are_ten_times_as_dense() -> None:
    governor = Governor()
    found = sampled_steps(governor, step_s=0.010, cost_s=0.004, steps=1500)
    assert found[-1] - found[-2] == 40
    governor.stir(1500)
    again = [step for step in range(1500, 1560) if governor.wants(step) and governor.sampled(step, 0.004) is None]
    assert again[:3] == [1501, 1505, 1509]
    governor.sampled(1600, 0.004)
    governor.stir(1600)  # once in 500 steps at most
    assert not governor.wants(1601)


def test_forced_sampling() -> None:
    governor = Governor(every=100)
    governor.sampled(0, 1.0)
    governor.always(True)
    assert governor.wants(1)
    governor.always(False)
    assert not governor.wants(1)
