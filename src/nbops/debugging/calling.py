"""How a batch reaches the model and how its output reaches the loss: read from signatures, as a training loop would.

What cannot be told apart is left to the user's own ``forward=lambda model, batch: …``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from nbops.debugging.specs import spec, tensors_in

MISSING: Any = type("Missing", (), {"__repr__": lambda _: "missing"})()
TARGETS = ("labels", "label", "targets", "target", "y", "tgt", "label_ids", "y_true", "ground_truth", "gt")


@dataclass(frozen=True)
class Plan:
    """The arguments of one forward call, and what the loss compares its output with (MISSING where nothing is known).

    problem : why the batch does not fit the signature of ``forward``, empty if it does
    doubt : why it might not be meant like this, empty if it is plain
    """

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    target: Any = MISSING
    problem: str = ""
    doubt: str = ""

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Iterate over the input tensors with a name each: ``input``, ``input[0]``, ``input['ids']``."""
        many = len(self.args) + len(self.kwargs) > 1
        for i, value in enumerate(self.args):
            yield from tensors_in(value, path=f"input[{i}]" if many else "input")
        for name, value in self.kwargs.items():
            yield from tensors_in(value, path=f"input['{name}']")

    def targets(self) -> Iterator[tuple[str, Tensor]]:
        """Iterate over the target's tensors."""
        if self.target is not MISSING:
            yield from tensors_in(self.target, path="target")


@dataclass(frozen=True)
class Takes:
    """The positional parameters of a function: their names, how many are needed, how many fit."""

    names: tuple[str, ...]
    needed: int
    most: float
    any_name: bool = False

    def fits(self, count: int) -> bool:
        """Return whether a call with `count` positional arguments binds."""
        return self.needed <= count <= self.most


def takes(function: Callable[..., Any]) -> Takes:
    """Return what a function takes; anything, where it does not say."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):  # made in C, or a script module
        return Takes((), 0, float("inf"), any_name=True)
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = sum(p.default is p.empty for p in plain)
    is_open = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    named = [*plain, *(p for p in parameters if p.kind is p.KEYWORD_ONLY)]
    return Takes(
        tuple(p.name for p in named), needed, float("inf") if is_open else len(plain),
        any(p.kind is p.VAR_KEYWORD for p in parameters),
    )  # fmt: skip


def plan(model: nn.Module, batch: Any, *, loss: Callable[..., Any] | None) -> Plan:
    """Return how `batch` is passed to `model`; a loss that takes a target says that the batch holds one."""
    wanted = takes(model.forward)
    has_loss = loss is not None and takes(loss.forward if isinstance(loss, nn.Module) else loss).most > 1
    if isinstance(batch, Mapping) or (hasattr(batch, "keys") and hasattr(batch, "__getitem__")):
        return _of_mapping(wanted, batch, has_loss)
    if isinstance(batch, list | tuple):
        return _of_row(wanted, list(batch), has_loss)
    target = MISSING
    if not isinstance(batch, Tensor):
        target = next((getattr(batch, name) for name in TARGETS if hasattr(batch, name)), MISSING)
    return _checked(wanted, Plan((batch,), target=target))


def _of_mapping(wanted: Takes, batch: Any, has_loss: bool) -> Plan:
    keys = list(batch.keys())
    marks = [key for key in keys if key in TARGETS]
    known = {key: batch[key] for key in keys if key in wanted.names}
    target = batch[marks[0]] if marks else MISSING
    if known and set(wanted.names[: wanted.needed]) <= set(known):
        if wanted.any_name:
            known |= {key: batch[key] for key in keys if key not in marks}
        rest = [key for key in keys if key not in known]
        if target is MISSING and has_loss and len(rest) == 1:
            target = batch[rest[0]]
        return Plan(kwargs=known, target=target)
    others = [key for key in keys if key not in marks]
    if wanted.needed == 1 and len(others) != 1:
        return Plan((batch,), target=target)
    return _checked(wanted, Plan(tuple(batch[key] for key in others), target=target))


def _of_row(wanted: Takes, row: list[Any], has_loss: bool) -> Plan:
    count = len(row)
    if count == 1:
        return _of_one(wanted, row[0], MISSING)
    if count == 2 and has_loss and _spreads(wanted, row[0]) and isinstance(row[1], Tensor):
        return _of_one(wanted, row[0], row[1])
    takes_target = any(name in TARGETS for name in wanted.names[count - 1 : count])
    if wanted.fits(count) and (wanted.needed == count or (takes_target and not has_loss)):
        names = ", ".join(wanted.names)
        doubt = f"forward takes ({names}), and the batch gives {count - 1} inputs and a target"
        return Plan(tuple(row), target=row[-1], doubt=doubt if has_loss and not takes_target else "")
    if wanted.fits(count - 1):
        inputs = row[:-1]
        return _of_one(wanted, inputs[0], row[-1]) if count == 2 else Plan(tuple(inputs), target=row[-1])
    if count == 2:
        return _of_one(wanted, row[0], row[1])
    used = int(min(wanted.most, count))
    if 0 < used < count:
        return Plan(tuple(row[:used]), target=row[used])
    return _checked(wanted, Plan(tuple(row[:-1]), target=row[-1]))


def _spreads(wanted: Takes, value: Any) -> bool:
    """Return whether ``forward`` takes the parts of a row or of a mapping, and not the whole."""
    if isinstance(value, Mapping):
        return bool(wanted.needed) and set(wanted.names[: wanted.needed]) <= set(value)
    return isinstance(value, list | tuple) and len(value) > 1 and not wanted.fits(1) and wanted.fits(len(value))


def _of_one(wanted: Takes, value: Any, target: Any) -> Plan:
    """Return the plan for one input, which is spread where it is a row or a mapping and ``forward`` takes several."""
    if isinstance(value, Mapping) and _spreads(wanted, value):
        return Plan(kwargs={k: v for k, v in value.items() if k in wanted.names or wanted.any_name}, target=target)
    if _spreads(wanted, value):
        return Plan(tuple(value), target=target)
    return _checked(wanted, Plan((value,), target=target))


def _checked(wanted: Takes, made: Plan) -> Plan:
    count = len(made.args)
    if wanted.fits(count):
        return made
    names = ", ".join(wanted.names) or "nothing"
    given = ", ".join(spec(a, depth=1) for a in made.args)
    return Plan(made.args, made.kwargs, made.target, f"forward takes ({names}), and the batch gives ({given})")


def forward_takes(model: nn.Module) -> str:
    """Return the parameters of a model's forward: ``(x, mask)``."""
    return f"({', '.join(takes(model.forward).names)})"


