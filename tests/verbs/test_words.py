"""Splitting a line, and putting an expression together again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbops.verbs.words import UsageError, Word, expression, literal, split


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("  runs   --last 3 ", ["runs", "--last", "3"]),
        ("run 'a b' --tag k \"c d\"", ["run", "a b", "--tag", "k", "c d"]),
        (r"init C:\data\new", ["init", r"C:\data\new"]),
        ("promote m 3 prod --reason=''", ["promote", "m", "3", "prod", "--reason="]),
        ("x='a b'c", ["x=a bc"]),
    ],
)  # fmt: skip
def test_quotes_hold_blanks_together(line: str, words: list[str]) -> None:
    assert split(line) == words


def test_an_open_quote_is_refused() -> None:
    with pytest.raises(UsageError, match="a quote is not closed: 'a b") as caught:
        split("run 'a b")
    assert caught.value.hint == "Close it, or remove it."


@pytest.mark.parametrize(
    ("line", "query"),
    [
        ('tags.team == "x" and metrics.acc > 0.9', 'tags.team == "x" and metrics.acc > 0.9'),
        ("""'tags.team == "x"'""", 'tags.team == "x"'), ("status", "status"), ("", ""),
    ],
)  # fmt: skip
def test_an_expression_is_what_was_written(line: str, query: str) -> None:
    assert expression(list(split(line))) == query


def test_words_of_a_shell_join_as_they_are() -> None:
    assert expression(["metrics.acc", ">", "0.9"]) == "metrics.acc > 0.9"
    assert Word("a").raw == "a"


@given(st.lists(st.text(st.characters(categories=["L", "N", "P"], exclude_characters="\"'"), min_size=1), max_size=6))
def test_plain_words_survive(words: list[str]) -> None:
    assert split(" ".join(words)) == words


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("1e-2", 0.01), ("-4", -4), ("true", True), ("False", False), ("none", None), ("Adam", "Adam"),
     ("[1, 2]", "[1, 2]"), ("1; import os", "1; import os"), ("3.0", 3.0)],
)  # fmt: skip
def test_a_parameter_is_a_number_where_it_reads_like_one(text: str, value: object) -> None:
    found = literal(text)
    assert found == value
    assert type(found) is type(value)
