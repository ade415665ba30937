"""`nb.Suite`: rules as data, which are written to YAML and to Python and read back."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from nbops.core.display import Shown
from nbops.core.errors import InvalidInput, did_you_mean
from nbops.data import expect
from nbops.data.rules.base import OPTIONS, Rule
from nbops.data.rules.relations import FoundIn
from nbops.data.rules.tables import Holds

__all__ = ["Dropped", "Suite", "expect"]

VERSION = 1  # of the YAML form


@dataclass(frozen=True)
class Dropped:
    """A rule that `nb.learn` did not keep, and why."""

    rule: Rule
    false_alarms: float


@dataclass(frozen=True, init=False)
class Suite(Shown):
    """Rules that data must keep: ``nb.check(df, suite=suite)``, ``nb.quarantine(df, suite=suite)``.

    Parameters
    ----------
    *rules : Rule
        From `nb.expect`: ``expect.Unique("id"), expect.InRange("age", low=0, high=120)``.
    name : str
        What to call it.
    checks : mapping or sequence, optional
        Checks to run beside the rules: names, or names with thresholds.

    Attributes
    ----------
    false_alarms : float or None
        Estimated share of healthy tables that break any of the rules; of a suite that `nb.learn` made.
    dropped : tuple of Dropped
        What `nb.learn` tried and did not keep.
    """

    rules: tuple[Rule, ...]
    name: str = ""
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    false_alarms: float | None = None
    dropped: tuple[Dropped, ...] = field(default=(), compare=False)

    def __init__(
        self, *rules: Rule, name: str = "", checks: Mapping[str, Mapping[str, Any]] | Sequence[str] | None = None,
        false_alarms: float | None = None, dropped: Sequence[Dropped] = (),
    ) -> None:  # fmt: skip
        for rule in rules:
            if not isinstance(rule, Rule):
                if isinstance(rule, list | tuple):
                    raise InvalidInput("a list is no rule", hint="Write a star before it: nb.Suite(*rules).")
                raise InvalidInput(
                    f"a {type(rule).__name__} is no rule", hint="Make rules with nb.expect, as expect.Unique('id')."
                )
        named: Mapping[str, Mapping[str, Any]] = (
            checks if isinstance(checks, Mapping) else {key: {} for key in checks or ()}
        )
        if not rules and not named:
            raise InvalidInput("the suite is empty", hint="Give it rules of nb.expect, as expect.Unique('id').")
        values = (
            tuple(rules),
            name,
            {key: dict(options) for key, options in named.items()},
            false_alarms,
            tuple(dropped),
        )
        for attribute, value in zip(self.__dataclass_fields__, values, strict=True):
            object.__setattr__(self, attribute, value)

    def __len__(self) -> int:
        return len(self.rules)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)

    def __repr__(self) -> str:
        return f"Suite({self.name!r}, {len(self.rules)} rules)" if self.name else f"Suite({len(self.rules)} rules)"

    def to_yaml(self, path: str | Path | None = None) -> str:
        """Return the suite as YAML, and write it to `path` if there is one.

        Raises
        ------
        InvalidInput
            A rule with a function, or with data of another table: those can only be code.
        """
        import yaml

        for rule in self.rules:
            if isinstance(rule, Holds) or (isinstance(rule, FoundIn) and not isinstance(rule.other, str)):
                raise InvalidInput(f"rule {rule.code} holds what YAML cannot: {_unwritable(rule)}",
                                   hint="Use to_code(); or snapshot the other table, and name it.")  # fmt: skip
        content: dict[str, Any] = {"suite": VERSION}
        content |= {"name": self.name} if self.name else {}
        content |= {"false_alarms": self.false_alarms} if self.false_alarms is not None else {}
        content |= {"checks": self.checks} if self.checks else {}
        content |= {"rules": [msgspec.to_builtins(rule) for rule in self.rules]}
        text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
        return _written(text, path)

    @classmethod
    def from_yaml(cls, source: str | Path) -> Suite:
        """Return the suite that a YAML text, or a file, holds.

        Raises
        ------
        InvalidInput
            It cannot be read, or holds an unknown rule or option.
        """
        import yaml

        is_path = isinstance(source, Path) or ("\n" not in source and source.endswith((".yaml", ".yml")))
        try:
            content = yaml.safe_load(Path(source).read_text("utf-8") if is_path else str(source))
        except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
            said = str(error).replace("\n", " ")
            raise InvalidInput(f"the suite cannot be read: {said}", hint="Correct the YAML, or the path.") from None
        if not isinstance(content, dict) or not isinstance(content.get("rules", []), list):
            raise InvalidInput("the YAML holds no suite", hint="Write 'rules:', and below it a list of rules.")
        return cls(
            *(_rule(item, number) for number, item in enumerate(content.get("rules", []), 1)),
            name=str(content.get("name", "")), checks=content.get("checks"), false_alarms=content.get("false_alarms"),
        )  # fmt: skip

    def diff(self, before: Suite) -> str:
        """Return what changed since another suite, as a diff of their code; "" for nothing. Rates do not count."""
        old, new = ([rule_code(rule) for rule in suite.rules] for suite in (before, self))
        found = difflib.unified_diff(old, new, "before", "now", lineterm="", n=0)
        return "\n".join(line for line in found if not line.startswith("@@"))

    def to_code(self, path: str | Path | None = None) -> str:
        """Return Python that makes the suite, to edit and to run; written to `path` if there is one.

        Functions are named, not written: define them above.
        """
        lines = ["import nbops as nb", "from nbops.data import expect", "", "suite = nb.Suite("]
        for rule in self.rules:
            noted = "" if rule.false_alarms is None else f"  # {_rate(rule.false_alarms)}"
            lines.append(f"    {rule_code(rule)},{noted}")
        lines += [f"    name={self.name!r},"] if self.name else []
        lines += [f"    checks={self.checks!r},"] if self.checks else []
        return _written("\n".join([*lines, ")", ""]), path)


def _rate(share: float) -> str:
    return f"false alarms ≤ {100 * share:.2g} %" if share else "no false alarm seen"


def rule_code(rule: Rule) -> str:
    """Return one rule as Python: what differs from the defaults."""
    fields = {name: getattr(rule, name) for name in rule.__struct_fields__}
    first = [name for name in ("column", "columns") if name in fields]
    shown = [_value(fields.pop(name)) for name in first]
    defaults = dict(zip(reversed(rule.__struct_fields__), reversed(rule.__struct_defaults__), strict=False))
    ordered = [name for name in fields if name not in OPTIONS] + [name for name in OPTIONS if name in fields]
    for name in ordered:
        value = fields[name]
        if name != "false_alarms" and not (name in defaults and defaults[name] == value):
            shown.append(f"{name}={_value(value)}")
    return f"expect.{type(rule).__name__}({', '.join(shown)})"


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, str | int | float | bool | None):
        return repr(value)
    return getattr(value, "__name__", f"other_{type(value).__name__.lower()}")


def _unwritable(rule: Rule) -> str:
    return "a function" if isinstance(rule, Holds) else f"a table for '{rule.about}'"


def _rule(item: Any, number: int) -> Rule:
    if not isinstance(item, dict) or item.get("rule") not in expect.KINDS:
        said = item.get("rule") if isinstance(item, dict) else item
        raise InvalidInput(f"rule {number}: no rule {said!r}", hint=did_you_mean(str(said), expect.KINDS)
                           or f"Use one of: {', '.join(expect.KINDS)}.")  # fmt: skip
    try:
        return msgspec.convert(_plain(item), expect.KINDS[item["rule"]], strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"rule {number} ({item['rule']}): {error}", hint="Compare it with nb.expect.") from None


def _plain(value: Any) -> Any:
    """Return what YAML gave with dates as ISO text, as rules hold them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else value


def _written(text: str, path: str | Path | None) -> str:
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text
