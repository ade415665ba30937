"""From comparisons to verdicts: an effect that matters, and that is no chance among all that was compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nbops.core.errors import InvalidInput, did_you_mean
from nbops.data.drifting.comparing import Compared
from nbops.data.drifting.found import Aspect, ColumnDrift, excess
from nbops.data.drifting.tails import false_discovery

ALPHA = 0.005  # false findings are allowed in so many comparisons of stable data
LIMITS: Mapping[str, float] = {
    "distribution": 0.02,
    "missing": 0.005,
    "infinite": 0.001,
    "unseen": 0.002,
    "auc": 0.55,
}


def checked_limits(limits: Mapping[str, float] | None) -> dict[str, float]:
    """Return all limits, those given in place of the usual ones.

    Raises
    ------
    InvalidInput
        An unknown name, or no share.
    """
    for name, limit in (limits or {}).items():
        if name not in LIMITS:
            hint = did_you_mean(name, LIMITS) or f"Use some of: {', '.join(LIMITS)}."
            raise InvalidInput(f"drift has no limit '{name}'", hint=hint)
        if not isinstance(limit, int | float) or not 0 < limit <= 1:
            raise InvalidInput(f"the limit '{name}' is {limit!r}", hint="Use a share, above 0 and up to 1.")
    return {**LIMITS, **(limits or {})}


def checked_alpha(alpha: Any) -> float:
    """Return the share of false findings that is allowed.

    Raises
    ------
    InvalidInput
        No share between 0 and 1.
    """
    if not isinstance(alpha, int | float) or not 0 < alpha < 1:
        raise InvalidInput(f"alpha is {alpha!r}", hint="Use a share between 0 and 1, as 0.005.")
    return float(alpha)


def judge(compared: Sequence[Compared], *, alpha: float) -> list[ColumnDrift]:
    """Return the verdict on each column, significant beside all others of the list (Benjamini-Hochberg)."""
    tested = [at for at, one in enumerate(compared) if one.aspects]
    q = np.ones(len(compared))
    if tested:
        q[tested] = false_discovery([compared[at].p for at in tested])
    # what a single p-value must stay below, after so many were found
    critical = alpha * int((q[tested] <= alpha).sum()) / max(1, len(tested))
    return [_judged(one, float(q[at]), critical) for at, one in enumerate(compared)]


def _judged(one: Compared, q: float, critical: float) -> ColumnDrift:
    aspects = tuple(
        replace(aspect, is_drift=aspect.effect >= aspect.limit and aspect.p * len(one.aspects) <= critical)
        for aspect in one.aspects
    )
    if one.verdict in ("gone", "retyped"):
        return ColumnDrift(one.name, one.kind, one.verdict, 1.0, (1.0, 1.0), why=one.why, aspects=aspects)
    worst = most_telling(aspects)
    if worst is None:
        return ColumnDrift(one.name, one.kind, one.verdict or "stable", why=one.why)
    if worst.is_drift:
        also = [aspect.why for aspect in aspects if aspect.is_drift and aspect is not worst]
        verdict, why = "drift", "; ".join([worst.why, *also])
    else:
        verdict, why = one.verdict or "stable", one.why or _why_stable(worst, one, critical)
    return ColumnDrift(
        one.name, one.kind, verdict, worst.effect, worst.interval, worst.limit, one.p, q, why,
        aspects, one.statistics, one.histogram,
    )  # fmt: skip


def most_telling(aspects: Sequence[Aspect]) -> Aspect | None:
    """Return the aspect that drifts furthest beyond its limit; without drift, the most significant one."""
    drifting = [aspect for aspect in aspects if aspect.is_drift]
    if drifting:
        return max(drifting, key=excess)
    return min(aspects, key=lambda aspect: (aspect.p, -excess(aspect)), default=None)


def _why_stable(worst: Aspect, one: Compared, critical: float) -> str:
    if worst.effect >= worst.limit:
        return "no larger than chance"
    return "differs, but by less than matters" if worst.p * len(one.aspects) <= critical else ""
