"""Verbs of rules: learn, quarantine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbops.verbs.grammar import Call, argument, verb


@verb(
    "learn",
    argument("variable", "a healthy table: a variable of the notebook", completes="variables"),
    argument("--false-alarms", "largest share of healthy tables that a rule may call wrong", kind=float, default=0.01,
             values="SHARE"),
    argument("--time", "the column of time: rules are tried on later rows than they were learned from",
             values="COLUMN"),
    argument("--label", "the label column", values="COLUMN"),
    examples=("%mlops learn df", "%mlops learn df --time day --false-alarms 0.001"),
    is_notebook_only=True,
)  # fmt: skip
def learn(call: Call, *, variable: str, false_alarms: float, time: str | None, label: str | None) -> Any:
    """Learn rules from a healthy table, and put them as code into the next cell."""
    table = call.variable(variable)
    from nbops.data.learning import learn as learn_rules
    from nbops.debugging.live.inserting import insert_below

    suite = learn_rules(table, false_alarm_rate=false_alarms, time=time, label=label)
    if not insert_below(suite.to_code()):
        print(suite.to_code())
    return suite


def suite_of(call: Call, name: str) -> Any:
    """Return the suite of a YAML file, or of a variable of the notebook.

    Raises
    ------
    InvalidInput
        The file cannot be read, or holds no suite.
    UsageError
        There is no such variable.
    """
    if name.endswith((".yaml", ".yml")):
        from nbops.data.suite import Suite

        return Suite.from_yaml(Path(name))
    return call.variable(name)


@verb(
    "quarantine",
    argument("variable", "the table: a variable of the notebook", completes="variables"),
    argument("--suite", "the rules: a variable that holds a suite, or a YAML file; all checks without it",
             completes="variables", values="SUITE"),
    argument("--baseline", "what to compare with: a variable, or a dataset", completes="tables", values="DATA"),
    examples=("%mlops quarantine df --suite suite", "%mlops quarantine df --baseline digits/1"),
    is_notebook_only=True,
)  # fmt: skip
def quarantine(call: Call, *, variable: str, suite: str | None, baseline: str | None) -> Any:
    """Split a table into rows that keep all rules and rows that do not."""
    table = call.variable(variable)
    rules = suite_of(call, suite) if suite is not None else None
    from nbops.data.quarantining import quarantine as split

    known = call.namespace or {}
    reference = call.variable(baseline) if baseline is not None and baseline.partition(".")[0] in known else baseline
    return split(table, suite=rules, baseline=reference)
