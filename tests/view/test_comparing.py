"""Comparisons as cards: both forms, within their budgets, safe against names, with nothing that asks for a script."""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest
from markup import EVIL, check_html

import nbops as nb
from nbops.core.display import Shown, mimebundle
from nbops.core.ids import new_id
from nbops.core.records import Alias, ModelVersion, Signature
from nbops.tracking.comparing.associations import Correlation
from nbops.tracking.comparing.comparison import Axis, Parallel
from nbops.tracking.comparing.overlays import Curve, Overlay
from nbops.tracking.confusion import Confusion, count
from nbops.view import heatmaps, html, parallel
from nbops.view.comparing import MAX_BYTES, PLOTLY
from nbops.view.format import columns

if TYPE_CHECKING:
    from nbops.store.workspace import Workspace

RNG = np.random.default_rng(0)


@pytest.fixture
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison is a page of pictures: it has a budget of its own."""
    monkeypatch.setattr(html, "MAX_BYTES", MAX_BYTES)


def shown(value: Shown) -> tuple[str, str, dict[str, Any]]:
    """Return text, HTML and all forms, after checking what holds for every card."""
    found = mimebundle(value)
    text, markup = found["text/plain"], found["text/html"]
    check_html(markup)
    assert all(columns(line) <= 120 for line in text.splitlines())
    if "image/svg+xml" in found:
        ElementTree.fromstring(found["image/svg+xml"])  # noqa: S314
        assert len(found["image/svg+xml"].encode()) <= 30_000
    if PLOTLY in found:
        assert len(str(found[PLOTLY]).encode()) <= 60_000
    return text, markup, found


def some_runs(count: int, name: str = "trial") -> None:
    for i in range(count):
        with nb.run(f"{name}-{i}", params={"lr": 10.0 ** -(i % 4), "opt": ["sgd", "adam"][i % 2], "same": 1}) as run:
            run.log_series("val_acc", None, np.linspace(0, 0.9 + i / 1000, 50 + i))
            run.log_series("loss", None, [math.nan if i == 1 and s == 20 else 1 / (s + 1) for s in range(50 + i)])


@pytest.mark.usefixtures("_wide")
def test_few_runs_stand_side_by_side(workspace: Workspace) -> None:
    some_runs(3)
    text, markup, _ = shown(nb.compare("trial-0", "trial-1", "trial-2"))
    assert "trial-0 · trial-1 · trial-2   2 of 3 parameters differ" in text
    assert re.search(r"^val_acc +0\.9 +0\.901 +★ 0\.902$", text, re.MULTILINE)
    assert re.search(r"^opt +sgd +adam +sgd$", text, re.MULTILINE)
    assert "the same in all  same 1" in text
    assert "not finite from step 20" in text
    assert "Too few runs to say which parameter matters: 3" in markup
    assert markup.count("<svg") >= 3  # two overlays and parallel coordinates


@pytest.mark.usefixtures("_wide")
def test_many_runs_stand_below_each_other_with_what_matters(workspace: Workspace) -> None:
    some_runs(30)
    text, markup, _ = shown(nb.compare(nb.find("runs")))
    assert re.search(r"^run +val_acc ↓ +loss", text, re.MULTILINE)
    assert re.search(r"^trial-29 +★ 0\.929", text, re.MULTILINE)
    assert "… and 18 more" in text
    assert "parameter  explains ↓" in text
    assert "one parameter explains alone" in text
    assert "best by val_acc: trial-29" in text
    assert "rank correlation: Spearman" in markup
    assert "Curves and matrices: 7 of 30 runs" in markup


@pytest.mark.usefixtures("_wide")
def test_production_is_told_with_what_is_better_and_worse(workspace: Workspace) -> None:
    some_runs(2)
    newest = nb.find("runs")
    base: dict[str, Any] = {"created_at": time.time(), "signature": Signature(inputs=[], outputs=[]), "digest": ""}
    for number, run in ((1, newest[1]), (2, newest[0])):
        workspace.store.put(ModelVersion(id=new_id("mv"), name="net", number=number, parent=run.id, **base))
    workspace.store.put(Alias(id=new_id("al"), created_at=1.0, name="net@prod", model="net", alias="prod", number=1))
    text, markup, _ = shown(nb.compare("trial-1"))
    assert "In production: net@prod = net/1 (run trial-0)." in text
    assert "+0.001 better" in markup
    assert "+0.001 to production" in text
    assert "which is trial-0" in shown(nb.compare("trial-0", "trial-1"))[0]


@pytest.mark.usefixtures("_wide")
@pytest.mark.parametrize("word", [EVIL, "x" * 3000, "手書き" * 80])
def test_any_name_is_safe_and_within_the_budget(word: str, workspace: Workspace) -> None:
    for i in range(9):
        with nb.run(word[:250], params={word: i, "opt": f"{word}{i % 2}"}, tags={word: word}) as run:
            run.log(0, **{word[:200]: float(i)})
            run.log(1, **{word[:200]: float(i)})
            nb.log_confusion([0, 1], [1, 1], labels=[word, "b"])
    for value in (nb.compare(nb.find("runs")), nb.compare(nb.find("runs", limit=2))):
        _, markup, _ = shown(value)
        assert "<script" not in markup
        assert len(markup.encode()) <= MAX_BYTES


@pytest.mark.usefixtures("_wide")
def test_nothing_logged_is_shown_without_fuss(workspace: Workspace) -> None:
    with nb.run("a"), nb.run("b"):
        pass
    text, _, _ = shown(nb.compare("a", "b"))
    assert "None of these runs has logged a metric." in text


def test_an_overlay_keeps_a_spike_of_a_million_points_and_stays_small() -> None:
    curves = []
    for i in range(7):
        values = RNG.normal(size=1_000_000)
        values[123_456 + i] = 1e6
        curves.append(Curve(f"run_{i}", f"r{i}", np.arange(1_000_000), values))
    text, _, found = shown(Overlay("loss", tuple(curves)))
    assert "1,000,000 points" in text
    assert all(max(trace["y"]) == 1e6 for trace in found[PLOTLY]["data"])
    assert "image/svg+xml" in found


def axes(count: int, *, good: bool | None = True) -> Parallel:
    lr = tuple(float(v) for v in 10.0 ** RNG.uniform(-5, -1, count))
    opt = tuple(float(i % 3) for i in range(count))
    acc = tuple(float(v) for v in RNG.random(count))
    found = (Axis("lr", lr, is_log=True), Axis("opt", opt, ("a", "b", "c")), Axis("acc", acc, is_metric=True))
    return Parallel(tuple(f"r{i}" for i in range(count)), found, good)


def test_parallel_coordinates_of_a_thousand_runs_stay_below_30_kb() -> None:
    value = axes(1000)
    text, markup, found = shown(value)
    assert len(parallel.svg(value).encode()) <= 30_000
    assert "image/svg+xml" in found
    assert "160 shown" in markup
    best = max(range(1000), key=lambda i: value.axes[-1].values[i] or 0)
    assert f"best by acc: r{best}" in text
    order = parallel.ordered(value)
    assert (order[0], len(order)) == (best, 160)
    log = found[PLOTLY]["data"][0]["dimensions"][0]
    assert max(log["values"]) < 0
    assert log["ticktext"][-1] == "0.1"


def test_where_less_is_better_the_least_leads_and_where_nothing_is_known_it_is_only_highest() -> None:
    value = axes(20, good=False)
    least = min(range(20), key=lambda i: value.axes[-1].values[i] or 0)
    assert parallel.ordered(value)[0] == least
    assert "highest by acc" in shown(axes(20, good=None))[0]


def test_a_gap_breaks_a_line_and_runs_without_the_metric_are_left_out() -> None:
    gap = Parallel(
        ("a", "b", "c"), (Axis("x", (1.0, None, 2.0)), Axis("y", (1.0, 2.0, 3.0)), Axis("acc", (0.1, 0.2, None))), True
    )
    assert parallel.ordered(gap) == [1, 0]
    assert len(parallel.plotly(gap)["data"][0]["dimensions"][0]["values"]) == 1
    nothing = Parallel(("a",), (Axis("x", (1.0,)), Axis("acc", (None,))), True)
    assert parallel.svg(nothing) == ""
    assert "None of these runs has the metric" in shown(nothing)[0]


def test_a_confusion_matrix_is_a_heat_map_with_its_worst_mistakes_in_words() -> None:
    text, markup, found = shown(count([0, 0, 1, 2], [0, 2, 1, 2], labels=["cat", "dog", "owl"]))
    assert "accuracy 0.75 of 4" in text
    assert "most mixed up: cat taken for owl 1×" in text
    assert "predicted" in markup
    assert found[PLOTLY]["data"][0]["z"][0] == [0.5, 0.0, 0.5]
    assert "It holds no prediction" in shown(Confusion(("a",), ((0,),)))[0]


@pytest.mark.usefixtures("_wide")
def test_of_many_labels_those_most_mixed_up_are_drawn() -> None:
    true = np.repeat(np.arange(100), 20)
    predicted = true.copy()
    predicted[:20] = 99  # label 0 is always taken for 99
    text, _, found = shown(count(true, predicted))
    assert "30 of 100 labels (most mixed up)" in text
    assert "0 taken for 99 20×" in text
    assert {"0", "99"} <= set(found[PLOTLY]["data"][0]["y"])
    assert "image/svg+xml" in found


def test_a_correlation_shows_its_sign_as_a_number_and_leaves_unknown_pairs_blank() -> None:
    text, _, found = shown(Correlation(("lr", "acc", "x"), ((1, -0.5, math.nan), (-0.5, 1, 0), (math.nan, 0, 1)), 9))
    assert "-0.50" in text
    assert found[PLOTLY]["data"][0]["z"][0] == [1, -0.5, None]
    assert found["image/svg+xml"].count("<text") == 6 + 7


def test_cividis_runs_from_dark_blue_to_yellow() -> None:
    assert (heatmaps.cividis(0), heatmaps.cividis(1), heatmaps.cividis(-1)) == ("#00224e", "#fee838", "#00224e")


def test_plotlys_json_is_what_plotly_accepts(workspace: Workspace) -> None:
    go = pytest.importorskip("plotly.graph_objects")
    matrix = count([0, 1], [1, 1])
    for value in (axes(9), matrix, Correlation(("a", "b"), ((1, 0), (0, 1)), 9)):
        made = mimebundle(value)[PLOTLY]
        assert go.Figure({"data": made["data"], "layout": made["layout"]}).data


def test_small_pieces_say_what_they_are() -> None:
    assert repr(axes(2)) == "Parallel(2 runs over lr, opt, acc)"
    assert repr(Overlay("loss", ())) == "Overlay(loss, 0 curves)"
    assert repr(count([0], [0])) == "Confusion(1 labels, 1 predictions, accuracy 1)"
    assert repr(Correlation(("a",), ((1.0,),), 9)) == "Correlation(Spearman, 9 runs, a)"
