"""What a data check is: a decorated function of a `Sample`, and the helpers it judges with.

The checks that ship are in `nbops.data.checks`; running them is in `checking`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nbops.core.records import CheckResult, Verdict
from nbops.core.registry import Registry
from nbops.data.columns import Column, Frame, Mask
from nbops.data.profiling import profile_frame
from nbops.data.rules.facts import Facts

Outcome = bool | CheckResult | Iterable[CheckResult] | None
Check = Callable[..., Outcome]

# They compare two sides of a split, so they run in nb.leaks, and in nb.check only where they are asked for.
LEAKS = (
    "duplicates-across",
    "near-duplicates-across",
    "group-overlap",
    "time-overlap",
    "target-leakage",
    "id-leakage",
    "label-conflicts",
    "moved-rows",
    "fit-before-split",
)

# They need to know when a row happened, so they run where nb.check is given `time`.
SERIES = ("time-order", "time-gaps", "frozen-values", "spikes", "level-shift", "series-ends", "look-ahead")
# They look at folders of pictures.
IMAGES = (
    "image-unreadable",
    "image-duplicates",
    "image-duplicates-across",
    "image-size",
    "image-exposure",
    "image-mode",
    "image-shift",
)

# Where something is says more than how much of it there is: cards show what was found.
TOLD = frozenset(
    {*SERIES, *IMAGES, "broken-text", "cut-text", "near-duplicate-texts", "text-shift", "fit-before-split"}
)

_HERE = "nbops.data.checks"
checks: Registry[Check] = Registry(
    "check",
    group="nbops.checks",
    modules=(
        f"{_HERE}.missing_values",
        f"{_HERE}.constant_column",
        f"{_HERE}.duplicate_rows",
        f"{_HERE}.mixed_types",
        f"{_HERE}.outside_baseline",
        f"{_HERE}.label_imbalance",
        *(f"{_HERE}.{name.replace('-', '_')}" for name in (*LEAKS, *SERIES, *IMAGES)),
        f"{_HERE}.mixed_nulls",
        f"{_HERE}.string_mismatch",
        f"{_HERE}.special_characters",
        f"{_HERE}.string_length",
        f"{_HERE}.outlier_rows",
        f"{_HERE}.conflicting_labels",
        f"{_HERE}.feature_label_correlation",
        f"{_HERE}.feature_feature_correlation",
        f"{_HERE}.identifier_in_features",
        f"{_HERE}.date_in_the_future",
        f"{_HERE}.date_order",
        f"{_HERE}.unit_change",
        f"{_HERE}.row_count_change",
        f"{_HERE}.personal_data",
        f"{_HERE}.broken_text",
        f"{_HERE}.cut_text",
        f"{_HERE}.near_duplicate_texts",
        f"{_HERE}.text_shift",
    ),
)


class Located(CheckResult, frozen=True, kw_only=True, eq=False):
    """A result that also knows its rows: a mask [rows], or a function that gives it. It is not stored."""

    rows: Any = None

    def mask(self) -> Mask:
        """Return which rows the result is about, bool [rows]."""
        made: Mask = self.rows() if callable(self.rows) else self.rows
        return made

    def plain(self) -> CheckResult:
        """Return the result as it is stored: with the number of its rows and the first of them."""
        where = np.flatnonzero(self.mask())
        noted = {"bad_rows": len(where), "rows": where[:5].tolist()} | self.evidence
        fields = {name: getattr(self, name) for name in CheckResult.__struct_fields__}
        return CheckResult(**{**fields, "evidence": noted})


@dataclass(frozen=True, eq=False)
class Sample:
    """The data that a check looks at.

    Attributes
    ----------
    frame : Frame
        The columns in canonical form.
    baseline : mapping or None
        A profile to compare with: ``{"rows": …, "columns": {name: …}}``.
    reference : Frame or None
        The baseline itself, where it was given as data: for the checks of leaks, what is learned from.
    """

    frame: Frame
    baseline: Mapping[str, Any] | None = None
    reference: Frame | None = None

    @property
    def native(self) -> Any:
        """The object that was given to `nb.check`: your data frame or array."""
        return self.frame.native

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.frame.rows

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns, the label among them."""
        return self.frame.columns

    @property
    def label(self) -> Column | None:
        """The label column, or None."""
        return self.frame.column(self.frame.label) if self.frame.label else None

    @cached_property
    def facts(self) -> Facts:
        """Extremes, hashes and lengths of columns, each computed once at the first question."""
        return Facts(self.frame)

    @cached_property
    def profile(self) -> dict[str, Any]:
        """Profile of the data, computed once for all checks; see `nbops.data.profiling`."""
        return profile_frame(self.frame)


def judged(
    value: float, *, warn: float | None = None, fail: float | None = None, below: bool = False, column: str = "",
    unit: str = "", message: str = "", fix: str = "", evidence: Mapping[str, Any] | None = None,
    rows: Mask | Callable[[], Mask] | None = None,
) -> CheckResult:  # fmt: skip
    """Return the result of a measured `value`: FAIL beyond `fail`, WARN beyond `warn`, else PASS.

    Beyond is above, or below with ``below=True``. The limit that decided is kept; `fix` only where it is needed.
    `rows` tells which rows are wrong, bool [rows], or is a function that does: `nb.quarantine` takes them out.
    """

    def beyond(limit: float | None) -> bool:
        return limit is not None and (value < limit if below else value > limit)

    verdict = Verdict.FAIL if beyond(fail) else Verdict.WARN if beyond(warn) else Verdict.PASS
    limit = fail if verdict is Verdict.FAIL or warn is None else warn
    return result(
        verdict,
        column=column,
        value=float(value),
        limit=limit,
        unit=unit,
        message=message,
        fix="" if verdict is Verdict.PASS else fix,
        evidence=evidence,
        rows=None if verdict is Verdict.PASS else rows,
    )


def result(
    verdict: Verdict | str, *, column: str = "", value: float | None = None, limit: float | None = None,
    unit: str = "", message: str = "", fix: str = "", evidence: Mapping[str, Any] | None = None,
    rows: Mask | Callable[[], Mask] | None = None,
) -> CheckResult:  # fmt: skip
    """Return one result with a verdict that the check itself came to; the engine adds the check's name."""
    made = CheckResult(
        check="",
        verdict=Verdict(verdict),
        column=column,
        value=value,
        limit=limit,
        unit=unit,
        message=message,
        fix=fix,
        evidence=dict(evidence or {}),
    )
    if rows is None:
        return made
    return Located(**{name: getattr(made, name) for name in CheckResult.__struct_fields__}, rows=rows)


def skipped(why: str, *, column: str = "", fix: str = "") -> CheckResult:
    """Return the result of a check that does not apply, and why."""
    return result(Verdict.SKIPPED, column=column, message=why, fix=fix)


def percent(share: float) -> str:
    """Return a share as text with about three significant digits: ``4.17 %``; never 0 % or 100 % for nearly."""
    if 0 < share < 0.0001:
        return "< 0.01 %"
    if 0.9999 < share < 1:
        return "> 99.99 %"
    return f"{100 * share:.3g} %"
