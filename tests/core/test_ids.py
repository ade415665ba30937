"""Ids that are made from what a thing is called elsewhere."""

from __future__ import annotations

from nbops.core.ids import new_id, stable_id


def test_a_stable_id_is_the_same_for_the_same_thing_and_no_other() -> None:
    one = stable_id("run", at=1700000000.123, of="mlflow\0abc")
    assert one == stable_id("run", at=1700000000.123, of="mlflow\0abc")
    assert (
        len({one, stable_id("run", at=1700000000.124, of="mlflow\0abc"), stable_id("run", at=1700000000.123, of="x")})
        == 3
    )
    assert len(one) == len(new_id("run"))


def test_stable_ids_sort_by_time_among_all_others() -> None:
    made = [stable_id("run", at=at, of="x") for at in (-5.0, 1.0, 1.7e9)]
    assert made == sorted(made)
    assert made[-1] < new_id("run") < stable_id("run", at=1e14, of="x")
