"""`nb.learn`: rules from a healthy table, each tried on parts that it was not learned from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from nbops.core.errors import InvalidInput
from nbops.core.records import Dataset, Verdict
from nbops.data import expect
from nbops.data.columns import Frame
from nbops.data.datasets import read_data
from nbops.data.frames import read
from nbops.data.learned.columns import column_options
from nbops.data.learned.relations import relation_options
from nbops.data.learned.trials import BLOCKS, Option, Trials, changed, random_trials, time_trials
from nbops.data.rules.facts import Facts
from nbops.data.rules.judging import judge_all
from nbops.data.suite import Dropped, Suite

FEWEST_ROWS = 40


def learn(
    baseline: Any, *, false_alarm_rate: float = 0.01, time: str | None = None, folds: int = BLOCKS,
    label: Any = None, name: str = "",
) -> Suite:  # fmt: skip
    """Learn rules from a healthy table: types, missing shares, domains, ranges, patterns, keys, order, dependencies.

    Each rule is back-tested: it is learned from one part of the table and tried on another, some hundred times; limits
    are widened until at most `false_alarm_rate` of the trials call healthy rows wrong, and a rule that cannot be kept
    below it is left out. Parts are random halves, or with `time` what came before a moment and what came after.
    The same table gives the same rules.

    Parameters
    ----------
    baseline
        What `nb.check` takes: data, or the name of a stored dataset. At least 40 rows.
    false_alarm_rate : float
        Largest estimated share of healthy tables that one rule may call wrong, 0.0005 to 0.5.
    time : str, optional
        Column of time. Without it, rows are taken to be in no order: of data that drifts, rates are then too low.
    folds : int
        Number of blocks that the rows are put into.
    label : str or array, optional
        The label: its rules hold in the environment ``training`` only.
    name : str, optional
        What to call the suite.

    Returns
    -------
    Suite
        Each rule has `false_alarms`, its estimated rate; the suite has that of all rules together, and `dropped`.

    Raises
    ------
    InvalidInput
        Fewer than 40 rows, or a rate or number of folds that cannot be used.
    NotFound
        A column or dataset that is not there.
    """
    if not 0.0005 <= false_alarm_rate <= 0.5:
        raise InvalidInput(f"false_alarm_rate is {false_alarm_rate}", hint="Give a share from 0.0005 to 0.5.")
    if folds < 4:
        raise InvalidInput(f"folds is {folds}", hint="Give 4 or more.")
    frame = read(read_data(baseline) if isinstance(baseline, str | Dataset) else baseline, label=label)
    if frame.rows < FEWEST_ROWS:
        raise InvalidInput(f"{frame.rows} rows are too few to learn from", hint=f"Give at least {FEWEST_ROWS} rows.")
    facts = Facts(frame)
    trials = _trials(facts, time, false_alarm_rate, folds)
    kept: list[Option] = []
    dropped: list[Dropped] = []
    for options in _options(frame, facts, trials):
        found = _strictest(options, facts, trials)
        if isinstance(found, Dropped):
            dropped.append(found)
        elif found is not None:
            kept.append(found)
    alarms = np.logical_or.reduce([option.alarms for option in kept]) if kept else trials.quiet()
    rules = [_of_label(option, frame.label) for option in kept]
    return Suite(*rules, name=name, false_alarms=trials.rate(alarms), dropped=dropped)


def _strictest(options: Iterable[Option], facts: Facts, trials: Trials) -> Option | Dropped | None:
    """Return the first option that is seldom enough wrong, with its rate; else the best as dropped; None for none."""
    best: Dropped | None = None
    for option in options:
        rate = trials.rate(option.alarms)
        if rate <= trials.limit and _holds(option, facts):
            return Option(changed(option.rule, false_alarms=rate), option.alarms)
        if best is None or rate < best.false_alarms:
            best = Dropped(option.rule, rate)
    return best


def _trials(facts: Facts, time: str | None, rate: float, folds: int) -> Trials:
    if time is None:
        return random_trials(facts.rows, false_alarm_rate=rate, blocks=folds)
    column = facts.column(time)
    if column.offsets is not None or column.is_tensor or column.missing_count:
        gaps = " with gaps" if column.missing_count else ""
        raise InvalidInput(f"column '{time}' holds {column.dtype}{gaps}, not times",
                           hint="Convert it to dates, and drop rows without one.")  # fmt: skip
    trials = time_trials(column.values, false_alarm_rate=rate, blocks=folds)
    if 1 / (len(trials.learned) + 1) > rate:
        raise InvalidInput(f"{folds} folds give {len(trials.learned)} trials, too few to tell a rate of {rate}",
                           hint="Raise folds or false_alarm_rate.")  # fmt: skip
    return trials


def _options(frame: Frame, facts: Facts, trials: Trials) -> Iterator[Iterable[Option]]:
    names = tuple(column for column in frame.names if column != frame.label)
    if names:
        yield [Option(expect.HasColumns(names), trials.quiet())]
    for column in frame.names:
        yield from column_options(facts, column, trials)
    yield from relation_options(facts, trials, label=frame.label)


def _holds(option: Option, facts: Facts) -> bool:
    """Tell whether the rule holds for the whole table that it was learned from: samples and rounding could lie."""
    return all(found.verdict is Verdict.PASS for found in judge_all([option.rule], facts))


def _of_label(option: Option, label: str) -> Any:
    is_about_label = bool(label) and label in option.rule.needs
    return changed(option.rule, environments=("training",)) if is_about_label else option.rule
