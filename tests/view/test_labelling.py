"""How items look, the cards of label sets, and what the browser is told."""

from __future__ import annotations

import base64
import io
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nbops as nb
from nbops.core.display import mimebundle
from nbops.core.errors import InvalidInput
from nbops.data.labels.session import LiveLabelling
from nbops.store.workspace import Workspace
from nbops.view import desk
from nbops.view.items import show_item
from nbops.view.labelling import state_of


@pytest.fixture(autouse=True)
def _fresh(workspace: Workspace) -> Workspace:
    return workspace


def opened(items: Any = ("a", "b", "c"), **options: Any) -> LiveLabelling:
    return nb.label(list(items), **{"classes": ["pos", "neg"], "name": "reviews", "annotator": "ada", **options})


def picture_of(value: Any, show: Any = None) -> np.ndarray:
    """Return the pixels of the picture that an item is shown as."""
    markup = show_item(value, show)["text/html"]
    found = re.search(r'src="data:image/png;base64,([^"]+)"', markup)
    assert found is not None, markup
    return np.array(Image.open(io.BytesIO(base64.b64decode(found[1]))))


# ---- items -----------------------------------------------------------------------------------------------------------


def test_text_is_text_and_no_markup() -> None:
    assert show_item("<script>x</script>\nschön", None)["text/html"] == (
        '<div class="jp-nbops-Label-text" dir="auto">&lt;script&gt;x&lt;/script&gt;\nschön</div>'
    )
    assert ">7</div>" in show_item(7, None)["text/html"]


def test_a_row_is_a_table_or_a_template() -> None:
    row = {"title": "<b>", "price": 3, "seller": None}
    markup = show_item(row, None)["text/html"]
    assert re.findall(r"<td>(.*?)</td>", markup) == ["&lt;b&gt;", "3", "—"]
    assert ">&lt;b&gt; for 3.00</div>" in show_item(row, "{title} for {price:.2f}")["text/html"]
    assert ">say a</div>" in show_item("a", "say {item}")["text/html"]


def test_arrays_are_pictures_pixel_for_pixel() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    colour = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    assert np.array_equal(picture_of(grey), grey)
    assert np.array_equal(picture_of(grey[:, :, None]), grey)
    assert np.array_equal(picture_of(colour), colour)
    assert np.array_equal(picture_of(np.concatenate([colour, colour[:, :, :1]], axis=2))[:, :, :3], colour)
    assert np.array_equal(picture_of(torch.from_numpy(colour).permute(2, 0, 1)), colour)
    assert np.array_equal(picture_of(colour / 255), colour)
    assert np.array_equal(picture_of(np.array([[False, True]])), [[0, 255]])
    assert np.array_equal(picture_of(np.array([[-1.0, 0.0, 1.0]])), [[0, 128, 255]])
    assert np.array_equal(picture_of(Image.fromarray(colour)), colour)


def test_files_are_pictures_and_sounds(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), (9, 8, 7)).save(tmp_path / 'a".png')
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    assert picture_of(tmp_path / 'a".png')[0, 0].tolist() == [9, 8, 7]
    assert 'alt="a&quot;.png"' in show_item(tmp_path / 'a".png', None)["text/html"]
    assert (
        '<audio controls aria-label="b.wav" src="data:audio/wav;base64,'
        in show_item(tmp_path / "b.wav", None)["text/html"]
    )


def test_what_a_function_returns_is_shown_as_a_notebook_would() -> None:
    class Drawn:
        def _repr_html_(self) -> str:
            return "<i>drawn</i>"

    assert show_item(1, lambda _: Drawn())["text/html"] == "<i>drawn</i>"
    assert ">two</div>" in show_item(2, lambda _: "two")["text/html"]


