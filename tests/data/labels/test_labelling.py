"""`nb.label` and `nb.labels` without a browser: a hundred items scripted, orders, undo, two annotators, versions."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score

import nbops as nb
from nbops.core.display import mimebundle
from nbops.core.errors import Conflict, InvalidInput, NotFound
from nbops.core.labelling import GIVEN, SKIPPED, UNDONE, Label
from nbops.data.labels.items import content_id, read_items
from nbops.data.labels.keeping import read_labels
from nbops.data.labels.queue import by_chance, interleaved
from nbops.data.labels.session import LiveLabelling
from nbops.data.labels.uncertainty import spread, uncertainty
from nbops.store.workspace import Workspace

TEXTS = [f"review number {i}" for i in range(100)]
SIDES = ["neg", "pos"]


@pytest.fixture(autouse=True)
def _fresh(workspace: Workspace) -> Workspace:
    return workspace


def opened(items: Any = TEXTS, **options: Any) -> LiveLabelling:
    return nb.label(items, **{"classes": SIDES, "name": "reviews", "annotator": "ada", **options})


def drained(session: LiveLabelling, answer: Any = "pos", *, most: int = 1000) -> list[Any]:
    """Answer all items, by a class or by a function of the item; return the items in the order in which they came."""
    seen = []
    while session.item_id is not None and len(seen) < most:
        seen.append(session.item)
        session.answer(answer(session.item) if callable(answer) else answer)
    return seen


def probabilities(rows: int, classes: int = 2, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(classes), rows)


# ---- a hundred items -------------------------------------------------------------------------------------------------


def test_a_hundred_items_of_two_annotators_have_the_kappa_of_scikit_learn() -> None:
    random = np.random.default_rng(3)
    truth = random.integers(0, 3, 100)
    names = ["a", "b", "c"]
    said: dict[str, list[str]] = {}
    for who, share in (("ada", 0.1), ("bob", 0.3)):
        wrong = random.random(100) < share
        codes = np.where(wrong, (truth + 1) % 3, truth)
        said[who] = [names[code] for code in codes]
        by_text = dict(zip(TEXTS, said[who], strict=True))
        assert drained(opened(classes=names, annotator=who), by_text.__getitem__) == TEXTS
    labels = nb.labels("reviews")
    assert labels.votes() == said
    found = labels.agreement()
    assert found.pairs[("ada", "bob")] == pytest.approx(cohen_kappa_score(said["ada"], said["bob"]), abs=1e-12)
    assert found.alpha == nb.agreement(said).alpha
    assert found.agreed == np.mean([a == b for a, b in zip(*said.values(), strict=True)])
    for name, one in labels.agreement_by_class().items():
        a, b = ([label == name for label in said[who]] for who in said)
        assert one.pairs[("ada", "bob")] == pytest.approx(cohen_kappa_score(a, b), abs=1e-12)
    agreed = {content_id(text): a for text, a, b in zip(TEXTS, *said.values(), strict=True) if a == b}
    assert labels.consensus() == agreed
    both = nb.combine_labels(said, classes=names)
    weighed = labels.consensus(method="dawid-skene")
    assert weighed == dict(zip(map(content_id, TEXTS), both.labels, strict=True))


@pytest.mark.parametrize("strategy", ["entropy", "margin", "least-confidence"])
def test_a_hundred_items_come_least_sure_first(strategy: Any) -> None:
    table = probabilities(100, 4)
    p = np.sort(table, axis=1)
    figures = {
        "entropy": [-sum(x * math.log(x) for x in row if x > 0) for row in table],
        "margin": 1 - (p[:, -1] - p[:, -2]),
        "least-confidence": 1 - p[:, -1],
    }
    expected = sorted(range(100), key=lambda row: -figures[strategy][row])
    came = drained(opened(classes=list("abcd"), order=table, strategy=strategy), "a")
    assert came == [TEXTS[row] for row in expected]


def test_the_order_survives_a_reordering_of_the_rows() -> None:
    table = probabilities(100)
    first = drained(opened(order=table), most=40)
    rows = np.random.default_rng(1).permutation(100)
    rest = drained(opened([TEXTS[row] for row in rows], order=table[rows]))
    assert first + rest == drained(opened(order=table, annotator="bob"))


def test_others_orders_of_figures_tensors_and_votes() -> None:
    items = TEXTS[:4]
    assert drained(opened(items, order=np.array([0.1, 0.9, 0.5, np.nan]))) == [items[i] for i in (3, 1, 2, 0)]
    logits = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [1.0, 0.0]])
    assert drained(opened(items, order=logits, name="b")) == [items[i] for i in (1, 2, 0, 3)]
    votes = nb.combine_labels({"a": ["pos", None, "neg", None], "b": ["pos", None, "pos", "neg"]}, classes=SIDES,
                              method="majority")  # fmt: skip
    assert drained(opened(items, order=votes, name="c")) == [items[i] for i in (1, 2, 0, 3)]
    assert drained(opened(items, order=[2, 0], name="d")) == [items[2], items[0]]
    assert drained(opened(items, order=np.array([3, 1]), name="e")) == [items[3], items[1]]


def test_chance_is_the_same_for_the_same_name_and_another_for_another() -> None:
    came = drained(opened(order="random"))
    assert sorted(came) == sorted(TEXTS)
    assert came != TEXTS
    assert drained(opened(list(reversed(TEXTS)), order="random", annotator="bob")) == came
    assert drained(opened(order="random", name="other")) != came


def test_a_share_comes_by_chance_evenly_and_is_marked() -> None:
    table = probabilities(100)
    came = drained(opened(order=table, sample=0.2))
    frame = nb.labels("reviews").frame()
    assert frame["is_sample"].tolist() == [i % 5 == 4 for i in range(100)]
    by_doubt = [TEXTS[row] for row in np.argsort(-uncertainty(table, rows=100, classes=2), kind="stable")]
    chance = [text for text, is_sample in zip(came, frame["is_sample"], strict=True) if is_sample]
    assert [text for text in came if text not in chance] == [text for text in by_doubt if text not in chance]
    ids = {content_id(text): text for text in TEXTS}
    assert chance == [ids[id] for id in by_chance(list(ids), "reviews sample")[:20]]
    assert interleaved("ab", "xyz", share=0.5) == list("axbyz")


def test_a_model_is_asked_anew_and_a_second_kernel_gets_the_same_order() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(100, 2))
    truth = dict(zip(TEXTS, np.where(x[:, 0] > 0, "pos", "neg").tolist(), strict=True))
    order = (LogisticRegression(), x)
    straight = drained(opened(order=order, every=10), truth.__getitem__)
    parts = []
    for count in (3, 10, 12, 100):  # a new session each time, as after a kill
        parts += drained(opened(order=order, every=10, annotator="bob"), truth.__getitem__, most=count)
    assert parts == straight
    assert straight[:10] == TEXTS[:10]
    fitted = LogisticRegression().fit(x[:10], [truth[text] == "pos" for text in TEXTS[:10]])
    doubt = uncertainty(fitted.predict_proba(x), rows=100, classes=2)
    rest = sorted(range(10, 100), key=lambda row: -doubt[row])
    assert straight[10:20] == [TEXTS[row] for row in rest[:10]]
    assert not hasattr(order[0], "coef_"), "the model given is left as it was"


def test_a_function_is_asked_with_the_answers_and_its_failure_stops_nobody() -> None:
    calls: list[list[Any]] = []

    def score(items: list[str], labels: list[Any]) -> Any:
        calls.append([label for label in labels if label])
        if len(calls) == 3:
            raise RuntimeError("out of luck")
        return None if len(calls) == 1 else np.arange(len(items), dtype=float)

    session = opened(TEXTS[:9], order=score, every=2)
    came = drained(session, most=4)
    assert came == [TEXTS[i] for i in (0, 1, 8, 7)]
    assert calls == [[], ["pos"] * 2, ["pos"] * 4]
    assert session.trouble == "The order could not be brought up to date: RuntimeError: out of luck"
    assert session.progress.done == 4
    assert drained(session) == [TEXTS[i] for i in (6, 5, 4, 3, 2)]
    assert session.trouble == ""


def test_diverse_items_come_from_all_groups() -> None:
    x = np.concatenate([np.zeros((50, 2)), np.full((50, 2), 9.0), [[0.0, 9.0]] * 4]) + np.arange(104)[:, None] * 1e-4
    table = np.tile([0.5, 0.5], (104, 1))
    table[50:] = [0.6, 0.4]
    items = [f"item {i}" for i in range(104)]
    came = drained(opened(items, order=table, diversity=x, every=3), most=3)
    assert {min(2, int(item.split()[1]) // 50) for item in came} == {0, 1, 2}
    plain = drained(opened(items, order=table, annotator="bob"), most=3)
    assert {int(item.split()[1]) // 50 for item in plain} == {0}
    assert spread(np.array([1.0]), x[:1], [0], count=5) == [0]


# ---- what an annotator does ------------------------------------------------------------------------------------------


def test_undo_reaches_back_before_a_restart_and_the_events_keep_what_was_said() -> None:
    session = opened()
    for side in ("pos", "neg", "pos"):
        session.answer(side)
    again = opened()
    taken = again.undo()
    assert taken is not None
    assert (taken.value, again.item) == (["pos"], TEXTS[2])
    assert again.undo() is not None
    assert again.item == TEXTS[1]
    assert opened().item == TEXTS[1], "a kernel that starts now shows the same"
    again.answer("pos")
    assert again.item == TEXTS[2]
    again.answer("neg")
    assert again.item == TEXTS[3]
    told = [(event.kind, event.payload.get("value")) for event in again.labels.history()]
    assert told == [
        ("label.given", ["pos"]), ("label.given", ["neg"]), ("label.given", ["pos"]), ("label.undone", ["pos"]),
        ("label.undone", ["neg"]), ("label.given", ["pos"]), ("label.given", ["neg"]),
    ]  # fmt: skip
    assert list(again.labels.consensus().values()) == ["pos", "pos", "neg"]


def test_undo_of_nothing_is_nothing() -> None:
    assert opened().undo() is None


def test_what_is_skipped_comes_back_at_the_end_and_a_skip_can_be_undone() -> None:
    session = opened(TEXTS[:4])
    session.skip()
    session.answer("pos")
    session.skip()
    assert (session.item, session.progress.skipped) == (TEXTS[3], 2)
    session.undo()
    assert (session.item, session.progress.skipped) == (TEXTS[2], 1)
    session.skip()
    assert drained(session) == [TEXTS[3], TEXTS[0], TEXTS[2]]
    assert (session.item_id, session.progress.left) == (None, 0)
    with pytest.raises(Conflict, match="not there any more"):
        session.answer("pos")
    with pytest.raises(Conflict, match="not there any more"):
        session.skip()


def test_an_answer_that_comes_late_labels_nothing_else() -> None:
    session = opened()
    shown = session.item_id
    session.answer("pos", item=shown)
    with pytest.raises(Conflict):
        session.answer("neg", item=shown)
    assert (session.item, session.progress.done) == (TEXTS[1], 1)


def test_notes_times_and_annotators_are_kept() -> None:
    session = opened()
    session.answer("pos", note=" a typo ", duration_s=1.5)
    session.answer("neg")
    frame = nb.labels("reviews").frame()
    assert frame["note"].tolist() == ["a typo", ""]
    assert frame["duration_s"].iloc[0] == 1.5
    assert 0 <= frame["duration_s"].iloc[1] < 60
    assert frame["annotator"].unique().tolist() == ["ada"]
    assert frame["label"].tolist() == ["pos", "neg"]
    assert str(frame["at"].dtype).endswith("UTC]")
    assert abs((pd.Timestamp.now("UTC") - frame["at"].iloc[-1]).total_seconds()) < 60


def test_several_classes_an_item() -> None:
    for who, said in (("ada", (["red", "blue"], [], ["red"])), ("bob", (["blue", "red"], ["red"], ["red"]))):
        session = opened(TEXTS[:3], classes=["red", "blue"], multi=True, annotator=who)
        for classes in said:
            session.answer(*classes)
    labels = nb.labels("reviews")
    assert labels.frame()["label"].tolist() == ["red|blue", "", "red", "red|blue", "red", "red"]
    assert labels.agreement().agreed == 2 / 3
    by_class = {name: one.agreed for name, one in labels.agreement_by_class().items()}
    assert by_class == {"red": 2 / 3, "blue": 1.0}
    assert labels.to(TEXTS[:3]) == [["red", "blue"], None, ["red"]], "no majority on the second"


def test_equal_items_are_labelled_once() -> None:
    items = ["same", "other", "same", "same"]
    assert drained(opened(items)) == ["same", "other"]
    assert nb.labels("reviews").to(items) == ["pos"] * 4


def test_numbers_and_booleans_stay_what_they_are() -> None:
    session = opened(TEXTS[:2], classes=np.array([0, 1]))
    session.answer(1)
    session.answer(np.int64(0))
    assert [type(value) for value in nb.labels("reviews").consensus().values()] == [int, int]
    drained(opened(TEXTS[:2], classes=[True, False], name="flags"), answer=False)
    assert list(nb.labels("flags").consensus().values()) == [False, False]


# ---- two annotators --------------------------------------------------------------------------------------------------


def test_two_sessions_side_by_side_lose_nothing() -> None:
    ada, bob = opened(), opened(annotator="bob")
    for _ in range(100):
        ada.answer("pos")
        bob.answer("neg")
    assert {who: len(said) for who, said in nb.labels("reviews").votes().items()} == {"ada": 100, "bob": 100}
    assert len(nb.labels("reviews")) == 200


def test_with_an_overlap_the_rest_is_labelled_once() -> None:
    ada, bob = opened(overlap=0.2), opened(overlap=0.2, annotator="bob")
    while ada.item_id or bob.item_id:
        for session in (ada, bob):
            if session.item_id:
                assert ada.item_id != bob.item_id or ada.item_id in ada._shared
                session.answer("pos")
    labels = nb.labels("reviews")
    votes = labels.votes()
    both = [a is not None and b is not None for a, b in zip(votes["ada"], votes["bob"], strict=True)]
    assert len(labels.items) == 100
    assert sum(both) == len(ada._shared)
    assert 8 <= sum(both) <= 35
    assert abs(ada.progress.done - bob.progress.done) <= 1
    more = nb.label([*TEXTS, "new"], classes=SIDES, name="reviews", annotator="ada", overlap=0.2)
    assert more._shared >= ada._shared


def test_an_item_on_anothers_screen_is_left_alone_until_it_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    ada = opened(TEXTS[:1], overlap=0.0)
    bob = opened(TEXTS[:1], overlap=0.0, annotator="bob")
    assert (ada.item, bob.item, bob.progress.elsewhere) == (TEXTS[0], None, 1)
    monkeypatch.setattr("nbops.data.labels.keeping.CLAIM_S", -1.0)
    late = opened(TEXTS[:1], overlap=0.0, annotator="bob")
    assert late.item == TEXTS[0]
    late.answer("pos")
    again = opened(TEXTS[:1], overlap=0.0)
    assert (again.item, again.progress.total) == (None, 0)


def test_what_is_taken_back_or_comes_back_is_left_alone_by_others_too() -> None:
    ada, bob = opened(TEXTS[:2], overlap=0.0), opened(TEXTS[:2], overlap=0.0, annotator="bob")
    assert (ada.item, bob.item) == (TEXTS[0], TEXTS[1])
    ada.answer("pos")
    ada.undo()
    bob.answer("pos")
    assert (ada.item, bob.item) == (TEXTS[0], None)
    ada.skip()  # nothing else is left: it comes back at once
    assert ada.item == TEXTS[0]
    assert opened(TEXTS[:2], overlap=0.0, annotator="bob").item is None
    ada.answer("neg")
    assert len(nb.labels("reviews")) == 2


def test_the_same_annotator_in_two_kernels_does_no_item_twice() -> None:
    one, other = opened(TEXTS[:3]), opened(TEXTS[:3])
    one.answer("pos")
    other.answer("neg")  # it was on both screens: the last word counts, and the events have both
    assert other.item == TEXTS[1]
    other.answer("neg")
    one.answer("pos")
    assert [one.item, other.item] == [TEXTS[2]] * 2
    assert len(nb.labels("reviews")) == 2


# ---- suggestions, weak labels, repairs -------------------------------------------------------------------------------


def test_rules_of_your_own_suggest_with_a_confidence() -> None:
    items = ["good good", "bad", "good bad", "odd"]

    def has_good(text: str) -> str | None:
        return "pos" if "good" in text else None

    def has_bad(text: str) -> str | None:
        return "neg" if "bad" in text else None

    session = opened(items, suggest=[has_good, has_bad])
    assert session.suggestion is not None
    assert session.suggestion.value == ("pos",)
    votes = {"has_good": ["pos", None, "pos", None], "has_bad": [None, "neg", "neg", None]}
    expected = nb.combine_labels(votes, classes=SIDES)
    assert session.suggestion.confidence == expected.probabilities[0].max()
    assert session.answer("pos").suggested == ["pos"]
    assert session.answer("pos").suggested == ["neg"]
    session.skip()
    assert session.suggestion is None
    one = opened(items, suggest={"only": has_bad}, name="one", hide_suggestions=True)
    one.skip()
    label = one.answer("neg")
    assert (label.suggested, label.confidence, label.was_hidden) == (["neg"], None, True)
    by_model = opened(items, suggest=probabilities(4), name="model")
    assert by_model.suggestion is not None
    assert by_model.suggestion.confidence == probabilities(4)[0].max()


def test_label_issues_are_a_queue_and_mend_the_labels() -> None:
    random = np.random.default_rng(1)
    truth = random.integers(0, 2, 100)
    given = truth.copy()
    given[np.flatnonzero(truth == 0)[[3, 20, 35]]] = 1
    p = np.where(truth == 1, 0.95, 0.05)
    issues = nb.label_issues(given, np.stack([1 - p, p], axis=1))
    session = nb.label(TEXTS, name="fix", order=issues, annotator="ada")
    assert session.classes == (0, 1)
    assert session.progress.total == len(issues) == 3
    assert session.suggestion is not None
    while session.item_id:
        suggestion = session.suggestion
        row = TEXTS.index(session.item)
        assert (suggestion.value, suggestion.given) == ((int(truth[row]),), int(given[row]))
        session.answer(*suggestion.value)
    assert nb.labels("fix").to(TEXTS, otherwise=given) == truth.tolist()


# ---- versions and files ----------------------------------------------------------------------------------------------


def test_snapshots_are_versions_with_lineage(workspace: Workspace) -> None:
    data = nb.snapshot({"text": TEXTS[:6], "n": list(range(6))}, "mails")
    session = opened("mails", column="text")
    drained(session, most=3)
    with nb.run("train") as run:
        first = nb.labels("reviews").snapshot()
    assert (first.name, first.version, first.rows) == ("reviews-labels", 1, 3)
    assert (first.source.label_set, first.source.origin) == ("reviews", "mails/1")
    assert nb.labels("reviews").snapshot().id == first.id, "the same labels are the same version"
    drained(session)
    second = session.labels.snapshot()
    assert (second.version, second.rows) == (2, 6)
    links = {(link.source, link.relation, link.target) for link in workspace.store.links()}
    assert {(data.id, "labelled_in", session.record.id), (session.record.id, "produced", first.id),
            (first.id, "used_by", run.id), (session.record.id, "produced", second.id)} <= links  # fmt: skip
    reached = {node.id for node in nb.lineage(second).nodes}
    assert {data.id, session.record.id} <= reached
    assert "labelset" in mimebundle(nb.lineage(second))["text/plain"]
    assert "reviews" in mimebundle(session.record)["text/plain"]


def test_a_file_has_all_answers(tmp_path: Path) -> None:
    session = opened(['a "quoted", text', "b"])
    session.answer("pos", note="a, b\nc")
    session.answer("neg")
    labels = session.labels
    with labels.save(tmp_path / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["label"], row["note"], row["annotator"]) for row in rows] == [
        ("pos", "a, b\nc", "ada"),
        ("neg", "", "ada"),
    ]
    frame = pd.read_parquet(labels.save(tmp_path / "labels.parquet"))
    assert frame["label"].tolist() == ["pos", "neg"]
    assert frame["item"].tolist() == [content_id('a "quoted", text'), content_id("b")]
    with pytest.raises(InvalidInput, match=r"labels\.xlsx"):
        labels.save(tmp_path / "labels.xlsx")


# ---- items -----------------------------------------------------------------------------------------------------------


def test_items_of_all_sorts_have_ids_of_their_content(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 3), (255, 0, 0))
    picture.save(tmp_path / "a.png")
    Image.new("RGB", (4, 3), (0, 255, 0)).save(tmp_path / "b.png")
    sorts: list[Any] = [
        ["a", "b"], [1, 2.5], [{"x": 1}, {"x": 2}], np.arange(24).reshape(2, 4, 3),
        torch.zeros(2, 4, 3) + torch.eye(4, 3),
        [picture, Image.new("L", (2, 2))], [tmp_path / "a.png", str(tmp_path / "b.png")], pd.Series(["a", "b"]),
        pl.DataFrame({"t": ["a", "b"]}), pd.DataFrame({"t": ["a", "b"], "u": [1, 2]}), {"t": ["a", "b"], "u": [1, 2]},
        (text for text in ("a", "b")), np.array(["a", "b"]), [b"1", b"2"],
    ]  # fmt: skip
    found = [read_items(items) for items in sorts]
    assert [len(items.ids) for items in found] == [2] * len(sorts)
    lengths = [len(items) for items in found]
    assert lengths == [1 if items is sorts[4] else 2 for items in sorts], "two equal tensors are one item"
    assert found[0].ids == found[7].ids == found[8].ids == found[12].ids
    assert found[9].ids == found[10].ids, "a row is its content, whatever the library"
    assert isinstance(next(iter(found[6].values.values())), Path)
    assert read_items(pl.DataFrame({"t": ["a", "b"], "k": [7, 8]}), column="t", ids="k").ids == ["7", "8"]
    assert read_items([object(), object()], ids=["x", "y"]).ids == ["x", "y"]


@pytest.mark.parametrize(
    ("items", "options", "message"),
    [
        ([], {}, "no items"),
        (["a", None], {}, "row 1 is None"),
        ([object()], {}, "no content"),
        (3, {}, "a int holds no items"),
        (np.zeros((2, 2)), {}, r"shape \[2, 2\]"),
        ([Path("gone.png")], {}, r"gone\.png.*No such file"),
        (["a"], {"column": "t"}, "column='t' is for data frames"),
        (["a", "b"], {"ids": ["x"]}, "1 ids for 2 items"),
        (["a"], {"ids": "k"}, "names a column"),
        (["a"], {"ids": [None]}, "id of row 0 is None"),
        (["a"], {"classes": []}, "no classes"),
        (["a"], {"classes": None}, "classes is None"),
        (["a"], {"classes": "pos"}, "classes is 'pos'"),
        (["a"], {"classes": ["pos"]}, "one class only"),
        (["a"], {"classes": ["pos", "neg", "pos"]}, "'pos' is there twice"),
        (["a"], {"classes": [1, "1"]}, "'1' is there twice"),
        (["a"], {"classes": ["", "x"]}, "empty text"),
        (["a"], {"classes": [None, "x"]}, "None is neither"),
        (["a"], {"classes": {"p": "pos", "P": "neg"}}, "'p' is there twice"),
        (["a"], {"classes": {"?": "pos", "x": "neg"}}, r"'\?' cannot choose"),
        (["a"], {"classes": {"ab": "pos", "x": "neg"}}, "not one character"),
        (["a"], {"name": "a/b"}, "cannot be named 'a/b'"),
        (["a"], {"annotator": " "}, "annotator is ' '"),
        (["a"], {"overlap": 1.5}, "overlap is 1.5"),
        (["a"], {"sample": -0.1}, "sample is -0.1"),
        (["a"], {"every": 0}, "every is 0"),
        (["a"], {"strategy": "guess"}, "strategy is 'guess'"),
        (["a"], {"order": "best"}, "order is 'best'"),
        (["a"], {"order": np.ones((2, 2)) / 2}, r"shape \[2, 2\] for 1 items and 2 classes"),
        (["a"], {"order": np.ones((1, 3)) / 3}, r"shape \[1, 3\]"),
        (["a"], {"order": np.array([[2.0, -1.0]])}, r"\[2.0, -1.0\]: no probabilities"),
        (["a"], {"order": np.array([[0.2, 0.2]])}, "no probabilities"),
        (["a"], {"order": {"a": 1}}, "no array of numbers"),
        (["a"], {"order": [1]}, "names row 1"),
        (["a"], {"order": np.array([], int)}, "names no row"),
        (["a"], {"order": LogisticRegression()}, "without what it learns from"),
        (["a"], {"order": (LogisticRegression(), np.ones((2, 1)))}, r"shape \[2, 1\]"),
        (["a"], {"order": (LogisticRegression(), [["x"]])}, "no array of numbers"),
        (["a"], {"order": (LogisticRegression(), [[1.0]]), "multi": True}, "one class an item"),
        (["a"], {"order": nb.label_issues([0, 1, 1, 0], [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.8, 0.2]])}, "4 labels"),
        (["a"], {"diversity": np.ones((1, 1))}, "needs an order"),
        (["a"], {"suggest": ["maybe"]}, "'maybe' is suggested"),
        (["a"], {"suggest": ["pos", "neg"]}, "2 labels, and there are 1 items"),
        (["a"], {"suggest": "pos"}, "suggest= is a str"),
        (["a"], {"suggest": np.ones((1, 3))}, r"suggest= has the shape \[1, 3\]"),
        (["a"], {"suggest": lambda text: 1 / 0}, "'rule 0' failed on item 0: ZeroDivisionError"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(items: Any, options: dict[str, Any], message: str, workspace: Workspace) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        opened(items, **options)
    assert caught.value.hint
    assert workspace.store.count(Label) == 0


def test_a_model_without_probabilities_is_refused() -> None:
    from sklearn.svm import LinearSVC

    with pytest.raises(InvalidInput, match="LinearSVC gives no probabilities"):
        opened(["a"], order=(LinearSVC(), [[1.0]]))


def test_answers_that_cannot_be_given_are_named() -> None:
    session = opened()
    with pytest.raises(InvalidInput, match="'maybe' is none of the classes"):
        session.answer("maybe")
    with pytest.raises(InvalidInput, match="the answer is 2 classes"):
        session.answer("pos", "neg")
    with pytest.raises(InvalidInput, match="the answer is 0 classes"):
        session.answer()
    assert (session.item, session.progress.done) == (TEXTS[0], 0)


def test_a_set_may_get_classes_and_lose_none_that_was_given() -> None:
    opened().answer("pos")
    assert opened(classes=["neg", "pos", "mixed"]).progress.done == 1
    with pytest.raises(Conflict, match="has answers 'pos'"):
        opened(classes=["neg", "mixed"])
    with pytest.raises(Conflict, match="1 answers with multi=False"):
        opened(multi=True)
    assert opened(classes=["pos", "mixed"]).classes == ("pos", "mixed"), "nobody said neg"


def test_what_cannot_be_read_is_named() -> None:
    with pytest.raises(NotFound, match="no label set 'revews'"):
        nb.labels("revews")
    session = opened(TEXTS[:2])
    with pytest.raises(InvalidInput, match="no labels yet"):
        session.labels.snapshot()
    session.answer("pos")
    with pytest.raises(InvalidInput, match="1 source of labels"):
        nb.labels("reviews").agreement()
    with pytest.raises(InvalidInput, match="method is 'vote'"):
        nb.labels("reviews").consensus(method="vote")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="3 labels for 2 items"):
        nb.labels("reviews").to(TEXTS[:2], otherwise=["a", "b", "c"])
    with pytest.raises(NotFound, match="revews"):
        nb.labels("revews")


def test_states_are_told_apart_in_the_store(workspace: Workspace) -> None:
    session = opened(TEXTS[:3])
    session.answer("pos")
    session.skip()
    session.answer("neg")
    session.undo()
    states = [label.status for label in read_labels(workspace, session.record)]
    assert sorted(states) == sorted([GIVEN, SKIPPED, UNDONE])
    assert [record.status for record in nb.find("labels", "status == 'given'")] == [GIVEN]
    assert nb.find("labelsets")[0].name == "reviews"
