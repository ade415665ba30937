"""The card of a split proves it, and says what looks at a sealed test set do to a score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from markup import check_html

import nbops as nb
from nbops.core.display import mimebundle
from nbops.store.workspace import Workspace

FRAME = pd.DataFrame(
    {
        "id": range(2000),
        "who": np.arange(2000) // 4,
        "day": pd.date_range("2026-01-01", periods=2000, freq="h"),
        "y": np.arange(2000) // 4 % 2,
    }
)


def shown(value: Any) -> str:
    """Return the text of a card in one line, after checking its markup."""
    found = mimebundle(value)
    check_html(found["text/html"])
    return " ".join(found["text/plain"].split())


def test_a_split_shows_sizes_method_and_proof(workspace: Workspace) -> None:
    split = nb.split(FRAME, group="who", stratify="y", name="visits", folds=3)
    text = shown(split)
    assert text.startswith("✓ split visits spl_")
    assert "group: who, within y · 2,000 rows" in text
    assert f"train {len(split.train):,} (80 % of the rows)" in text
    assert "✓ groups cut 0 no group has rows on two sides" in text
    assert "✓ strata" in text
    assert "folds 3" in text
    assert shown(split.record) == text
    assert "2,000 rows" in shown(nb.find("splits")[0])


def test_what_does_not_hold_is_marked_with_what_to_do(workspace: Workspace) -> None:
    narrow = FRAME[["y"]].assign(x=1)
    assert "! equal rows across" in (text := shown(nb.split(narrow, key=np.arange(2000))))
    assert "without a key, equal rows stay together" in text
    rare = nb.split({"id": range(30), "c": [f"c{i}" for i in range(30)]}, key="id", stratify="c")
    assert "! strata without test" in shown(rare)
    nb.split(FRAME, key="id", name="v")
    assert "! rows moved" in shown(nb.split(FRAME, key="id", name="v", salt="other"))


def test_a_split_in_time_shows_its_spans(workspace: Workspace) -> None:
    text = shown(nb.split(FRAME, time="day", gap="1d", test="2026-03-01"))
    assert "✓ overlap in time 0 each side begins after the one before" in text
    assert "train 2026-01-01 to 2026-02-27T23:00:00 · test 2026-03-01 to" in text
    assert "left out 24" in text
    assert "gap 1d" in text


def test_a_sealed_split_shows_its_looks_and_what_they_mean(workspace: Workspace) -> None:
    split = nb.split(FRAME, key="id", seal=True, name="v")
    assert "Nobody has looked at the test rows yet." in shown(split)
    split.look("first score")
    assert "A first look costs nothing" in shown(split)
    for number in range(9):
        split.look(f"variant {number}")
    text = shown(split.test)
    assert text.startswith("■ sealed v spl_")
    assert "10 looks at the test rows. The best of 10 scores" in text
    assert "by up to 2.15 standard errors" in text
    assert "variant 8" in text
    assert "… and 4 more" in text
    assert 'with split.open_test("why") as test:' in text
    other = nb.split(FRAME, key="id", seal=True, name="v", salt="b")
    other.look("again")
    assert "10 more looks at test sets of other splits of v." in shown(other)
    assert "Look 1 at the" in shown(nb.find("looks")[0])
    assert "11 looks" in shown(nb.find("looks"))


def test_empty_lists_say_what_to_type(workspace: Workspace) -> None:
    assert "Split data with %mlops split df." in shown(nb.find("splits"))
    assert "Seal a test set with %mlops split df --seal." in shown(nb.find("looks"))
