"""The crash list: each sick program is found at its line with the right remedy, its healthy twin is left alone."""

from __future__ import annotations

from pathlib import Path

import crash_list
import pytest
import torch
from crash_list import PROGRAMS, Program

from nbops.debugging.causes import CAUSES, STRUCTURAL
from nbops.debugging.diffs import fits
from nbops.debugging.preflight.found import checks

# what the checks of preflight name beside the causes that a watch knows
ELSEWHERE = {"causal-mask-missing", "positions-missing", "targets-not-shifted", "padding-read", "mask-inverted",
             "class-weights-wrong"}  # fmt: skip
NAMES = {*CAUSES, *STRUCTURAL, *ELSEWHERE}
SOURCES = [file.read_text(encoding="utf-8") for file in Path(crash_list.__file__).parent.glob("*.py")]
each = pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.name)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@each
def test_sick_program_is_found_and_located(program: Program) -> None:
    report = program.make(True)
    found = [d for d in report.findings if d.name == program.check]
    assert found, report
    first = found[0]
    assert first.status == program.status
    assert program.layer is None or first.layer == program.layer
    assert program.line() is None or (first.line == program.line() and first.code)
    assert first.expected
    assert first.got
    said = " ".join([first.fix, *(text for c in first.causes for text in (c.text, c.fix, c.patch, c.example))])
    for words in program.says:
        assert any(word in said for word in words.split("|")), said
    for cause in [c for d in report.findings for c in d.causes]:
        assert cause.name in NAMES, cause
        assert not cause.patch or any(fits(text, cause.patch) for text in SOURCES), cause
    if program.status == "error":
        assert report.errors[0].name == program.check  # what is told first is the cause
    assert [s for s in report.stages if s.verdict == "error"] == []


@each
def test_healthy_twin_is_left_alone(program: Program) -> None:
    report = program.make(False)
    assert [d for d in report.findings if d.status != "hint"] == [], report
    assert [s for s in report.stages if s.verdict == "error"] == []


def test_every_check_has_a_program() -> None:
    assert set(checks) - {program.check for program in PROGRAMS} == set()
