"""Card and page of a profile: figures, pictures, budgets, and text that a user wrote into the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from markup import EVIL, Checker

import nbops as nb
from nbops.core.display import mimebundle
from nbops.data.profiles.profile import ProfileReport
from nbops.view import minis
from nbops.view.format import columns
from nbops.view.profile_page import MAX_BYTES as PAGE_BYTES
from nbops.view.profiles import MAX_BYTES


def shown(value: Any, limit: int = MAX_BYTES) -> tuple[str, str]:
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


def table(rows: int = 300) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "price_eur": rng.lognormal(3, 1, rows), "city": rng.choice(["Bonn", "Rome"], rows),
        "note": [f"a note with number {i}" for i in range(rows)], "day": np.arange(rows).astype("datetime64[D]"),
        "ok": rng.random(rows) < 0.5, "k": np.ones(rows), "gone": [None] * rows,
    }  # fmt: skip


def test_the_card_tells_size_what_stands_out_and_each_column() -> None:
    text, markup = shown(nb.profile(table(), name="sales"))
    assert text.startswith("! 2 things to look at  sales   300 × 7")
    assert "✕ constant" in text
    assert "all cells are missing" in text
    for name in table():
        assert name in text
        assert name in markup
    assert "Bonn" in text
    assert "amount [EUR]" in text
    assert "1970-01-01 … 1970-10-27" in text
    assert markup.count("<svg") >= 5


def test_a_card_without_alerts_says_so() -> None:
    rng = np.random.default_rng(0)
    assert "✓ nothing odd" in shown(nb.profile({"a": rng.normal(size=100)}))[0]


@pytest.mark.parametrize("word", [EVIL, "x" * 3000, "手書き" * 300, ""])
def test_any_text_in_the_data_is_safe_and_within_the_budget(word: str) -> None:
    data = {word or "a": [word, "b", None] * 20, f"{word}2": np.arange(60.0)}
    made = nb.profile(pd.DataFrame(data), name=word)
    _, markup = shown(made)
    assert "<img" not in markup
    _, page = shown(ProfileReport(made), PAGE_BYTES)
    assert "<img" not in page


def test_wide_tables_show_their_first_columns_and_where_the_rest_is() -> None:
    wide = {f"a rather long name of column {i}": np.random.default_rng(i).normal(size=200) for i in range(400)}
    made = nb.profile(wide)
    text, markup = shown(made)
    assert "more columns: profile.report(" in markup
    assert "more columns" in text
    _, page = shown(ProfileReport(made), PAGE_BYTES)
    assert page.count("<details>") > 150
    assert "see profile.columns[name]" in page


def test_the_page_of_80_columns_has_all_of_them_in_a_megabyte() -> None:
    rng = np.random.default_rng(0)
    data = {f"n{i}": rng.normal(size=1000) for i in range(60)} | {
        f"t{i}": rng.choice([f"value {k}" for k in range(40)], 1000) for i in range(20)
    }
    _, page = shown(ProfileReport(nb.profile(data)), PAGE_BYTES)
    assert page.count("<details>") == 80
    assert "Pearson of" in page
    assert "Cramér&#x27;s V of" in page


def test_what_is_approximate_is_marked() -> None:
    part = nb.profile({"a": np.arange(50.0)})
    merged = type(part).merge(part, nb.profile({"a": np.arange(20.0, 80.0)}))
    assert "≈ 60" in shown(merged)[0]
    assert "0 … ≈ " in shown(merged)[0]
    assert "≈" not in shown(part)[0]
    assert "all but common, distinct" in shown(ProfileReport(merged), PAGE_BYTES)[1]
    assert "all figures" in shown(ProfileReport(part), PAGE_BYTES)[1]


def test_bars_follow_the_data_and_leave_out_far_extremes() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(size=5000), [1e6]])
    figures = nb.profile({"a": values}).columns["a"]
    shape = minis.shape_of(figures)
    assert shape is not None
    assert shape.is_cut
    assert shape.high < 10
    assert 8 < int(np.argmax(shape.heights)) < 16
    assert "not drawn" in minis.described(shape)
    few = minis.shape_of(nb.profile({"a": [1, 1, 1, 5]}).columns["a"])
    assert few == minis.Shape((3.0, 1.0), 1.0, 5.0)
    assert minis.blocks(few) == "█▃"
    assert minis.shape_of({"edges": [], "counts": []}) is None
    even = minis.shape_of(nb.profile({"a": np.arange(1000.0)}).columns["a"])
    assert even is not None
    assert sum(even.heights) == pytest.approx(1000)
    assert min(even.heights) > 30
