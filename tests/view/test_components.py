"""The two forms of a card: text of at most 120 columns, HTML that is safe, valid and small."""

from __future__ import annotations

import re
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from markup import EVIL, check_html

from nbops.view import html, text
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Chip, Code, Facts, Grid, Item, Key, Mono, Note, Ranked, Section, chip
from nbops.view.figures import Figure, Line
from nbops.view.format import columns
from nbops.view.graphs import Graph, Node


def full(word: str, rows: int = 3) -> Card:
    """Return a card that has every part, with `word` in each place."""
    nodes = (Node("a", word, word, word), Node("b", word, word))
    return Card(
        word, Chip("✓", word, "ok"), word, (word, word), tuple(Key(word, word, word) for _ in range(4)),
        (
            Grid((word, "n"), tuple((Mono(word), word) for _ in range(rows)), frozenset({1}), 1, word),
            Grid((word, word), ((chip(word), word),)), Note(word), Note(word, "bad"), Facts(word, ((word, word),) * 30),
            Section(word, Chip("✓", word, "ok"), (word, word)), Ranked(word, (Item(word, word, ((word, word),)),) * 3),
            Code(word), Figure(word, (Line(word, range(500), range(500)),), x=word), Graph(nodes, (("a", word, "b"),)),
        ),
        (word,),
    )  # fmt: skip


@pytest.mark.parametrize("word", ["digits", EVIL, "x" * 5000, "手書き数字" * 80, "", "many words in a row " * 60])
def test_any_text_in_any_place_is_escaped_and_within_the_budget(word: str) -> None:
    shown = bundle(full(word))
    check_html(shown["text/html"])
    assert "<script" not in shown["text/html"]
    assert max(columns(line) for line in shown["text/plain"].splitlines()) <= 120
    assert "\x1b" not in shown["text/plain"] + shown["text/html"]


def test_a_thousand_rows_still_fit_and_say_what_is_left_out() -> None:
    markup = html.render(full("some quite ordinary name", rows=1000))
    check_html(markup)
    left = re.search(r"… and ([\d,]+) more", markup)
    assert left is not None
    assert int(left[1].replace(",", "")) + markup.count("<tr><td") - 1 == 1000


def test_states_have_a_sign_and_a_word_never_only_a_colour() -> None:
    for state in ("RUNNING", "FINISHED", "FAILED", "INTERRUPTED", "SUPERSEDED", "warn", "READY", "DEAD"):
        found = chip(state)
        assert found.sign.strip()
        assert found.word.strip()
        markup = html.render(Card("name", found))
        assert f"{found.sign} {found.word}</span>" in markup
        assert text.render(Card("name", found)).startswith(f"{found.sign} {found.word}")
    assert str(chip("ODD")) == "· odd"


def test_colours_follow_jupyterlab_and_the_system() -> None:
    markup = html.render(full("x"))
    assert "var(--jp-content-font-color1,var(--a))" in markup
    assert "prefers-color-scheme:dark" in markup
    assert 'data-jp-theme-light="false"' in markup


def test_numbers_stand_right_and_the_sorted_column_is_marked() -> None:
    grid = Grid(("name", "loss"), (("a", "0.5"), ("long name", "12")), frozenset({1}), sorted_by=1)
    assert text.table(grid) == ["name       loss ↓", "a             0.5", "long name      12"]
    assert '<th class="r">loss ↓</th>' in html.render(Card("t", parts=(grid,)))


def test_a_wide_table_is_cut_in_the_middle_and_wraps_its_last_column() -> None:
    advice = "Impute the missing values, or raise the limit when they mean something in this column of the data."
    grid = Grid(("check", "column", "what to do"), (("missing-values", "c" * 200, advice),))
    lines = text.table(grid)
    assert max(map(len, lines)) <= 120
    assert "…" in lines[1]
    assert len(lines) > 2
    words = " ".join(" ".join(lines[1:]).split())
    assert all(word in words for word in advice.split())


def test_a_table_of_very_many_columns_keeps_the_first() -> None:
    grid = Grid(tuple(f"col{i}" for i in range(200)), (tuple("value" for _ in range(200)),))
    lines = text.table(grid)
    assert max(map(len, lines)) <= 120
    assert lines[1].startswith("v")


def test_long_prose_wraps_in_html_and_a_long_name_keeps_its_whole_in_a_title() -> None:
    name = "block" * 40
    markup = html.render(Card("t", parts=(Grid(("a",), ((name,), ("a sentence of many words " * 4,))),)))
    assert f'title="{name}"' in markup
    assert ("a sentence of many words " * 4).strip() in markup
    assert "…" in markup


def test_without_styles_and_svg_a_card_can_still_be_read() -> None:
    """A notebook that is not trusted: JupyterLab drops ``<style>`` and the tags of SVG, and keeps images."""
    line = Line("loss", range(300), [1 / (i + 1) for i in range(300)])
    nodes = (Node("a", "data", "digits/4"), Node("b", "run", "fit"))
    parts = (Figure("loss of fit", (line,)), Graph(nodes, (("a", "used_by", "b"),)))
    card = Card("fit", chip("FINISHED"), "run_1", ("3 s",), (Key("0.97", "acc"), Key("0.1", "loss")), parts)
    markup = html.render(card)
    left = re.sub(r"<div[^>]*display:none[^>]*>.*?</div>|<style.*?</style>", "", markup, flags=re.DOTALL)
    words = " ".join(re.sub(r"<[^>]+>", "", re.sub(r"</?(?:div|p|img)\b", r" \g<0>", left)).split())
    assert words == "✓ finished fit run_1 3 s 0.97 acc 0.1 loss data digits/4 → run fit"
    (source,) = check_html(left).sources
    picture = ElementTree.fromstring(unquote(source.partition(",")[2]))  # noqa: S314
    assert picture.findall(".//{http://www.w3.org/2000/svg}polyline")
    assert 'alt="loss  █' in left
    assert ".nbops .alt{display:none!important}" in markup
