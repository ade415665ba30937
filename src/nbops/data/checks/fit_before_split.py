"""The check ``fit-before-split``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nbops.core.records import CheckResult
from nbops.data.leaf import Sample, checks, result, skipped
from nbops.data.leakage.code import learned_before_split
from nbops.data.leakage.fitted import Verdict, judged_objects

_PIPELINE = "Fit on train only: put it into a Pipeline, or fit(train) and transform both."


@checks.register("fit-before-split")
def fit_before_split(sample: Sample, *, fitted: Any = None, code: bool = True) -> Iterator[CheckResult]:
    """Scalers, imputers, selections and copies that saw the test rows before the split.

    What it measures
        Objects given as `fitted`: a copy of each is fitted on train, on train and test together and on test, and what
        was learned is compared. FAIL where it is that of both together, or of test. With `code`, the cells that ran
        (the script, outside of a notebook), back from the split that made train and test: WARN for statements that
        learn numbers from all rows (scaling, imputing, components, words), FAIL for those that also use the labels or
        copy rows (selection, target encoding, figures of groups, resampling).

    Why it matters
        The mean, the chosen columns or a copied row carry the test rows into training. With selection or copies, noise
        gets a splendid score.

    When it is wrong
        Scaling by the mean of many rows changes a score by nearly nothing; it is still not what will happen in use.
        Objects with chance in them can be told only by what they learn without it. Code inside of functions of other
        modules is not read.

    Fix
        Split first. fit on train only, or put it into a Pipeline, which does so in each fold.

    References
        Kapoor and Narayanan, "Leakage and the reproducibility crisis in ML-based science", 2023: L1.2, L1.3.
        Yang et al., "Data leakage in notebooks: static detection and better processes", ASE 2022.
    """
    train = sample.reference
    if train is None:
        yield skipped("no train data was given", fix="Use nb.leaks(train, test, fitted=…).")
        return
    yield from _of_objects(fitted, train, sample) if fitted is not None else ()
    learned = learned_before_split() if code else []
    for one in learned:
        said = f"{one.what}, before the split in {one.split}: {one.code}"
        yield result("fail" if one.is_grave else "warn", column=one.where, message=said, fix=_PIPELINE,
                     evidence={"code": one.code, "split": one.split})  # fmt: skip
    if not learned and fitted is None:
        yield result("pass", message="no statement that ran before a split learns from its rows") if code else skipped(
            "nothing fitted was given", fix="Pass fitted=: the scaler, the imputer, the pipeline.")  # fmt: skip


def _of_objects(fitted: Any, train: Any, sample: Sample) -> Iterator[CheckResult]:
    said = {
        "train": ("pass", "was fitted on train alone"),
        "either": ("pass", "learned the same on train as on train and test together"),
        "both": ("fail", "was fitted on train and test together"),
        "test": ("fail", "was fitted on test"),
        "other": ("skipped", "was fitted neither on train nor on train and test: on other rows, or with chance"),
    }
    for one in fitted if _is_judged(fitted) else judged_objects(fitted, train, sample.frame):
        verdict, words = said[one.on]
        why = f": {one.attribute} is {one.said}" if one.attribute and one.on != "train" else ""
        yield result(verdict, column=one.name, message=f"{one.name} {words}{why}",
                     fix=_PIPELINE if verdict == "fail" else "", evidence={"fitted_on": one.on})  # fmt: skip


def _is_judged(fitted: Any) -> bool:
    return isinstance(fitted, list) and all(isinstance(one, Verdict) for one in fitted)
