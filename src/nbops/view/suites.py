"""Cards of suites of rules, and of data in quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbops.core.display import Bundle
from nbops.core.records import CheckResult
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Chip, Grid, Key, Mono, Note, Part, chip
from nbops.view.format import cut, plural, quantity

if TYPE_CHECKING:
    from nbops.data.quarantining import Quarantine
    from nbops.data.rules.base import Rule
    from nbops.data.suite import Suite

_RULES_SHOWN = 40
_REASONS_SHOWN = 12


def show_suite(value: Suite) -> Bundle:
    """Draw a `Suite`: one line a rule, what it allows, and how often it would be wrong."""
    is_learned = any(rule.false_alarms is not None for rule in value.rules)
    rows = tuple(_line(rule, is_learned) for rule in value.rules[:_RULES_SHOWN])
    head = ("rule", "column", "expects", "if broken", *(("false alarms",) if is_learned else ()))
    left = len(value.rules) - len(rows)
    more = f"… and {plural(left, 'more rule')}" if left > 0 else ""
    right = frozenset({4}) if is_learned else frozenset[int]()
    parts: list[Part] = [Grid(head, rows, right, more=more)] if rows else []
    if value.checks:
        parts.append(Note(f"and the checks {', '.join(value.checks)}", "dim"))
    if value.dropped:
        named = ", ".join(
            f"{one.rule.code} of {one.rule.about} ({quantity(one.false_alarms, 'share')})" for one in value.dropped[:6]
        )
        more = f" and {len(value.dropped) - 6:,} more" if len(value.dropped) > 6 else ""
        parts.append(Note(f"left out, for they would be wrong too often: {named}{more}", "dim"))
    facts: tuple[str, ...] = (plural(len(value.rules), "rule"),)
    if value.false_alarms is not None:
        facts += (f"together ≤ {quantity(value.false_alarms, 'share')} false alarms, estimated",)
    actions = ("nb.check(df, suite=suite)", "print(suite.to_code())")
    return bundle(Card(value.name or "suite", None, "", facts, parts=tuple(parts), actions=actions))


def _line(rule: Rule, is_learned: bool) -> tuple[Any, ...]:
    from nbops.data.rules.base import OPTIONS  # when a suite is shown it is loaded; views are listed without it

    said = {name: getattr(rule, name) for name in rule.__struct_fields__
            if name not in (*OPTIONS, "column", "columns")}  # fmt: skip
    wanted = [
        f"{name.replace('_', ' ')} {_plain(item)}"
        for name, item in said.items()
        if item is not None and item is not False and item != ""
    ]
    wanted += [f"for up to {quantity(rule.max_share, 'share')} not"] if rule.max_share else []
    wanted += [f"when {rule.when}"] if rule.when else []
    wanted += [f"by {rule.by}"] if rule.by else []
    wanted += [f"in {', '.join(rule.environments)}"] if rule.environments else []
    rate = (quantity(rule.false_alarms, "share"),) if is_learned else ()
    return (rule.code, Mono(cut(rule.about, 40)), cut(", ".join(wanted), 60), rule.severity, *rate)


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value)
    if isinstance(value, bool):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else getattr(value, "__name__", str(value))


def rules_grid(found: Sequence[CheckResult]) -> Grid:
    """Return the table of broken rules: how much is wrong, how much may be, and what was found."""
    rows = tuple((f"{chip(r.verdict).sign} {r.check}", Mono(cut(r.column, 30)), quantity(r.value, r.unit),
                  quantity(r.limit, r.unit), cut(r.message, 100)) for r in found[:_RULES_SHOWN])  # fmt: skip
    left = len(found) - len(rows)
    more = f"… and {plural(left, 'more rule')}" if left > 0 else ""
    return Grid(("rule", "column", "wrong", "allowed", "what was found"), rows, frozenset({2, 3}), more=more)


def show_quarantine(value: Quarantine) -> Bundle:
    """Draw a `Quarantine`: how many rows passed and failed, and which rules put them there."""
    bad = len(value.positions)
    keys = (Key(f"{value.rows - bad:,}", "rows passed"), Key(f"{bad:,}", "rows in quarantine"))
    rows = tuple((found.result.check, Mono(found.result.column), f"{len(found.positions):,}",
                  cut(found.result.message, 70))
                 for found in value.findings[:_REASONS_SHOWN])  # fmt: skip
    left = len(value.findings) - len(rows)
    parts: list[Part] = []
    if rows:
        parts.append(Grid(("rule", "column", "rows", "why"), rows, frozenset({2}),
                          more=f"… and {plural(left, 'more rule')}" if left > 0 else ""))  # fmt: skip
    for found in value.remaining[:_REASONS_SHOWN]:
        where = f" ({found.column})" if found.column else ""
        parts.append(Note(f"No row is to blame: {found.check}{where}: {found.message}. {found.fix}", "bad"))
    state = chip("fail", "wrong beyond its rows") if value.remaining else (
        Chip("!", f"{plural(bad, 'row')} in quarantine", "warn") if bad
        else chip("pass", "every row passed"))  # fmt: skip
    actions = (".passed", ".failed", ".reasons") if bad else ()
    return bundle(Card("quarantine", state, "", (plural(value.rows, "row"),), keys, tuple(parts), actions))