@pytest.mark.parametrize(
    ("value", "show", "message"),
    [
        ("a", lambda item: item.nothing, "cannot be shown: AttributeError"),
        ("a", lambda item: None, "show= returned None"),
        ({"a": 1}, "{b}", r"template '\{b\}' does not fit.*'b'"),
        (Path("gone.png"), None, r"cannot read the item 'gone\.png'"),
        (Path("notes.txt"), None, "no picture and no sound"),
        (np.zeros(3), None, r"shape \[3\] and type float64 is no picture"),
        (np.zeros((2, 2, 2)), None, r"shape \[2, 2, 2\]"),
    ],
)
def test_what_cannot_be_shown_is_named(value: Any, show: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        show_item(value, show)
    assert caught.value.hint


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbops.view.items.MAX_BYTES", 3)
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    with pytest.raises(InvalidInput, match="MB"):
        show_item(tmp_path / "b.wav", None)


def test_the_first_item_that_cannot_be_shown_fails_in_its_cell() -> None:
    with pytest.raises(InvalidInput, match="cannot be shown"):
        mimebundle(opened(show=lambda item: 1 / 0))


def test_a_later_one_can_be_skipped_and_not_answered() -> None:
    session = opened(show=lambda item: {"a": "fine"}[item])
    session.answer("pos")
    told = state_of(session)
    assert told["item"]["mime"] is None
    assert "KeyError: 'b'. Mend show=" in told["trouble"]


# ---- cards -----------------------------------------------------------------------------------------------------------


def test_the_card_says_how_far_it_is() -> None:
    session = opened()
    session.answer("pos")
    session.skip()
    shown = mimebundle(session)
    assert set(shown) == {"text/plain", "text/html"}, "no kernel, no widget"
    first, figures, counts, *_ = shown["text/plain"].splitlines()
    assert first.startswith("● 2 to label  labels reviews")
    assert figures == "labelled 1 of 3 · done 33.33 % · skipped, to come back 1"
    assert counts == "answers  pos 1"
    session.answer("neg")
    session.answer("neg")
    assert mimebundle(session)["text/plain"].startswith("✓ all labelled")
    assert repr(session) == "LiveLabelling('reviews', 3 of 3 by 'ada')"


def test_the_card_of_a_label_set() -> None:
    session = opened()
    empty = mimebundle(nb.labels("reviews"))["text/plain"]
    assert "– empty" in empty
    assert "nb.label(items, classes=['pos', 'neg'], name=\"reviews\")" in empty
    session.answer("pos", duration_s=2)
    one = mimebundle(nb.labels("reviews"))
    assert "alpha" not in one["text/plain"]
    assert re.search(r"ada +1 +2 s", one["text/plain"])
    opened(["x"], annotator="eve").answer("neg")
    assert "alpha" not in mimebundle(nb.labels("reviews"))["text/plain"], "two annotators without an item in common"
    other = opened(annotator="<bob>")
    for side in ("pos", "neg"):
        other.answer(side)
    both = mimebundle(nb.labels("reviews"))
    assert "Krippendorff's alpha" in both["text/plain"]
    assert "&lt;bob&gt;" in both["text/html"]
    assert len(both["text/html"].encode()) < 20_000
    assert repr(nb.labels("reviews")) == "Labels('reviews', 4 answers on 3 items)"


def test_a_hundred_classes_still_fit() -> None:
    session = opened(classes=[f"class {i} with a long name of its own" for i in range(100)])
    session.answer("class 99 with a long name of its own")
    for shown in (mimebundle(session), mimebundle(nb.labels("reviews"))):
        assert max(map(len, shown["text/plain"].splitlines())) <= 120
        assert len(shown["text/html"].encode()) < 20_000
    assert [one["key"] for one in state_of(session)["classes"]] == [*"123456789abcdefghijklmopqrstuvwxyz", *[""] * 66]


# ---- what the browser is told ----------------------------------------------------------------------------------------


def test_suggestions_are_told_unless_they_are_hidden() -> None:
    table = np.array([[0.2, 0.8], [0.6, 0.4], [0.5, 0.5]])
    told = state_of(opened(suggest=table))["suggestion"]
    assert told == {"classes": [1], "confidence": "80 %", "given": ""}
    hidden = opened(suggest=table, hide_suggestions=True, annotator="bob")
    assert state_of(hidden)["suggestion"] is None
    assert hidden.answer("pos").suggested == ["neg"]


def test_an_error_is_told_where_it_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    session = opened()
    monkeypatch.setitem(desk._open, "key", (session, state_of))
    assert desk.reply("key", {"do": "answer", "item": session.item_id, "classes": []})["wrong"].startswith(
        "the answer is 0 classes")  # fmt: skip
    assert desk.reply("key", {"do": "nothing"})["wrong"] == ""
    assert "IndexError" in desk.reply("key", {"do": "answer", "item": session.item_id, "classes": [5]})["wrong"]
    assert desk.reply("gone", {"do": "hello"}) == {"gone": True}


def test_an_answer_that_cannot_be_stored_keeps_its_item(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    session = opened()
    monkeypatch.setitem(desk._open, "key", (session, state_of))
    answer = {"do": "answer", "item": session.item_id, "classes": [0]}
    with closing(sqlite3.connect(workspace.path / "nbops.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # another process writes, and goes on and on
        with workspace.store.patience(0.05):
            told = desk.reply("key", answer)
        other.execute("ROLLBACK")
    assert "the store refused the write: database is locked" in told["wrong"]
    assert (told["item"]["id"], told["done"], len(nb.labels("reviews"))) == (answer["item"], 0, 0)
    told = desk.reply("key", answer)
    assert (told["wrong"], told["done"], len(nb.labels("reviews"))) == ("", 1, 1)


def test_there_is_nobody_to_talk_to_outside_a_kernel() -> None:
    assert desk.offer(opened(), state_of) is None
