"""How many values were NaN and infinite, by layer and by what they belong to: output, gradient, weight, input, loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nbops.debugging.measuring import Owned
from nbops.debugging.tensors import dense
from nbops.debugging.views import Origin


@dataclass(frozen=True, slots=True)
class NonFinite:
    """Counts over all steps; `first_step` and `steps` say when it began and how often it was seen."""

    layer: str
    what: str
    nan: int
    inf: int
    first_step: int
    steps: int = 1


class Counters:
    """Non-finite values that the guard met."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], NonFinite] = {}

    def gradients(self, bad: list[Owned], step: int) -> None:
        """Count in the gradients of some parameters, layer by layer."""
        sums: dict[str, tuple[int, int]] = {}
        for o in bad:
            if o.tensor.grad is not None:
                grad = dense(o.tensor.grad)
                nan, inf = torch.stack([torch.isnan(grad).sum(), torch.isinf(grad).sum()]).tolist()
                known = sums.get(o.layer, (0, 0))
                sums[o.layer] = known[0] + nan, known[1] + inf
        for layer, (nan, inf) in sums.items():
            self._add(layer, "gradient", nan, inf, step)

    def origin(self, origin: Origin, step: int) -> None:
        """Count where the first value was made, if that is no gradient."""
        if origin.nan or origin.inf:
            self._add(
                origin.layer, "weight" if origin.place == "weights" else origin.place, origin.nan, origin.inf, step
            )

    def _add(self, layer: str, what: str, nan: int, inf: int, step: int) -> None:
        known = self._found.get((layer, what))
        self._found[layer, what] = NonFinite(
            layer, what, nan + (known.nan if known else 0), inf + (known.inf if known else 0),
            known.first_step if known else step, 1 + (known.steps if known else 0),
        )  # fmt: skip

    def view(self) -> list[NonFinite]:
        """Return all counts, first seen first."""
        return sorted(self._found.values(), key=lambda one: one.first_step)

    @property
    def total(self) -> int:
        """Return how many values there were."""
        return sum(one.nan + one.inf for one in self._found.values())
