"""The cases cover all rules, and what rules say of themselves is whole."""

from __future__ import annotations

import inspect
import re

from nbops.core.records import Cause
from nbops.debugging.causes import CAUSES, fix_of, likely
from nbops.debugging.rules import rules
from ruleset import test_flow, test_inputs, test_loops, test_outputs, test_rates, test_targets

CASES = [
    case for one in (test_flow, test_inputs, test_loops, test_outputs, test_rates, test_targets) for case in one.CASES
]
SECTIONS = ("What it measures", "Why it matters", "When it is wrong", "Fix", "References")
OWN = sorted(name for name in rules if rules[name].__module__.startswith("nbops."))


def test_every_rule_has_a_sick_case_and_a_healthy_one() -> None:
    assert {case.rule for case in CASES} == set(OWN)
    names = [str(case) for case in CASES]
    assert len(names) == len(set(names))


def test_docstring_has_its_five_sections_in_order() -> None:
    for name in OWN:
        text = inspect.getdoc(rules[name]) or ""
        assert re.findall(r"^([A-Z][a-z ]+)$", text, re.MULTILINE) == list(SECTIONS), name
        assert all(part.strip() for part in re.split(rf"^(?:{'|'.join(SECTIONS)})$", text, flags=re.MULTILINE)), name
        assert text.startswith("Find "), name


def test_cause_says_what_it_is_how_to_tell_and_what_to_do() -> None:
    for name, known in CAUSES.items():
        assert all((known.text, known.test, known.fix)), name
        assert not known.text.endswith("."), name  # it follows "Most likely"
        assert known.fix[0].isupper(), name
        assert known.fix.endswith("."), name
        assert fix_of(name) == known.fix


def test_causes_that_rules_name_are_known() -> None:
    """Also those of branches that no case takes."""
    for rule in OWN:
        module = inspect.getmodule(rules[rule])
        assert module
        for call in re.findall(r"likely\(([^#]*?)\)", inspect.getsource(module)):
            assert set(re.findall(r'"([a-z]+(?:-[a-z]+)+)"', call)) <= CAUSES.keys()


def test_likely_causes_fall_in_confidence() -> None:
    found = likely("lr-too-high", "exploding-gradient", "lr-too-high", first=0.8, fix="Do this.")
    assert [(c.name, c.confidence) for c in found] == [("lr-too-high", 0.8), ("exploding-gradient", 0.4)]
    assert [c.fix for c in found] == ["Do this.", CAUSES["exploding-gradient"].fix]
    assert all(isinstance(c, Cause) and c.test for c in found)
