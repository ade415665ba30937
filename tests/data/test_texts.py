"""Checks of running texts: each on texts with one fault, and on real documentation without any."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nbops as nb
from nbops.core.records import CheckResult
from nbops.data.frames import read
from nbops.data.leaf import Located, Sample
from nbops.data.text.reading import scripts_of, unknown_share, words_of
from nbops.store.workspace import Workspace

TEXT_CHECKS = ("broken-text", "cut-text", "near-duplicate-texts", "text-shift")


def sentences(*modules: Any) -> list[str]:
    """Return the first paragraphs of what modules document: real texts of many lengths."""
    found: dict[str, str] = {}
    for module in modules:
        for _, member in inspect.getmembers(module):
            for paragraph in (inspect.getdoc(member) or "").split("\n\n"):
                text = " ".join(paragraph.split())
                if len(text) > 40 and not any(mark in text for mark in ("<", ">>>", "&")):
                    found.setdefault("".join(filter(str.isalnum, text.lower())), text)
    return list(found.values())


REAL = sentences(np, np.linalg, pd, pd.DataFrame)[:1500]


def run(check: str, data: Any, *, label: Any = None, baseline: Any = None) -> list[CheckResult]:
    reference = None if baseline is None else read(baseline)
    outcome: Any = nb.checks[check](Sample(read(data, label=label), reference=reference))
    return [outcome] if isinstance(outcome, CheckResult) else list(outcome)


def rows(found: CheckResult) -> list[int]:
    return np.flatnonzero(found.mask()).tolist() if isinstance(found, Located) else []


def test_real_texts_are_quiet(workspace: Workspace) -> None:
    assert len(REAL) == 1500
    table = pd.DataFrame({"text": REAL, "y": np.arange(1500) % 3})
    other = pd.DataFrame({"text": REAL[::-1], "y": np.arange(1500) % 3})
    report = nb.check(table, label="y", baseline=other)
    assert {(r.check, r.message) for r in report.results if r.check in TEXT_CHECKS and r.verdict == "warn"} == set()
    mixed = np.random.default_rng(0).permutation(REAL).tolist()
    assert {r.verdict for r in run("text-shift", {"text": mixed[:700]}, baseline={"text": mixed[700:]})} == {"pass"}


@pytest.mark.parametrize("word", ["é", "ü", "ñ", "’", "“", "–", "å", "ç"])
def test_what_was_decoded_twice_is_found(word: str) -> None:
    good = [f"das Wort {word} steht hier", "São Paulo, SÃO PAULO, Äpfel", "naïve café – “ok”", "日本語 Ελλάς"]
    twice = [good[0].encode().decode("cp1252"), good[0].encode().decode("latin-1")]
    (found, *_) = run("broken-text", {"t": [*good, *twice]})
    assert (found.verdict, rows(found)) == ("warn", [4, 5])
    assert run("broken-text", {"t": good})[0].verdict == "pass"


def test_left_over_markup_is_found_and_a_column_of_pages_is_not() -> None:
    table = [
        *REAL[:50],
        "Fish &amp; chips are on the menu",
        "line one<br/>line two of the text",
        "if a < b and c > d: no",
    ]
    _, found = run("broken-text", {"t": table})
    assert (found.verdict, rows(found)) == ("warn", [50, 51])
    pages = [f"<p>{text}</p>" for text in REAL[:50]]
    assert run("broken-text", {"t": pages})[1].verdict == "pass"
    assert run("broken-text", {"t": ["<b>", "a", "b"] * 9})[0].verdict == "pass"  # no running texts


@pytest.mark.parametrize("unit", ["characters", "bytes"])
def test_texts_that_a_field_cuts_off_are_found(unit: str) -> None:
    whole = [text.replace("e", "é") for text in REAL]
    cut = [text[:120] if unit == "characters" else text.encode()[:120].decode("utf-8", "ignore") for text in whole]
    (found,) = run("cut-text", {"t": cut})
    assert found.verdict == "warn"
    assert f"have exactly 120 {unit} (" in found.message
    assert run("cut-text", {"t": whole})[0].verdict == "pass"
    assert run("cut-text", {"t": [f"{n:030}" for n in range(500)]})[0].verdict == "pass"  # codes of one length


def test_texts_with_other_spaces_and_capitals_are_found_and_their_labels_compared() -> None:
    table = [*REAL[:100], REAL[3].upper(), f"  {REAL[5]}!", REAL[7]]
    labels = ["a"] * 103
    labels[5] = "b"
    near, torn = run("near-duplicate-texts", (pd.DataFrame({"t": table}), np.array(labels)))
    assert (near.verdict, rows(near)) == ("warn", [100, 101])
    assert (torn.verdict, rows(torn)) == ("warn", [5, 101])
    assert [one.verdict for one in run("near-duplicate-texts", {"t": REAL[:100]})] == ["pass"]


def test_another_script_and_other_words_are_found() -> None:
    greek = [text.translate(str.maketrans("abgdeziklmnoprstufxhw", "αβγδεζικλμνοπρστυφχηω")) for text in REAL[:200]]
    script, words = run("text-shift", {"t": greek}, baseline={"t": REAL})
    assert (script.verdict, words.verdict) == ("warn", "warn")
    assert script.message.startswith("Greek has ")
    shifted = [" ".join(word[::-1] for word in text.split()) for text in REAL[:200]]
    script, words = run("text-shift", {"t": shifted}, baseline={"t": REAL})
    assert (script.verdict, words.verdict) == ("pass", "warn")
    assert run("text-shift", {"t": REAL})[0].verdict == "skipped"


def test_scripts_and_words_are_counted() -> None:
    assert scripts_of(["abcж", "漢字"]) == {"LATIN": 0.5, "CJK": 2 / 6, "CYRILLIC": 1 / 6}
    assert scripts_of(["12 !"]) == {}
    assert words_of(["The cat, the DOG", "a cat"]) == {"the": 2, "cat": 2, "dog": 1}
    assert unknown_share(words_of(["the cat sat"]), ["the", "cat"]) == pytest.approx(1 / 3)


@pytest.mark.parametrize("values", [[], [None, None], [""] * 60, ["x" * 40] * 60, [None, "é" * 30] * 40])
def test_odd_columns_are_answered(values: list[Any], workspace: Workspace) -> None:
    table = pd.DataFrame({"t": pd.array(values, dtype="string"), "n": np.arange(len(values))})
    report = nb.check(table, baseline=table if len(values) else None)
    assert not [r.message for r in report.results if r.verdict == "error"]
