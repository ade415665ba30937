"""What the values of a column mean, told from them; and what they only look like."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nbops.data.frames import read
from nbops.data.profiling import profile_frame

ROWS = 60
RNG = np.random.default_rng(0)


def meaning(values: Any, name: str = "x") -> dict[str, Any]:
    found: dict[str, Any] = profile_frame(read({name: values}))["columns"][name].get("meaning", {})
    return found


def told(values: Any, name: str = "x") -> str:
    return str(meaning(values, name).get("type"))


TEXTS = {
    "email": [f"person.{i}+x@mail{i % 7}.example.org" for i in range(ROWS)],
    "url": [f"https://example.org/a/{i}?q=1" for i in range(ROWS)],
    "uuid": [f"{i:08x}-1111-4222-8333-0123456789ab" for i in range(ROWS)],
    "ip-address": [f"10.0.{i}.254" for i in range(ROWS)],
    "json": [f'{{"a": {i}, "b": [1, 2]}}' for i in range(ROWS)],
    "date-as-text": [f"2024-{1 + i % 12:02d}-{1 + i % 28:02d}T10:00:00Z" for i in range(ROWS)],
    "percentage-as-text": [f"{i / 2:.1f} %" for i in range(ROWS)],
    "amount-as-text": [f"€ {i},50" for i in range(ROWS)],
    "measure-as-text": [f"{i}.5 kg" for i in range(ROWS)],
    "number-as-text": [f"{i * 1000:,}" for i in range(ROWS)],
    "phone": [f"+49 30 {100000 + i}" for i in range(ROWS)],
    "boolean-as-text": ["Yes", "no"] * 30,
    "country-code": ["DE", "FR", "ES", "US"] * 15,
    "category": ["red", "green", "blue"] * 20,
    "free-text": [f"the {i}th thing that somebody wrote down" for i in range(ROWS)],
    "id": [f"A{i:05d}" for i in range(ROWS)],
    "postcode": [f"SW{i % 9 + 1}A {i % 9}AA" for i in range(ROWS)],
    "blank": ["", " ", "  "] * 20,
}


@pytest.mark.parametrize("sort", list(TEXTS))
def test_sorts_of_text(sort: str) -> None:
    assert told(TEXTS[sort]) == sort


@pytest.mark.parametrize(
    "text", ["03/04/2024", "3.4.24", "4 Mar 2024", "March 4, 2024", "2024-03-04 10:00:00.123 +01:00"]
)
def test_dates_are_known_as_people_write_them(text: str) -> None:
    assert told([text, "2024-03-05"] * 30) == "date-as-text"


@pytest.mark.parametrize(
    ("sort", "name", "values"),
    [
        ("id", "customer_id", np.arange(ROWS) + 500),
        ("year", "year", 1990 + np.arange(ROWS) % 30),
        ("boolean", "flag", np.arange(ROWS) % 2),
        ("share", "click_rate", RNG.random(ROWS)),
        ("percentage", "discount_pct", RNG.random(ROWS) * 100),
        ("amount", "unitPrice", np.round(RNG.random(ROWS) * 90, 2)),
        ("epoch-time", "created", 1_700_000_000 + 977 * np.arange(ROWS)),
        ("epoch-time", "x", 1_700_000_000_000 + 977 * np.arange(ROWS)),
        ("latitude", "lat", RNG.random(ROWS) * 90),
        ("longitude", "lng", RNG.random(ROWS) * -170),
        ("category", "x", np.arange(200) % 4),
        ("number", "x", RNG.normal(size=ROWS)),
        ("number", "x", RNG.integers(0, 500, ROWS)),
        ("constant", "x", np.ones(ROWS)),
    ],
)
def test_sorts_of_numbers(sort: str, name: str, values: Any) -> None:
    assert told(values, name) == sort


def test_what_only_looks_like_it_is_not_taken_for_it() -> None:
    assert told(TEXTS["email"][:50] + ["nobody at all"] * 10) != "email"
    assert told([f"{1000 + i}" for i in range(ROWS)]) == "number-as-text"
    assert told([f"{10000 + i}" for i in range(ROWS)], "zip") == "postcode"
    assert told(["2024-13-45", "99/99/99"] * 30) == "category"
    assert told(['{"a": 1', "[1, 2"] * 30) == "category"
    assert told(["DE", "XX", "QQ", "FR"] * 15) == "category"
    assert told(RNG.integers(0, 10, 300) + 1995) == "year"
    assert told(np.array([1995, 2000, 2001])) == "number"


def test_how_sure_and_which_unit_is_said() -> None:
    assert meaning(TEXTS["email"]) == {"type": "email", "sure": "certain", "share": 1.0}
    nearly = [*TEXTS["email"][:-1], "unknown"]
    assert meaning(nearly) == {"type": "email", "sure": "likely", "share": pytest.approx(59 / 60, abs=1e-4)}
    assert meaning(TEXTS["measure-as-text"])["unit"] == "kg"
    assert meaning(TEXTS["amount-as-text"])["unit"] == "EUR"
    assert meaning(RNG.normal(size=ROWS), "temp_celsius") == {
        "type": "number", "sure": "certain", "unit": "°C", "unit_sure": "maybe",
    }  # fmt: skip
    assert meaning(RNG.integers(100, 999, ROWS), "height_cm")["unit"] == "cm"
    assert meaning(np.round(RNG.random(ROWS) * 90, 2), "price_usd")["unit"] == "USD"
    assert "unit" not in meaning(RNG.normal(size=ROWS), "km")


def test_a_giant_text_takes_no_time_and_breaks_nothing() -> None:
    assert told(["[" * 90_000] * 3) == "constant"
    assert told(["[" * 90_000, "a@" * 50_000, "1" * 300_000] * 4) == "category"
