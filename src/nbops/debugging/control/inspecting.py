"""One layer as it stands now: weights, gradients and last outputs as numbers and histograms."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nbops.core.display import Shown
from nbops.core.errors import NotFound, did_you_mean
from nbops.debugging.aspects import TensorStats
from nbops.debugging.signals.batches import stats
from nbops.debugging.signals.keeping import Histograms
from nbops.debugging.tensors import dense
from nbops.debugging.views import Histogram, LayerView, StepView


@dataclass(frozen=True)
class Inspection(Shown):
    """What `Watch.inspect` returns.

    Attributes
    ----------
    layer, kind : str
        Path and class of the module.
    weights, gradients : dict of str to TensorStats
        By name of the parameter, as they are now.
    outputs : LayerView or None
        Its numbers in the last step that was measured.
    histograms : dict of str to Histogram
        The last ones of ``weight``, ``gradient``, ``activation``.
    """

    layer: str
    kind: str
    weights: dict[str, TensorStats] = field(default_factory=dict)
    gradients: dict[str, TensorStats] = field(default_factory=dict)
    outputs: LayerView | None = None
    histograms: dict[str, Histogram] = field(default_factory=dict)

    def __repr__(self) -> str:
        lines = [f"{self.layer} ({self.kind})"]
        for what, found in (("weight", self.weights), ("gradient", self.gradients)):
            for name, one in found.items():
                spread = "no finite value" if one.mean is None else (
                    f"mean {one.mean:.4g}, std {one.std:.4g}, from {one.min:.4g} to {one.max:.4g}"
                )  # fmt: skip
                lines.append(f"  {what} {name} {list(one.sizes)}: {spread}, {one.nan_count} NaN")
        if self.outputs is not None and self.outputs.activation_rms is not None:
            o = self.outputs
            lines.append(f"  output {list(o.sizes)}: rms {o.activation_rms:.4g}, {(o.zero_share or 0):.0%} zeros")
        return "\n".join(lines)


def inspect_layer(model: nn.Module, layer: str, histograms: Histograms, view: StepView | None) -> Inspection:
    """Return how a layer stands.

    Raises
    ------
    NotFound
        No layer is called so.
    """
    modules = {name or type(model).__name__: m for name, m in model.named_modules()}
    if layer not in modules:
        near = did_you_mean(layer, modules)
        raise NotFound(f"no layer '{layer}' in the model", hint=near or f"Use one of: {', '.join(list(modules)[:20])}")
    module = modules[layer]
    parameters = {name: p for name, p in module._parameters.items() if p is not None}
    with torch.no_grad():
        weights = {name: one for name, p in parameters.items() if (one := _stats(p)) is not None}
        gradients = {name: one for name, p in parameters.items() if (one := _stats(p.grad)) is not None}
    found: dict[str, Histogram] = {}
    for what in ("weight", "gradient", "activation"):
        try:
            found[what] = histograms.get(layer, what)
        except NotFound:  # none was taken yet
            continue
    return Inspection(layer, type(module).__name__, weights, gradients, view.layers.get(layer) if view else None, found)


def _stats(tensor: Tensor | None) -> TensorStats | None:
    return None if tensor is None else stats(dense(tensor.detach()))
