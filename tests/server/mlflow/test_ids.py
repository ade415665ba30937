"""Ids and params are carried over without loss, both ways."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nbops.core.ids import new_id
from nbops.server.mlflow.grammar import holds, like
from nbops.server.mlflow.ids import from_hex, to_hex
from nbops.server.mlflow.runview import typed


def test_an_id_and_its_hex_are_the_same_number() -> None:
    for _ in range(100):
        id = new_id("run")
        assert len(to_hex(id)) == 32
        assert from_hex(to_hex(id), "run") == id
    assert from_hex("0" * 32, "run") == "run_" + "0" * 26
    assert from_hex("f" * 32, "run") == "run_7" + "Z" * 25


def test_an_id_of_another_form_stays_as_it_is() -> None:
    assert to_hex("run_of-somebody") == from_hex("run_of-somebody", "run") == "run_of-somebody"


@given(st.text() | st.floats().map(str) | st.integers().map(str) | st.sampled_from(["True", "False", "None", "1e5"]))
def test_a_param_keeps_its_text(text: str) -> None:
    assert str(typed(text)) == text


def test_a_param_that_is_a_number_can_be_compared() -> None:
    assert [typed(text) for text in ("0.1", "7", "-3", "True")] == [0.1, 7, -3, True]
    assert [typed(text) for text in ("7.00", "1e-3", "nan", "inf", str(2**60))] == [
        "7.00",
        "1e-3",
        "nan",
        "inf",
        str(2**60),
    ]


def test_patterns_are_those_of_sql() -> None:
    assert like("a%_c", "axxbc", ignore_case=False)
    assert not like("A%", "abc", ignore_case=False)
    assert like("A%", "abc", ignore_case=True)
    assert not like("a.c", "abc", ignore_case=False)
    assert holds("NOT LIKE", "abc", "b%")
    assert not holds("LIKE", None, "%")
    assert holds("IS NULL", None, None)
