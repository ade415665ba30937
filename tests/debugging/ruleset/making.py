"""Steps and histories made of plain numbers, and the case of one rule: sick, and its healthy twins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nbops.debugging.aspects import BatchView, EvaluationView, ModelView, OptimizerView, TensorStats, TimingView
from nbops.debugging.rules import rules
from nbops.debugging.views import Finding, History, LayerView, StepView

Seen = tuple[StepView, History]


@dataclass(frozen=True)
class Case:
    """One rule: what it must find, in words that a user sees, and where it must be silent.

    name : what tells this case from others of the same rule
    healthy : by the reason why there is nothing to find
    """

    rule: str
    sick: Seen
    status: str
    layer: str
    cause: str
    healthy: dict[str, Seen] = field(default_factory=dict)
    name: str = "sick"

    def __str__(self) -> str:
        return f"{self.rule}-{self.name}"


def run(rule: str, seen: Seen) -> list[Finding]:
    return list(rules[rule](*seen))


def check(case: Case) -> None:
    """The rule fires on the sick step as the case says, and on no healthy one."""
    [found] = run(case.rule, case.sick)
    first = found.causes[0].name if found.causes else ""
    assert (found.status, found.layer, first) == (case.status, case.layer, case.cause)
    assert 0 < found.confidence <= 1
    assert all((found.what, found.why, found.fix))
    assert [c.confidence for c in found.causes] == sorted((c.confidence for c in found.causes), reverse=True)
    assert case.healthy
    for reason, seen in case.healthy.items():
        assert run(case.rule, seen) == [], reason


# -- parts of a step --------------------------------------------------------------------------------------------------


def layer(name: str, kind: str = "Linear", **numbers: Any) -> LayerView:
    return LayerView(name, kind=kind, **numbers)


def floats(low: float = -2.0, high: float = 2.0, *, sizes: tuple[int, ...] = (32, 8), **numbers: Any) -> TensorStats:
    known = {"mean": (low + high) / 2, "std": (high - low) / 4, "zero_share": 0.0}
    return TensorStats(sizes, "float32", min=low, max=high, **{**known, **numbers})


def labels(count: int = 10, *, sizes: tuple[int, ...] = (32,), **numbers: Any) -> TensorStats:
    known = {"mean": (count - 1) / 2, "std": count / 4, "min": 0.0, "max": count - 1.0, "distinct": count,
             "top_share": 1 / count}  # fmt: skip
    return TensorStats(sizes, "int64", **{**known, **numbers})


def batch(**fields: Any) -> BatchView:
    """A batch of a classification into ten classes, as it should be."""
    known: dict[str, Any] = {
        "inputs": floats(), "targets": labels(), "predictions": floats(-3, 3, sizes=(32, 10)),
        "loss_name": "cross_entropy", "classes": 10, "rows": 32, "duplicate_share": 0.0, "repeated_share": 0.0,
        "is_output_constant": False,
    }  # fmt: skip
    return BatchView(**{**known, **fields})


def regression(**fields: Any) -> BatchView:
    known: dict[str, Any] = {
        "targets": floats(-1, 1, sizes=(32, 1)), "predictions": floats(-1, 1, sizes=(32, 1)), "loss_name": "mse_loss",
        "classes": None,
    }  # fmt: skip
    return batch(**{**known, **fields})


def step(number: int, *layers: LayerView, **fields: Any) -> StepView:
    """A measured step of a supervised training, as it should be."""
    known: dict[str, Any] = {"batch": batch(), "optimizer": "SGD", "lr": (0.1,), "loss": 1.0}
    return StepView(number, {one.name: one for one in layers}, **{**known, **fields})


def evaluation(**fields: Any) -> StepView:
    known: dict[str, Any] = {"batches": 5, "phases": 2, "steps": 40, "rows": 500, "leaked_share": 0.0}
    return StepView(40, moment="evaluation", is_sampled=False, evaluation=EvaluationView(**{**known, **fields}))


def stepper(kind: str = "SGD", **fields: Any) -> OptimizerView:
    return OptimizerView(kind, **fields)


def model(**fields: Any) -> ModelView:
    return ModelView(**fields)


def timing(**fields: Any) -> TimingView:
    known: dict[str, Any] = {"step_ms": 10.0, "steps": 80, "cores": 2}
    return TimingView(**{**known, **fields})


# -- the steps before -------------------------------------------------------------------------------------------------


def after(
    view: StepView, *, times: int = 10, losses: Sequence[float] = (), norms: Sequence[float] = (),
    past: Sequence[StepView] | None = None,
) -> Seen:  # fmt: skip
    """Return a step and its history: `past`, or the same step so many times before.

    losses, norms : loss and gradient norm of every step up to this one, one of them may be left out
    """
    history = History()
    for one in past if past is not None else [replace(view, step=view.step - times + i) for i in range(times)]:
        history.append(one)
    for i in range(max(len(losses), len(norms))):
        history.read(i, losses[i] if losses else None, norms[i] if norms else math.nan)
    return view, history


def alone(view: StepView) -> Seen:
    return view, History()


def falling(steps: int = 200, *, first: float = 2.3, last: float = 0.2) -> list[float]:
    return [first * (last / first) ** (i / (steps - 1)) for i in range(steps)]


def flat(steps: int = 200, *, at: float = 2.3) -> list[float]:
    return [at * (1 + 0.002 * (-1) ** i) for i in range(steps)]


def rising(steps: int = 200, *, first: float = 2.3, last: float = 200.0) -> list[float]:
    return falling(steps, first=first, last=last)
