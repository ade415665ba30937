"""Comparing runs: what differs, who is best, what explains what, what is in production, and how runs are named."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nbops as nb
from nbops.core.errors import InvalidInput, NotFound, QuerySyntaxError
from nbops.core.ids import new_id
from nbops.core.protocols import Points
from nbops.core.records import Alias, Dataset, ModelVersion, Run, Signature, replace
from nbops.store.workspace import Workspace
from nbops.tracking.comparing import selecting
from nbops.tracking.comparing.associations import correlation, eta_squared, importance, ranks, spearman
from nbops.tracking.comparing.comparison import ABSENT
from nbops.tracking.comparing.production import production_for
from nbops.tracking.comparing.ranking import is_more_better
from nbops.tracking.segments import newest_view

pytestmark = pytest.mark.usefixtures("workspace")


def one(name: str, values: list[float] | None = None, **params: Any) -> Run:
    """Run something that logs `acc` once per value."""
    with nb.run(name, params=params) as live:
        if values:
            live.log_series("acc", None, values)
    return live.record


def many(count: int, *, noise: float = 0.0) -> list[Run]:
    """Run `count` times with an accuracy that falls with `lr`, where `seed` and `hue` mean nothing."""
    rng = np.random.default_rng(0)
    return [
        one(f"r{i}", [1 - i / count + float(rng.normal()) * noise], lr=i / 10, seed=(3, 1, 2)[i % 3], hue="ab"[i % 2])
        for i in range(count)
    ]  # fmt: skip


def register(name: str, number: int, run: Run, *, alias: str = "", **metrics: float) -> None:
    store, at = nb.workspace().store, time.time()
    store.put(ModelVersion(id=new_id("mv"), created_at=at, name=name, number=number, digest="", parent=run.id,
                           signature=Signature(inputs=[], outputs=[]), metrics=metrics))  # fmt: skip
    if alias:
        store.put(Alias(id=new_id("al"), created_at=at, name=f"{name}@{alias}", model=name, alias=alias, number=number))


# ---- which runs ------------------------------------------------------------------------------------------------------


def test_runs_are_named_by_record_handle_id_name_model_table_list_and_query() -> None:
    a, b, c = one("a", lr=1), one("b", lr=2), one("c", lr=3)
    register("net", 1, b, alias="prod")
    version = nb.find("models")[0]
    with nb.run("open") as live:
        found = nb.compare(a, live, b.id, "c")
        assert [run.name for run in found.runs] == ["a", "open", "b", "c"]
    assert [run.id for run in nb.compare("net@prod", version).runs] == [b.id]
    assert [run.id for run in nb.compare(nb.find("runs", "params.lr")).runs] == [c.id, b.id, a.id]
    assert [run.id for run in nb.compare("params.lr >= 2", [a, a.id]).runs] == [c.id, b.id, a.id]


def test_a_name_that_reads_like_a_query_is_a_name() -> None:
    odd = one("lr > 1", lr=2)
    one("b", lr=3)
    assert [run.id for run in nb.compare("lr > 1").runs] == [odd.id]


def test_a_name_that_looks_like_an_id_is_found() -> None:
    named = one("run_2")
    assert [run.id for run in nb.compare("run_2", named.id).runs] == [named.id]
    with pytest.raises(NotFound, match="no run 'run_3'"):
        nb.compare("run_3")


def test_what_means_no_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    a = one("baseline")
    with pytest.raises(NotFound, match="baseline"):
        nb.compare("baselin")
    with pytest.raises(NotFound, match=r"no run matches params\.lr > 5"):
        nb.compare("params.lr > 5")
    with pytest.raises(QuerySyntaxError, match="foo"):
        nb.compare("foo.lr > 5")
    with pytest.raises(InvalidInput, match="no run is named"):
        nb.compare()
    with pytest.raises(InvalidInput, match="a dict is no run"):
        nb.compare({})
    with pytest.raises(InvalidInput, match="a Dataset is no run"):
        nb.compare(Dataset(id="ds_1", created_at=0.0, name="d", version=1, digest="", rows=0))
    register("net", 1, replace(a, id=""))
    with pytest.raises(NotFound, match="model net/1 has no run"):
        nb.compare(nb.find("models")[0])
    monkeypatch.setattr(selecting, "MAX_RUNS", 1)
    with pytest.raises(InvalidInput, match="2 runs are too many"):
        nb.compare(a, one("b"))


# ---- tables ----------------------------------------------------------------------------------------------------------


def test_parameters_that_differ_come_first_and_nested_ones_by_dotted_names() -> None:
    found = nb.compare(
        one("a", seed=0, lr=0.1, net={"depth": 2, "act": "relu"}), one("b", seed=0, net={"depth": 3, "act": "relu"})
    )
    assert [(row.name, row.differs) for row in found.params] == [
        ("lr", True), ("net.depth", True), ("seed", False), ("net.act", False),
    ]  # fmt: skip
    assert found.params[0].values == (0.1, ABSENT)
    assert repr(ABSENT) == "—"


@pytest.mark.parametrize(("a", "b", "differ"), [(1, 1.0, False), (1, True, True), (math.nan, math.nan, False)])
def test_when_two_values_are_the_same(a: Any, b: Any, differ: bool) -> None:
    assert nb.compare(one("a", x=a), one("b", x=b)).params[0].differs is differ


def test_metrics_have_last_best_and_their_steps() -> None:
    with nb.run("a") as a:
        for step, loss in ((0, 3.0), (5, 1.0), (9, math.nan), (12, 2.0)):
            a.log(step, loss=loss, speed=step)
    with nb.run("b") as b:
        b.log(3, loss=1.5)
    loss, speed = nb.compare(a, b).metrics
    assert (loss.metric, loss.last, loss.last_step) == ("loss", (2.0, 1.5), (12, 3))
    assert (loss.best, loss.best_step, loss.winner) == ((1.0, 1.5), (5, 3), 1)
    assert (speed.metric, speed.is_more_better, speed.best, speed.winner) == ("speed", None, (None, None), None)


@pytest.mark.parametrize(
    ("metric", "more"),
    [
        ("val_acc", True),
        ("loss", False),
        ("acc_error", False),
        ("test/F1-score", True),
        ("mape", False),
        ("map50", True),
        ("epoch", None),
        ("", None),
    ],
)
def test_the_name_tells_which_way_is_better(metric: str, more: bool | None) -> None:
    assert is_more_better(metric) is more


def test_only_the_metrics_asked_for() -> None:
    with nb.run("a") as a:
        a.log(acc=1.0, loss=0.1)
    assert [row.metric for row in nb.compare(a, metrics=["loss"]).metrics] == ["loss"]
    assert [row.metric for row in nb.compare(a, metrics="loss").metrics] == ["loss"]
    with pytest.raises(NotFound, match="lss"):
        nb.compare(a, metrics=["lss"])


def test_two_runs_of_one_name_are_told_apart() -> None:
    a, b = one("same"), one("same")
    assert nb.compare(a, b, one("other")).labels == (f"same …{a.id[-6:]}", f"same …{b.id[-6:]}", "other")


def test_to_pandas_has_one_row_per_run() -> None:
    frame = nb.compare(one("a", [0.5], lr=0.1), one("b", lr=0.2)).to_pandas()
    assert list(frame.index) == ["a", "b"]
    assert list(frame["params.lr"]) == [0.1, 0.2]
    assert frame["metrics.acc"].isna().tolist() == [False, True]


# ---- curves ----------------------------------------------------------------------------------------------------------


def test_curves_of_different_lengths_are_aligned_by_step() -> None:
    with nb.run("a") as a:
        a.log_series("loss", [0, 10, 20], [3.0, math.nan, 1.0])
    with nb.run("b") as b:
        b.log_series("loss", [10, 15, 15], [9.0, 8.0, 7.0])
    overlay = nb.compare(a, b).curves("loss")
    steps, values = overlay.aligned()
    assert steps.tolist() == [0, 10, 15, 20]
    np.testing.assert_array_equal(values, [[3, np.nan, np.nan, 1], [np.nan, 9, 7, np.nan]])
    assert [curve.first_bad for curve in overlay.curves] == [10, None]
    assert overlay.to_pandas().columns.tolist() == ["a", "b"]
    with pytest.raises(NotFound, match="no overlay 'acc'"):
        nb.compare(a, b).curves("acc")


def test_of_many_runs_the_curves_of_the_best_are_kept() -> None:
    for i in range(9):
        one(f"r{i}", [0.0, i / 10])
    found = nb.compare(nb.find("runs"))
    assert [curve.label for curve in found.curves("acc").curves] == ["r8", "r7", "r6", "r5", "r4", "r3", "r2"]
    assert "Curves and matrices: 7 of 9 runs, the best by acc." in found.notes


def test_a_resumed_run_shows_its_newest_segment(workspace: Workspace) -> None:
    run = one("a")

    def add(first: int, values: list[float], at_ms: int) -> None:
        steps = np.arange(first, first + len(values))
        times = np.full(len(values), at_ms)
        workspace.store.add_points(
            [Points(run.id, "acc", steps.tobytes(), times.tobytes(), np.array(values).tobytes())]
        )

    add(0, [0.0, 1.0, 2.0, 3.0], 1_000)
    add(2, [20.0, 30.0], 6_000)
    workspace.store.put(replace(workspace.store.get(Run, run.id), segments=[{"acc": 4}, {"acc": 6}]))
    assert nb.series(run.id, "acc").values.tolist() == [0.0, 1.0, 20.0, 30.0]
    assert nb.compare(run.id).curves("acc").curves[0].steps.tolist() == [0, 1, 2, 3]
    assert len(newest_view(workspace.store.points(run.id, "acc"), [])) == 6


# ---- what explains what ----------------------------------------------------------------------------------------------


def test_the_parameter_that_matters_is_found_and_those_that_do_not_are_low() -> None:
    many(12, noise=0.02)
    found = nb.compare(nb.find("runs"))
    lr, *rest = found.importance
    assert (lr.param, lr.method, lr.n) == ("lr", "spearman", 12)
    assert lr.share > 0.9
    assert lr.rho is not None
    assert lr.rho < -0.9
    assert {item.param: item.method for item in rest} == {"seed": "spearman", "hue": "eta squared"}
    assert all(item.share < 0.2 for item in rest)
    assert found.correlation is not None
    assert found.correlation.names == ("lr", "seed", "acc")
    assert found.parallel is not None
    assert [axis.name for axis in found.parallel.axes] == ["lr", "hue", "seed", "acc"]


def test_a_category_that_matters_is_found() -> None:
    for i in range(10):
        one(f"r{i}", [0.5 + 0.3 * (i % 2) + i / 100], opt=["sgd", "adam"][i % 2])
    best = nb.compare(nb.find("runs")).importance[0]
    assert (best.param, best.method, best.rho) == ("opt", "eta squared", None)
    assert best.share > 0.7


def test_below_eight_runs_nothing_is_claimed() -> None:
    found = nb.compare(many(7))
    assert (found.importance, found.correlation) == ((), None)
    assert "Too few runs to say which parameter matters: 7, and 8 are the least." in found.notes
    assert nb.compare(many(8)).importance != ()


def test_a_category_with_a_value_for_each_run_explains_nothing() -> None:
    acc = [float(i) for i in range(10)]
    assert importance({"id": [f"x{i}" for i in range(10)]}, "acc", acc) == ()
    assert importance({"same": [1] * 10}, "acc", acc) == ()
    assert importance({"lr": acc}, "acc", [1.0] * 10) == ()


def test_ranks_and_coefficients_against_worked_examples() -> None:
    assert ranks([10, 20, 20, 5]).tolist() == [2.0, 3.5, 3.5, 1.0]
    assert spearman([1, 2, 3, 4], [1, 8, 27, 64]) == 1.0
    assert spearman([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]) == pytest.approx(0.8)  # 1 - 6·4 / (5·24)
    assert math.isnan(spearman([1, 1], [1, 2]))
    assert eta_squared(["a", "a", "b", "b"], [1, 2, 3, 4]) == pytest.approx(0.8)  # ranks: 4 between of 5 in all
    assert math.isnan(eta_squared(["a", "a"], [1, 2]))
    assert correlation({"only": [1.0]}) is None


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=3, max_size=40))
def test_spearman_is_that_of_scipy(pairs: list[tuple[float, float]]) -> None:
    stats = pytest.importorskip("scipy.stats")
    x, y = [a for a, _ in pairs], [b for _, b in pairs]
    if len(set(x)) > 1 and len(set(y)) > 1:
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)


# ---- production ------------------------------------------------------------------------------------------------------


def test_the_difference_to_the_version_in_production() -> None:
    old, new = one("old", [0.7]), one("new", [0.9])
    register("net", 1, old, alias="prod", size=3.0)
    register("net", 2, new)
    (live,) = nb.compare(new, one("third", [0.6])).production
    (acc,) = live.differences
    assert (live.version.ref, live.run and live.run.id) == ("net/1", old.id)
    assert (acc.metric, acc.production, acc.values) == ("acc", 0.7, (0.9, 0.6))
    assert acc.differences == pytest.approx((0.2, -0.1))


def test_metrics_registered_with_the_version_outlive_its_run() -> None:
    old, new = one("old", [0.7]), one("new", [0.9])
    register("net", 1, old, alias="prod", acc=0.75)
    register("net", 2, new)
    nb.workspace().store.delete(Run, old.id)
    (live,) = nb.compare(new).production
    assert (live.run, live.differences[0].production) == (None, 0.75)


def test_without_a_version_in_production_it_says_so() -> None:
    run = one("a", [0.5])
    assert nb.compare(run).production == ()
    register("net", 1, run)
    found = nb.compare(run)
    assert found.production == ()
    assert "Model 'net' has no version in production: set its alias 'prod'." in found.notes


def test_the_alias_production_is_as_good() -> None:
    old, new = one("old", [0.7]), one("new", [0.9])
    register("net", 1, old, alias="production")
    register("net", 2, new)
    (live,) = nb.compare(new).production
    assert (live.alias, live.version.ref) == ("production", "net/1")
    register("net", 2, new, alias="prod")  # the name that references to models mean by default comes first
    assert [live.alias for live in nb.compare(new).production] == ["prod"]


def against(run: Run) -> tuple[str, tuple[float | None, ...]] | None:
    found = production_for(nb.workspace(), run, ["acc", "other"])
    return None if found is None else (found.version.ref, tuple(d.production for d in found.differences))


def test_one_run_is_set_against_the_only_model_in_production_or_that_of_its_own_model() -> None:
    old, new, third = one("old", [0.7]), one("new", [0.9]), one("third", [0.5])
    assert against(new) is None
    register("net", 1, old, alias="prod")
    assert against(new) == ("net/1", (0.7,))
    assert against(old) is None  # it is that version's own run
    register("other", 1, third, alias="production")
    assert against(new) is None  # which of the two?
    register("other", 2, new)
    assert against(new) == ("other/1", (0.5,))
    lone = one("lone", [0.1])
    register("third", 1, lone)  # a model that has nothing in production is not set against another model
    assert against(lone) is None


def test_runs_without_parameters_or_metrics_are_compared_too() -> None:
    found = nb.compare(one("a"), one("b"), one("c"))
    assert (found.params, found.metrics, found.overlays, found.parallel) == ((), (), (), None)
    assert repr(found) == "Comparison(3 runs, 0 parameters differ, 0 metrics)"
