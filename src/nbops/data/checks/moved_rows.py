"""The check ``moved-rows``."""

from __future__ import annotations

import numpy as np

from nbops.core.records import CheckResult
from nbops.core.splits import SplitRecord
from nbops.data.columns import Frame, Hashes
from nbops.data.leaf import Sample, checks, judged, percent, skipped
from nbops.data.splits.identity import identities
from nbops.data.splits.proving import moved
from nbops.data.splits.sides import TEST, TRAIN


@checks.register("moved-rows")
def moved_rows(sample: Sample, *, split: SplitRecord | None = None, max_share: float = 0.0) -> CheckResult:
    """Rows that were on another side in an earlier split.

    What it measures
        Of up to 256 train and 256 test rows that a recorded split remembers, how many are here, and which share of
        these is on another side now: FAIL above `max_share`. Rows are told apart as that split did, by its key,
        group or the whole row. A share of 1 % moved rows is found in 99 of 100 cases, 0.2 % in two of three.

    Why it matters
        A model trained before, a threshold chosen last week, a colleague's feature: all know rows that were train
        then. If they are test now, nothing that is judged by them is independent any more. Shuffling without a
        fixed seed, and seeds on data that grew, do this silently.

    When it is wrong
        After a deliberate new split, with everything before it thrown away.

    Fix
        Split with nb.split(data, key="id"): a row then keeps its side when rows are added.

    References
        Sculley et al., "Hidden technical debt in machine learning systems", NeurIPS 2015.
    """
    train = sample.reference
    if train is None:
        return skipped("no train data was given", fix="Use nb.leaks(train, test, split=…).")
    if split is None:
        return skipped("no earlier split was given", fix="Pass split=: what nb.split returned, or its name.")
    names = split.settings.get("group") or split.settings.get("key")
    frames = (train, sample.frame)
    if names and any(name not in frame.names for name in names for frame in frames):
        return skipped(f"the data has no column '{names[0]}', by which split '{split.name}' told rows apart")
    sides = [_identity(train, names), _identity(sample.frame, names)]
    codes = np.repeat(np.array([TRAIN, TEST], np.uint8), [len(side) for side in sides])
    known, elsewhere = moved(split.sample, np.concatenate(sides), codes)
    if not known:
        return skipped(f"none of the rows that split '{split.name}' remembers is here")
    return judged(
        elsewhere / known,
        fail=max_share,
        unit="share",
        message=f"{elsewhere:,} of {known:,} rows known from split '{split.name}' are on another side now "
        f"({percent(elsewhere / known)})",
        fix='Split with nb.split(data, key="…"), which keeps every row on its side.',
        evidence={"known": known, "moved": elsewhere},
    )


def _identity(frame: Frame, names: list[str] | None) -> Hashes:
    columns = [frame.column(name) for name in names] if names else sorted(frame.columns, key=lambda c: c.name)
    return identities(columns, frame.rows)
