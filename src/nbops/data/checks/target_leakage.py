"""The check ``target-leakage``."""

from __future__ import annotations

from collections.abc import Iterator

from nbops.core.records import CheckResult
from nbops.data.leaf import Sample, checks, judged, result, skipped
from nbops.data.leakage.power import Power, noise_of, power_of, read_sides

_MEASURE = {"binary": "2 AUC − 1", "classes": "lambda", "number": "rank correlation"}


@checks.register("target-leakage")
def target_leakage(
    sample: Sample, *, fail_power: float = 0.98, warn_power: float = 0.9, warn_lead: float = 0.2, max_jump: float = 0.2
) -> Iterator[CheckResult]:
    """Columns that tell the label by themselves, or only in train.

    What it measures
        How well each column alone predicts the label on rows that it was not learned from, 0 (chance) to 1: for two
        classes 2 AUC - 1, for more Goodman and Kruskal's lambda, for numbers Spearman's rank correlation. FAIL
        above `fail_power`; WARN above `warn_power` where it also leads the next column by `warn_lead`. And the
        jump: FAIL where what it tells within train exceeds what it tells about test by `max_jump` and three
        standard errors.

    Why it matters
        A column that knows the answer was usually written after it: a discharge date, a closed account, the label
        in other words. It will be empty when the model is used. A column that knows only train's answers was
        computed from them: target encoding without folds.

    When it is wrong
        Where one column honestly decides (size decides the price of a standard part). A column shared between two
        does not lead the next one and gives no WARN below `fail_power`. Combinations of columns are not looked at.

    Fix
        Ask when the column is known. Drop it if that is after the label; compute encodings within the folds of train.

    References
        Kaufman, Rosset, Perlich and Stitelman, "Leakage in data mining", ACM TKDD 6(4), 2012.
        Goodman and Kruskal, "Measures of association for cross classifications", JASA 49, 1954.
    """
    label, train = sample.label, sample.reference
    if train is None or label is None:
        what = "train data" if train is None else "label"
        yield skipped(f"no {what} was given", fix="Use nb.leaks(train, test, label=…).")
        return
    sides = read_sides(train, sample.frame, label.name)
    if isinstance(sides, str):
        yield skipped(sides)
        return
    names = [name for name in sample.frame.names if name in train.names and name != label.name]
    found = {name: power for name in names if (power := power_of(sides, name)) is not None}
    best = sorted((power.train for power in found.values()), reverse=True)
    measure, noise = _MEASURE[sides.label.kind], noise_of(sides.label)
    for name, power in found.items():
        if power.jump > max(max_jump, noise):
            yield _jump(name, power, measure, max(max_jump, noise))
            continue
        lead = power.train - next((other for other in (best[1:] if power.train == best[0] else best[:1])), 0.0)
        is_lonely = power.train > warn_power and lead >= warn_lead
        yield judged(
            power.train,
            warn=warn_power if is_lonely else None,
            fail=fail_power,
            column=name,
            message=f"the column alone tells the label: {measure} = {power.train:.3f} (next column: "
            f"{max(0.0, power.train - lead):.3f})",
            fix="Ask when this column is known; drop it if that is after the label.",
            evidence={"train": power.train, "test": power.test, "measure": measure},
        )


def _jump(name: str, power: Power, measure: str, limit: float) -> CheckResult:
    return result(
        "fail",
        column=name,
        value=power.jump,
        limit=limit,
        message=f"the column tells the label in train ({measure} {power.train:.3f}) but not in test ({power.test:.3f})",
        fix="Compute it without the labels of the same rows: within folds of train.",
        evidence={"train": power.train, "test": power.test, "measure": measure},
    )