# ---- the loss --------------------------------------------------------------------------------------------------------


def own_loss(output: Any) -> Tensor | None:
    """Return the loss that a model computed itself: ``.loss``, ``["loss"]``, a scalar, or a scalar in a tuple."""
    found = getattr(output, "loss", None)
    if found is None and isinstance(output, Mapping):
        found = output.get("loss")
    if isinstance(found, Tensor):
        return found
    rows = output if isinstance(output, list | tuple) else [output]
    scalars = [v for v in rows if isinstance(v, Tensor) and v.numel() == 1 and v.ndim == 0 and v.is_floating_point()]
    return scalars[0] if len(scalars) == 1 else None


def stand_in_loss(output: Any) -> Tensor | None:
    """Return the sum of the means of all floating outputs with a graph: to send some gradient through the model."""
    parts = [t.float().mean() for _, t in tensors_in(output) if t.is_floating_point() and t.requires_grad]
    return sum(parts[1:], parts[0]) if parts else None


def ways_to_call(
    loss: Callable[..., Any], output: Any, target: Any, inputs: tuple[Any, ...], batch: Any
) -> list[tuple[Any, ...]]:
    """Return the argument lists that a loop might call the loss with, the plainest first."""
    wanted = takes(loss.forward if isinstance(loss, nn.Module) else loss)
    if wanted.needed == 1 and wanted.most == 1:
        return [(output,)]
    if len(wanted.names) > 1 and wanted.names[1] == "batch":
        target = batch
    if target is MISSING:
        tensors = [t for t in inputs if isinstance(t, Tensor)]
        if not tensors:
            return []
        target = tensors[0]  # an autoencoder
        if isinstance(output, Tensor) and output.shape != target.shape and len(tensors) == 1:
            return []  # none: the loss compares with something else
    heads: list[Any] = [output]
    if not isinstance(output, Tensor):
        logits = getattr(output, "logits", None)
        if logits is None and isinstance(output, Mapping):
            logits = output.get("logits")
        firsts = [t for _, t in tensors_in(output) if t.is_floating_point()][:1]
        heads += [logits] if logits is not None else firsts
    ways: list[tuple[Any, ...]] = [(head, target) for head in heads]
    if isinstance(output, list | tuple) and wanted.needed == len(output) + 1:
        rest = tuple(output[1:])
        ways = [(output[0], target, *rest), (*output, target), *ways]
    elif wanted.needed > 2 and isinstance(target, list | tuple) and wanted.needed == len(target) + 1:
        ways = [(output, *target), *ways]
    if not isinstance(batch, Tensor | list | tuple) and target is not batch and wanted.fits(2):
        ways.append((output, batch))  # a loss that looks into the batch itself
    return ways
