"""The last histograms of weights, gradients and activations: taken on every tenth sampled step, read when asked for."""

from __future__ import annotations

from torch import Tensor

from nbops.core.errors import NotFound, did_you_mean
from nbops.debugging.measuring import Owned
from nbops.debugging.signals.activations import Board
from nbops.debugging.signals.histograms import exponents, histogram
from nbops.debugging.tensors import dense
from nbops.debugging.views import Histogram

EVERY = 10
KINDS = ("weight", "gradient", "activation")


class Histograms:
    """Counts on their device, by layer and kind."""

    def __init__(self) -> None:
        self._taken = 0
        self._counts: dict[tuple[str, str], tuple[Tensor, int, int]] = {}

    @property
    def is_due(self) -> bool:
        """Whether the next sampled step takes histograms."""
        return self._taken % EVERY == 0

    def take(self, step: int, have: list[Owned], board: Board) -> None:
        """Take those of a sampled step, if it is one of the tenth."""
        is_due = self.is_due
        self._taken += 1
        if not is_due:
            return
        fresh: dict[tuple[str, str], tuple[Tensor, int, int]] = {}
        for o in have:
            for what, tensor in (("weight", o.tensor), ("gradient", o.tensor.grad)):
                if tensor is None or not tensor.numel():
                    continue
                counts, size = exponents(dense(tensor)), tensor.numel()
                known = fresh.get((o.layer, what))
                fresh[o.layer, what] = (
                    (counts, size, step) if known is None else (known[0] + counts, known[1] + size, step)
                )
        for layer, (counts, size) in board.histograms.items():
            fresh[layer, "activation"] = counts, size, step
        self._counts.update(fresh)

    def get(self, layer: str, what: str) -> Histogram:
        """Return the last histogram.

        Raises
        ------
        NotFound
            None of that layer and kind was taken.
        """
        found = self._counts.get((layer, what))
        if found is None:
            near = did_you_mean(what, KINDS) if what not in KINDS else did_you_mean(layer, {n for n, _ in self._counts})
            raise NotFound(
                f"no histogram of the {what} of '{layer}'",
                hint=near or "Train some steps first; layers are called as in model.named_modules().",
            )
        counts, size, step = found
        return histogram(layer, what, step, counts.tolist(), size)
