"""`nb.preflight_space`: which points of a search space can be trained at all, and why the others cannot."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from nbops.core.display import Shown
from nbops.core.errors import InvalidInput
from nbops.debugging.calling import Takes, takes
from nbops.debugging.definitions import Definitions, Scope, scopes_of_caller
from nbops.debugging.loading import one_batch
from nbops.debugging.memory.estimating import memory
from nbops.debugging.preflight.building import build
from nbops.debugging.preflight.found import Found
from nbops.debugging.preflight.running import run_stages
from nbops.debugging.preflight.subject import Subject
from nbops.debugging.tensors import unwrap

Point = dict[str, Any]
_STAGES = ("structure", "settings", "forward", "loss", "backward")
_WITHOUT_BATCH = ("structure", "settings")
_TOO_LARGE = "out-of-memory"


@dataclass(frozen=True)
class Reason:
    """Why points cannot be trained.

    Attributes
    ----------
    check, layer, what : str
        Of the first of these points.
    count : int
        How many points fail like this.
    where : str
        What they have in common and no valid point has: ``kernel=7``, ``heads=3, width=64``; empty if that is nothing
        so simple.
    """

    check: str
    layer: str
    what: str
    count: int
    where: str


@dataclass(frozen=True)
class SpaceReport(Shown):
    """The points of a search space.

    Attributes
    ----------
    valid : tuple of dict
        The points that can be trained, ready to be handed on.
    invalid : tuple of (dict, str)
        The others, each with the name of the check that it fails.
    reasons : tuple of Reason
        Why, the most frequent first.
    total : int
        Points in the space; more than were looked at, if there are too many.
    duration_s : float, seconds
    """

    valid: tuple[Point, ...]
    invalid: tuple[tuple[Point, str], ...]
    reasons: tuple[Reason, ...]
    total: int
    duration_s: float = 0.0

    @property
    def looked_at(self) -> int:
        """How many points were looked at."""
        return len(self.valid) + len(self.invalid)

    @property
    def invalid_share(self) -> float:
        """The share of the points looked at that cannot be trained, from 0 to 1."""
        return len(self.invalid) / self.looked_at if self.looked_at else 0.0


@dataclass(frozen=True)
class _Space:
    """What each point is tried with."""

    make_model: Callable[..., nn.Module]
    batch: Any
    loss: Any
    optimizer: Callable[..., Any] | None
    forward: Callable[..., Any] | None
    device_bytes: float | None
    scopes: list[Scope]


def preflight_space(
    make_model: Callable[..., nn.Module], space: Mapping[str, Sequence[Any]] | Sequence[Point], *, batch: Any = None,
    loss: Any = None, optimizer: Callable[..., Any] | None = None, forward: Callable[..., Any] | None = None,
    device_gb: float | None = None, most: int = 200,
) -> SpaceReport:  # fmt: skip
    """Say which points of a search space can be trained, before one of them is.

    Parameters
    ----------
    make_model : callable
        Makes the model of a point; it gets those of its parameters that it names.
    space : mapping of name to values, or list of points
        A mapping stands for all combinations.
    batch : object or callable, optional
        A batch or a loader; or a function that makes one of what it names, ``batch_size`` say. Without it only the
        constructors and their settings are looked at.
    loss, forward : callable, optional
        As in `preflight`.
    optimizer : callable, optional
        Gets the model's parameters and what it names: ``lambda parameters, lr: SGD(parameters, lr)``.
    device_gb : float, GB, optional
        Memory of the device; points whose step takes more, by the estimate of `memory`, are invalid.
    most : int
        Of a larger space, so many points are looked at, spread evenly.

    Raises
    ------
    InvalidInput
        A space without points, or one that names what neither the model, the batch nor the optimizer takes; a device
        without a batch.
    """
    began = time.perf_counter()
    if device_gb is not None and batch is None:
        raise InvalidInput("without a batch nothing is known of the memory", hint="Pass batch= beside device_gb=.")
    points, total = _points(space, most)
    _require_taken(points[0], make_model, batch, optimizer)
    device_bytes = None if device_gb is None else device_gb * 1e9
    job = _Space(make_model, batch, loss, optimizer, forward, device_bytes, scopes_of_caller())
    failures = [_failure(job, point) for point in points]
    valid = tuple(point for point, failure in zip(points, failures, strict=True) if failure is None)
    invalid = [(point, *failure) for point, failure in zip(points, failures, strict=True) if failure is not None]
    reasons = _reasons(valid, invalid)
    return SpaceReport(
        valid, tuple((point, check) for point, check, _ in invalid), reasons, total, time.perf_counter() - began
    )


def _points(space: Any, most: int) -> tuple[list[Point], int]:
    """Return the points to look at, and how many there are."""
    if isinstance(space, Mapping):
        values = [list(v) if isinstance(v, Sequence) and not isinstance(v, str) else [v] for v in space.values()]
        total = math.prod(map(len, values))
        combined = itertools.product(*values)
        chosen = combined if total <= most else _spread(values, total, most)
        points = [dict(zip(space, row, strict=True)) for row in chosen]
    else:
        every = [dict(point) for point in space]
        total = len(every)
        points = every if total <= most else [every[i * total // most] for i in range(most)]
    if not points:
        raise InvalidInput("the search space has no point", hint="Give each parameter one value or more.")
    return points, total


def _spread(values: list[list[Any]], total: int, most: int) -> Iterator[tuple[Any, ...]]:
    """Iterate over `most` combinations whose parameters all go through their values, by a step coprime to the total."""
    step = max(1, int(total * 0.6180339887))
    while math.gcd(step, total) > 1:
        step += 1
    for i in range(most):
        rest, row = (i * step) % total, []
        for choices in values:
            rest, at = divmod(rest, len(choices))
            row.append(choices[at])
        yield tuple(row)


def _require_taken(point: Point, make_model: Any, batch: Any, optimizer: Any) -> None:
    takers = [takes(one) for one in (make_model, batch, optimizer) if _is_maker(one)]
    unknown = [name for name in point if not any(_takes(taker, name) for taker in takers)]
    if unknown:
        raise InvalidInput(
            f"nothing takes {', '.join(unknown)} of the search space",
            hint="Name them as parameters of make_model, of batch= or of optimizer=.",
        )


def _is_maker(value: Any) -> bool:
    return callable(value) and not hasattr(value, "__iter__") and not isinstance(value, nn.Module)


def _takes(taker: Takes, name: str) -> bool:
    return taker.any_name or name in taker.names


def _own(function: Callable[..., Any], point: Point) -> Point:
    taker = takes(function)
    return {name: value for name, value in point.items() if _takes(taker, name)}


def _failure(job: _Space, point: Point) -> tuple[str, Found] | None:
    """Return the first error of one point, with the name of its check; None if it can be trained."""
    make = partial(job.make_model, **_own(job.make_model, point))
    optimizer = None if job.optimizer is None else partial(job.optimizer, **_own(job.optimizer, point))
    built = build(make, optimizer)
    if built.model is None or built.found:
        return "constructor-error", built.found[0]
    batch = job.batch(**_own(job.batch, point)) if _is_maker(job.batch) else job.batch
    model = unwrap(built.model)
    subject = Subject(
        model, one_batch(batch), loss=job.loss, optimizers=built.optimizers, schedulers=(), forward=job.forward,
        last_batch=None, definitions=Definitions(model, job.scopes), deadline=time.perf_counter(),
    )  # fmt: skip
    subject.values = None  # many points: no pass with values, and no repair is tried
    try:
        found, _ = run_stages(subject, _WITHOUT_BATCH if batch is None else _STAGES)
        bad = next(((name, one) for name, one in found if one.status == "error"), None)
        return bad or _too_large(job, subject)
    finally:
        subject.forget()


def _too_large(job: _Space, subject: Subject) -> tuple[str, Found] | None:
    if job.device_bytes is None:
        return None
    optimizer = subject.optimizers[0] if subject.optimizers else None
    report = memory(
        subject.model, subject.batch, loss=job.loss, optimizer=optimizer, forward=job.forward, batch_sizes=(),
        what_if=False,
    )  # fmt: skip
    needed = report.needed_bytes
    if needed <= job.device_bytes:
        return None
    what = f"a step takes about {needed / 1e9:.3g} GB, and the device has {job.device_bytes / 1e9:g} GB"
    return _TOO_LARGE, Found("(all)", "error", what, measured=float(needed), limit=job.device_bytes)


# ---- why -------------------------------------------------------------------------------------------------------------


def _reasons(valid: Sequence[Point], invalid: Sequence[tuple[Point, str, Found]]) -> tuple[Reason, ...]:
    groups: dict[tuple[str, str], list[tuple[Point, Found]]] = {}
    for point, check, found in invalid:
        groups.setdefault((check, found.layer), []).append((point, found))
    made = [
        Reason(check, layer, rows[0][1].what, len(rows), _common([point for point, _ in rows], valid))
        for (check, layer), rows in groups.items()
    ]
    return tuple(sorted(made, key=lambda reason: -reason.count))


def _common(bad: Sequence[Point], good: Sequence[Point]) -> str:
    """Return the fewest settings, two at most, that tell the bad points from the good: ``heads=3 or 5, width=64``."""
    names = list(bad[0])
    for size in (1, 2):
        for chosen in itertools.combinations(names, size):
            rows = Counter(tuple(repr(point.get(name)) for name in chosen) for point in bad)
            if rows.keys() & {tuple(repr(point.get(name)) for name in chosen) for point in good}:
                continue
            if size == 1:
                return f"{chosen[0]}={' or '.join(row[0] for row in rows)}"
            shown = [", ".join(f"{n}={v}" for n, v in zip(chosen, row, strict=True)) for row, _ in rows.most_common(3)]
            return "; ".join(shown) + ("; …" if len(rows) > 3 else "")
    return ""
