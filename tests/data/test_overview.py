"""Tables side by side: what differs comes first, and what was kept is shown without data and without computing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from markup import EVIL, Checker

import nbops as nb
from nbops.core.display import mimebundle
from nbops.core.errors import InvalidInput, NotFound
from nbops.core.records import Artifact
from nbops.data.overviews.overview import MEDIA_TYPE, Overview, OverviewPage
from nbops.store.workspace import Workspace
from nbops.view.format import columns
from nbops.view.overviews import MAX_BYTES, PAGE_BYTES


def table(rows: int = 2_000, *, mean: float = 3.0, gone: float = 0.02, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "price": rng.lognormal(mean, 1, rows), "items": rng.poisson(2, rows),
        "colour": rng.choice(["red", "green", "blue"], rows), "ok": rng.random(rows) < 0.5,
        "weight": np.where(rng.random(rows) < gone, np.nan, rng.normal(size=rows)),
        "day": np.datetime64("2026-01-01") + rng.integers(0, 90, rows).astype("timedelta64[D]"),
        "note": [f"note {seed} {i}" for i in range(rows)],
    }  # fmt: skip


def shown(value: Any, limit: int) -> tuple[str, str]:
    found = mimebundle(value)
    text, markup = found["text/plain"], found["text/html"]
    checker = Checker()
    checker.feed(markup.replace("<!doctype html>", ""))
    assert checker.open == []
    assert not checker.tags & {"script", "iframe", "link", "object", "form"}
    assert not [name for name in checker.attributes if name.startswith("on")]
    assert not checker.attributes & {"href", "src"}
    assert len(markup.encode()) <= limit
    assert max(columns(line) for line in text.splitlines()) <= 120
    return text, markup


def test_what_differs_most_comes_first_and_the_same_data_agrees(workspace: Workspace) -> None:
    serving = table(seed=2, mean=3.4, gone=0.2)
    found = nb.overview({"train": table(), "val": table(seed=1), "serving": serving})
    names = list(found.features)
    assert set(names[:2]) == {"price", "weight"}
    assert [name for name, one in found.features.items() if one.differs] == names[:2]
    price = found.features["price"]
    assert found.tables[price.furthest].name == "serving"
    assert found.features["weight"].why.startswith(("20", "19", "18", "21"))
    assert price.distance == pytest.approx(nb.drift(table(), serving).columns["price"].effect, abs=1e-5)
    for feature in found.features.values():
        assert len(feature.figures) == len(feature.shares) == 3
        for shares in feature.shares:
            assert len(shares) == len(feature.labels) or not shares
            assert not shares or sum(shares) == pytest.approx(1, abs=1e-3)
    same = nb.overview({"a": table(), "b": table()})
    assert {one.distance for one in same.features.values()} == {0.0}
    assert not any(one.differs for one in same.features.values())


def test_figures_are_those_of_the_profile(workspace: Workspace) -> None:
    data = table()
    (price,) = nb.overview(data).features["price"].figures
    (weight,) = nb.overview(data).features["weight"].figures
    (items,) = nb.overview(data).features["items"].figures
    assert price is not None
    assert weight is not None
    assert items is not None
    assert (price.min, price.max) == (data["price"].min(), data["price"].max())
    assert weight.missing == pytest.approx(np.isnan(data["weight"]).mean())
    assert items.zeros == pytest.approx((data["items"] == 0).mean())
    assert items.distinct == len(set(data["items"].tolist()))


def test_columns_that_are_not_everywhere(workspace: Workspace) -> None:
    found = nb.overview({"a": {"x": [1.0, 2.0], "y": [1, 2]}, "b": {"x": ["p", "q"], "z": [1, 2]}})
    assert {one.distance for one in found.features.values()} == {1.0}
    assert found.features["y"].why == "no such column"
    assert found.features["y"].figures[1] is None
    assert found.features["z"].figures[0] is None
    assert found.features["x"].why == "was float64, is now text"
    text, _ = shown(found, MAX_BYTES)
    assert "no such column" in text
    _, markup = shown(OverviewPage(found), PAGE_BYTES)
    assert markup.count("✕ no such column") == 2


def test_it_is_kept_with_the_version_and_shown_again_without_data(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = pd.DataFrame(table())
    kept = nb.snapshot(train, "train")
    found = nb.overview({"train": train, "val": table(seed=1)}, name="before release")
    assert found.is_saved
    (artifact,) = workspace.store.find(Artifact)[:1]
    assert (artifact.parent, artifact.media_type) == (kept.id, MEDIA_TYPE)
    nb.overview({"train": train, "val": table(seed=1)}, name="before release")
    assert len([one for one in workspace.store.find(Artifact) if one.media_type == MEDIA_TYPE]) == 1
    workspace.artifacts.delete(kept.tags["stored_digest"])  # the data is gone

    def compute(*_: Any, **__: Any) -> None:
        pytest.fail("an overview that is kept was computed")

    monkeypatch.setattr("nbops.data.overviews.making._compared", compute)
    for reference in ("train", "train/1", kept):
        again = nb.overview(reference)
        assert again.is_saved
        assert again.to_bytes() == found.to_bytes()
        assert "before release" in str(again)


def test_a_dataset_without_one_gives_that_of_its_stored_profile(workspace: Workspace) -> None:
    kept = nb.snapshot(table(), "train")
    workspace.artifacts.delete(kept.tags["stored_digest"])
    found = nb.overview("train")
    assert [side.rows for side in found.tables] == [2_000]
    both = nb.overview({"train": "train", "serving": table(mean=3.5)}, save=False)
    assert not both.is_saved
    assert next(iter(both.features)) == "price"
    rough = nb.overview({"serving": table(mean=3.5), "train": "train"}, save=False)
    assert rough.notes == ("train: only a profile is there, so distances are approximate",)
    assert rough.features["price"].distance == pytest.approx(both.features["price"].distance, abs=0.05)


def test_the_card_says_when_the_data_has_moved_on(workspace: Workspace) -> None:
    nb.snapshot(table(), "train")
    found = nb.overview("train")
    assert "newest" not in str(found)
    nb.snapshot(table(seed=5), "train")
    assert "! made from train v1; v2 is newest" in str(found)
    assert "v2 is newest" in str(nb.overview("train/1"))


def test_data_that_is_no_snapshot_is_not_kept(workspace: Workspace) -> None:
    found = nb.overview(table())
    assert not found.is_saved
    assert workspace.store.find(Artifact) == []


def test_card_and_page_stay_small_and_need_no_script(workspace: Workspace, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    wide = {f"feature {i}": rng.normal(size=200) for i in range(500)}
    found = nb.overview({name: wide for name in ("a", "b", "c", "d", "e", "f")})
    assert (len(found.features), found.left_out) == (333, 167)
    text, _ = shown(found, MAX_BYTES)
    assert "more features" in text
    path = found.report(tmp_path / "overview.html")
    _, markup = shown(OverviewPage(found), PAGE_BYTES)
    assert path.read_text(encoding="utf-8") == markup
    assert 'class="by-missing"' in markup
    assert len(found.to_bytes()) <= PAGE_BYTES


def test_names_and_values_that_look_like_markup_stay_text(workspace: Workspace) -> None:
    found = nb.overview({EVIL: {EVIL: [EVIL, "b"]}, "b": {EVIL: ["c", "d"]}}, name=EVIL)
    for value, limit in ((found, MAX_BYTES), (OverviewPage(found), PAGE_BYTES)):
        _, markup = shown(value, limit)
        assert EVIL not in markup


def test_other_forms(workspace: Workspace) -> None:
    found = nb.overview({"a": pd.DataFrame(table()), "b": nb.profile(table(seed=1))})
    frame = found.to_pandas()
    assert list(frame["table"][:2]) == ["a", "b"]
    assert len(frame) == 14
    assert Overview.from_bytes(found.to_bytes()).to_dict() == found.to_dict()
    assert repr(found) == "Overview('a · b', 2 tables, 7 features)"


def test_what_cannot_be_shown_is_refused(workspace: Workspace) -> None:
    with pytest.raises(InvalidInput, match="the table 'b' has no rows"):
        nb.overview({"a": table(), "b": {"x": np.zeros(0)}})
    with pytest.raises(InvalidInput, match="an overview of 7 tables"):
        nb.overview({str(i): table(10) for i in range(7)})
    with pytest.raises(InvalidInput, match="this is no overview"):
        Overview.from_bytes(b"{}")
    with pytest.raises(NotFound):
        nb.overview("nothing")


def test_the_verb(workspace: Workspace, shell: Any, tmp_path: Path) -> None:
    nb.snapshot(table(), "train")
    shell.user_ns["serving"] = pd.DataFrame(table(mean=3.5))
    found = shell.run_line_magic("mlops", "overview train serving --name both --report both.html")
    assert (found.name, [side.name for side in found.tables]) == ("both", ["train", "serving"])
    assert (tmp_path / "both.html").exists()
    assert shell.run_line_magic("mlops", "overview train").to_bytes() == found.to_bytes()
