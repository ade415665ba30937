"""Dense at first, then as often as the budget allows."""

from __future__ import annotations

from nbops.debugging.governor import DENSE_STEPS, RAREST, Governor


def sampled_steps(governor: Governor, *, step_s: float, cost_s: float, steps: int) -> list[int]:
    found = []
    for step in range(steps):
        if governor.wants(step):
            found.append(step)
            governor.sampled(step, cost_s)
        governor.timed(step_s)
    return found


def test_cost_stays_within_one_percent_after_the_dense_steps() -> None:
    found = sampled_steps(Governor(), step_s=0.010, cost_s=0.002, steps=200)
    assert found[:DENSE_STEPS] == list(range(DENSE_STEPS))
    assert found[DENSE_STEPS:] == [39, 59, 79, 99, 119, 139, 159, 179, 199]  # 2 ms in 20 steps of 10 ms


def test_cheap_sampling_is_done_always() -> None:
    assert len(sampled_steps(Governor(), step_s=1.0, cost_s=0.001, steps=100)) == 100


def test_dear_sampling_is_still_done_now_and_then() -> None:
    found = sampled_steps(Governor(), step_s=1e-5, cost_s=1.0, steps=2500)
    assert found[DENSE_STEPS:] == [DENSE_STEPS - 1 + RAREST, DENSE_STEPS - 1 + 2 * RAREST]


def test_fixed_distance() -> None:
    assert sampled_steps(Governor(every=7), step_s=0.01, cost_s=1.0, steps=30) == [0, 7, 14, 21, 28]
