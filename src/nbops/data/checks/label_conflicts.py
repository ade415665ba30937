"""The check ``label-conflicts``."""

from __future__ import annotations

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.columns import Frame, Hashes
from nbops.data.leaf import Sample, checks, judged, percent, skipped
from nbops.data.splits.identity import identities


@checks.register("label-conflicts")
def label_conflicts(sample: Sample, *, max_share: float = 0.0, fail_share: float = 0.02) -> CheckResult:
    """Rows with the same features and another label.

    What it measures
        The share of rows of train and test together that equal another row in every column but the label, and differ
        from it in the label. WARN above `max_share`, FAIL above `fail_share`.

    Why it matters
        No model can be right about both rows: the share is an upper bound of the score, and a sign that labels were
        guessed, changed over time, or joined to the wrong rows. Across the split it hides duplicates from
        comparisons of whole rows.

    When it is wrong
        Where the label is chance given the features, as whether a client with these few answers pays back. Numbers
        with noise hardly ever repeat, so labels that are quantities seldom conflict.

    Fix
        Look at the pairs: correct the label, add the column that tells them apart, or drop them.

    References
        Northcutt, Jiang and Chuang, "Confident learning", JAIR 70, 2021.
    """
    label = sample.label
    if label is None:
        return skipped("no label was given", fix="Use nb.leaks(train, test, label=…).")
    frames = [sample.frame] if sample.reference is None else [sample.frame, sample.reference]
    if any(label.name not in frame.names for frame in frames):
        return skipped(f"train has no label column '{label.name}'")
    names = sorted(set.intersection(*(set(frame.names) for frame in frames)) - {label.name})
    if not names:
        return skipped("there is no column beside the label")
    features = np.concatenate([_over(frame, names) for frame in frames])
    labels = np.concatenate([_over(frame, [label.name]) for frame in frames])
    ids, of = np.unique(features, return_inverse=True)
    order = np.lexsort((labels, of))
    changes = (np.diff(of[order]) == 0) & (np.diff(labels[order]) != 0)
    bad = np.zeros(len(ids), np.bool_)
    bad[of[order][1:][changes]] = True
    rows = np.flatnonzero(bad[of])
    share = len(rows) / len(features) if len(features) else 0.0
    return judged(
        share,
        warn=max_share,
        fail=fail_share,
        unit="share",
        message=f"{len(rows):,} of {len(features):,} rows have the features of another row and another label "
        f"({percent(share)})",
        fix="Look at the pairs: correct the label, or add the column that tells them apart.",
        evidence={"conflicts": len(rows), "groups": int(np.count_nonzero(bad)),
                  "rows": rows[rows < sample.rows][:20].tolist()},
    )  # fmt: skip


def _over(frame: Frame, names: list[str]) -> Hashes:
    return identities([frame.column(name) for name in names], frame.rows)
