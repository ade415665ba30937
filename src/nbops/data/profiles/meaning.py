"""What the values of a column mean: an id, a category, an amount, dates written as text, an e-mail address …

A guess from the values, and from the name where values alone do not tell. ``sure`` says how far it can be relied on:
``certain`` (the values say so), ``likely``, or ``maybe`` (chiefly the name says so).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from nbops.data.profiles.patterns import (
    COUNTRIES,
    DIGITS,
    FORMS,
    hints,
    is_boolean,
    is_whole,
    measure_unit,
    unit_of_name,
)

_FIT = 0.95  # a form is taken if so many of the texts fit it
_LOOKED = 50  # texts by which a form is given up early
_CATEGORIES = 50  # more distinct texts are categories only where each occurs ten times on average
_MANY_ROWS = 20  # in fewer rows, that all values differ says nothing
_FREE_WORDS = 3  # texts of so many words on average are prose
_LONGEST = 2000  # characters of a text that is no JSON which are looked at


def told_meaning(name: str, figures: Mapping[str, Any], texts: Sequence[str], *, rows: int) -> dict[str, Any]:
    """Return ``type``, ``sure``, and where they are known ``share`` (of the texts looked at) and ``unit``; or nothing.

    Parameters
    ----------
    name : str
        Name of the column.
    figures : mapping
        Its profile so far.
    texts : sequence of str
        Texts of the column, where it is one of texts: all, or a sample.
    rows : int
        Number of rows.
    """
    dtype = figures["dtype"]
    present = rows - figures["missing"]
    if dtype.startswith("tensor") or not rows:
        return {}
    if present <= 0:
        return _told("empty", "certain")
    if figures.get("distinct") == 1 and present > 1:
        found = _told("constant", "certain")
    elif dtype == "text":
        found = _of_texts(name, figures, texts, present)
    elif dtype == "bool":
        found = _told("boolean", "certain")
    elif dtype.startswith(("date", "time", "duration")):
        found = _told(dtype.partition("[")[0], "certain")
    elif figures.get("edges"):
        found = _of_numbers(name, figures, present)
    elif dtype == "object" and set(figures.get("kinds", {})) == {"number"}:
        found = _told("huge-number", "certain")
    elif dtype == "object":
        found = _told("mixed" if len(figures.get("kinds", {})) > 1 else "nested", "certain")
    else:
        return {}
    return found


def _told(sort: str, sure: str, *, share: float | None = None, unit: str = "", unit_sure: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {"type": sort, "sure": sure}
    if share is not None:
        found["share"] = round(share, 4)
    if unit:
        found |= {"unit": unit, "unit_sure": unit_sure}
    return found


def _of_texts(name: str, figures: Mapping[str, Any], texts: Sequence[str], present: int) -> dict[str, Any]:
    stripped = [_cut(text.strip()) for text in texts if text.strip()]
    distinct = set(stripped)
    if not stripped:
        return _told("blank", "certain")
    if is_boolean(distinct) and figures["distinct"] <= 4:
        return _told("boolean-as-text", "certain")
    if distinct <= COUNTRIES and (len(distinct) > 2 or hints(name, "country-code")):
        return _told("country-code", "certain" if hints(name, "country-code") else "likely", share=1.0)
    if hints(name, "postcode") and all(map(DIGITS, stripped)):
        return _told("postcode", "likely", share=1.0)
    for sort, fits in FORMS.items():
        if sum(map(fits, stripped[:_LOOKED])) < 0.8 * min(_LOOKED, len(stripped)):
            continue
        share = sum(map(fits, stripped)) / len(stripped)
        if share >= _FIT:
            return _of_form(sort, share, name, stripped)
    return _of_words(name, figures, stripped, present)


def _of_form(sort: str, share: float, name: str, stripped: list[str]) -> dict[str, Any]:
    if sort == "number-as-text" and hints(name, "phone"):
        return _told("phone", "maybe", share=share)
    if sort == "postcode" and not hints(name, "postcode") and len(set(stripped)) < 5:
        return _told("category", "maybe")
    sure = "certain" if share == 1.0 else "likely"
    if sort in ("phone", "postcode") and not hints(name, sort):
        sure = "likely" if share == 1.0 else "maybe"
    unit = ""
    if sort == "percentage-as-text":
        unit = "%"
    elif sort in ("amount-as-text", "measure-as-text"):
        units = Counter(filter(None, map(measure_unit, stripped)))
        unit = min(units, key=lambda one: (-units[one], one)) if units else ""
        sure = sure if len(units) < 2 else "likely"
    return _told(sort, sure, share=share, unit=unit, unit_sure=sure)


def _of_words(name: str, figures: Mapping[str, Any], stripped: list[str], present: int) -> dict[str, Any]:
    distinct = figures["distinct"]
    words = sum(text.count(" ") + 1 for text in stripped) / len(stripped)
    if distinct == present and present >= _MANY_ROWS and words < 2:
        return _told("id", "certain" if hints(name, "id") else "likely")
    if distinct <= _CATEGORIES and (distinct <= 0.5 * present or present < _MANY_ROWS):
        return _told("category", "certain" if distinct <= 0.1 * present else "likely")
    if words >= _FREE_WORDS and distinct > 0.5 * present:
        return _told("free-text", "likely")
    if distinct <= 0.1 * present:
        return _told("category", "likely")
    return _told("id", "maybe") if hints(name, "id") and distinct > 0.9 * present else _told("text", "certain")


def _of_numbers(name: str, figures: Mapping[str, Any], present: int) -> dict[str, Any]:
    low, high = figures["min"], figures["max"]
    are_whole = all(map(is_whole, figures["edges"])) if not figures["dtype"].startswith(("int", "uint")) else True
    unit = unit_of_name(name)
    if are_whole:
        found = _of_whole(name, figures, present)
        if found:
            return found
    elif low >= 0 and high <= 1:
        return _told("share", "likely" if hints(name, "share") else "maybe")
    for sort, limit in (("latitude", 90), ("longitude", 180)):
        if hints(name, sort) and -limit <= low and high <= limit:
            return _told(sort, "likely", unit="°", unit_sure="likely")
    if hints(name, "percentage") and low >= -100 and high <= 1000:
        return _told("percentage", "likely", unit="%", unit_sure="likely")
    if (hints(name, "amount") and not unit_of_name(name)) or unit in ("EUR", "USD", "GBP", "CHF", "JPY", "ct"):
        sure = "likely" if unit or _has_cents(figures) else "maybe"
        return _told("amount", sure, unit=unit, unit_sure="maybe")
    return _told("number", "certain", unit=unit, unit_sure="maybe")


def _of_whole(name: str, figures: Mapping[str, Any], present: int) -> dict[str, Any]:
    """Return what whole numbers are, or nothing where they are counts or measures."""
    low, high, distinct = figures["min"], figures["max"], figures["distinct"]
    if (low, high) == (0, 1) and distinct == 2:
        return _told("boolean", "likely")
    if low >= 1800 and high <= 2100 and (hints(name, "year") or (high - low >= 5 and distinct < 0.2 * present)):
        return _told("year", "certain" if hints(name, "year") else "likely")
    for unit, scale in (("s", 1), ("ms", 1e3), ("µs", 1e6), ("ns", 1e9)):
        if 8e8 * scale <= low and high <= 2.2e9 * scale:  # from 1995 to 2039
            return _told("epoch-time", "likely" if hints(name, "epoch") else "maybe", unit=unit, unit_sure="likely")
    if distinct == present and present >= _MANY_ROWS:
        is_dense = high - low < 2 * present
        if hints(name, "id") or is_dense:
            return _told("id", "certain" if hints(name, "id") and is_dense else "likely")
    if hints(name, "id") and distinct > 0.9 * present and present >= _MANY_ROWS:
        return _told("id", "maybe")
    if distinct <= 20 and distinct <= 0.05 * present:
        return _told("category", "maybe", unit=unit_of_name(name), unit_sure="maybe")
    return {}


def _has_cents(figures: Mapping[str, Any]) -> bool:
    """Tell whether the numbers at the edges have at most two places, and some have one."""
    edges = figures["edges"]
    return all(abs(round(edge, 2) - edge) < 1e-6 * max(1, abs(edge)) for edge in edges) and not all(
        map(is_whole, edges)
    )


def _cut(text: str) -> str:
    return text if text[:1] in "{[" else text[:_LONGEST]
