"""The check ``near-duplicate-texts``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.columns import Array, Mask
from nbops.data.leaf import Sample, checks, judged, percent
from nbops.data.leakage.nearby import letters_only
from nbops.data.splits.identity import identities
from nbops.data.text.reading import running_texts


@checks.register("near-duplicate-texts")
def near_duplicate_texts(
    sample: Sample, *, max_share: float = 0.01, max_conflicts: float = 0.0
) -> Iterator[CheckResult]:
    """Running texts with the same letters and digits as another row's, and other spaces, marks or capitals.

    What it measures
        The share of texts whose letters and digits, in small letters, are those of an earlier row's text that is not
        equal: WARN above `max_share`. With a label: the share of texts whose letters and digits have several labels,
        equal texts included: WARN above `max_conflicts`.

    Why it matters
        One article from two agencies counts twice and ends up on both sides of a split; and where its copies have
        different labels, one of them is wrong.

    When it is wrong
        Forms and standard sentences that are meant to come again; labels that also depend on other columns.

    Fix
        Keep one of each; split with nb.split(data, group=…); decide on one label.

    References
        Lee et al., "Deduplicating training data makes language models better", ACL 2022.
    """
    for column in running_texts(sample):
        there = sample.facts.there(column.name)
        known = np.ones(column.rows, np.bool_) if there is None else there
        plain = identities([letters_only(column)], column.rows)
        same, exact = _later(plain) & known, _later(identities([column], column.rows))
        near = same & ~exact
        count, present = int(np.count_nonzero(near)), int(np.count_nonzero(known))
        yield judged(
            count / present,
            warn=max_share,
            column=column.name,
            unit="share",
            message=f"{count:,} of {present:,} texts differ from an earlier one in spaces, marks or capitals only "
            f"({percent(count / present)})",
            fix="Keep one of each, or keep them on one side of a split: nb.split(data, group=…).",
            rows=near,
        )
        if sample.label is None or sample.label.name == column.name or sample.label.is_tensor:
            continue
        torn = _torn(plain, identities([sample.label], column.rows)) & known
        share = np.count_nonzero(torn) / present
        yield judged(
            share,
            warn=max_conflicts,
            column=column.name,
            unit="share",
            message=f"{np.count_nonzero(torn):,} of {present:,} texts have several labels ({percent(share)})",
            fix="Decide on one label for each.",
            rows=torn,
        )


def _later(codes: Array) -> Mask:
    """Return which codes an earlier row has."""
    _, first = np.unique(codes, return_index=True)
    found = np.ones(len(codes), np.bool_)
    found[first] = False
    return found


def _torn(texts: Array, labels: Array) -> Mask:
    """Return the rows of texts that have more than one label."""
    _, text = np.unique(texts, return_inverse=True)
    _, label = np.unique(labels, return_inverse=True)
    kinds = np.unique(np.stack((text, label), axis=1), axis=0)[:, 0]
    return np.asarray((np.bincount(kinds, minlength=text.max(initial=0) + 1) > 1)[text])
