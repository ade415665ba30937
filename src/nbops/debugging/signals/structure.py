"""The model as it stands: what is trainable, which parameters are shared or were, and frozen ones that change."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from nbops.debugging.aspects import ModelView
from nbops.debugging.signals.phases import has_batchnorm, has_dropout
from nbops.debugging.tensors import dense, norms, slice_of

_FROZEN = 200  # parameters that are followed


class Structure:
    """What is known of the model's parameters since the watch began. Holds no parameter."""

    def __init__(self, model: nn.Module) -> None:
        named = dict(model.named_parameters(remove_duplicate=False))
        self._twins = _pairs(named, kinds={name: type(module).__name__ for name, module in model.named_modules()})
        self._frozen: dict[str, tuple[weakref.ref[Tensor], Tensor]] = {}
        self._modes = has_dropout(model), has_batchnorm(model)
        self._statistics = {
            name: (weakref.ref(m), m.running_mean.clone(), m.running_var.clone())
            for name, m in list(_resting(model))[:_FROZEN] if m.running_mean is not None and m.running_var is not None
        }  # fmt: skip
        self.remember(model)

    def remember(self, model: nn.Module) -> None:
        """Note some values of each frozen parameter, to be compared at the next sampled step."""
        frozen = [(name, p) for name, p in model.named_parameters() if not p.requires_grad]
        with torch.no_grad():
            self._frozen = {name: (weakref.ref(p), slice_of(p).clone()) for name, p in frozen[:_FROZEN]}

    def view(self, model: nn.Module, *, is_training: bool | None) -> ModelView:
        """Return how the model stands; reads a few flags from the device."""
        named = dict(model.named_parameters(remove_duplicate=False))
        values = {id(p): p.numel() for p in named.values()}
        trained = {id(p): p.numel() for p in named.values() if p.requires_grad}
        groups: dict[int, list[str]] = {}
        for name, p in named.items():
            groups.setdefault(id(p), []).append(name)
        switched = tuple(
            name for name, m in model.named_modules()
            if name and m.training != model.training and not any(True for _ in m.children())
        )  # fmt: skip
        return ModelView(
            is_training=is_training, switched=switched, has_dropout=self._modes[0], has_batchnorm=self._modes[1],
            trainable_share=sum(trained.values()) / max(1, sum(values.values())),
            tied=tuple(tuple(names) for names in groups.values() if len(names) > 1),
            untied=tuple(pair for pair in self._twins if _differ(named.get(pair[0]), named.get(pair[1]))),
            frozen_changed=self._changed(named), drifted=self._drifted(),
        )  # fmt: skip

    def _drifted(self) -> tuple[tuple[str, float], ...]:
        """Return how far the running statistics of each frozen normalisation went, in its deviations; largest first."""
        found = []
        for name, (reference, mean, var) in self._statistics.items():
            module = reference()
            if module is None or not module.training or module.running_mean is None or module.running_var is None:
                continue
            off = (module.running_mean - mean).abs() / (var + module.eps).sqrt()
            wider = (module.running_var / (var + module.eps)).clamp(min=1e-6).log().abs() / 2
            found.append((name, float(torch.maximum(off, wider).mean())))
        return tuple(sorted(found, key=lambda one: -one[1]))

    def _changed(self, named: dict[str, nn.Parameter]) -> tuple[str, ...]:
        found = []
        for name, (reference, before) in self._frozen.items():
            p = named.get(name)
            if p is not None and reference() is p and not p.requires_grad:
                now = slice_of(p)
                if now.shape == before.shape and not torch.equal(now, before):
                    found.append(name)
        return tuple(found)


def _resting(model: nn.Module) -> Iterator[tuple[str, nn.modules.batchnorm._BatchNorm]]:
    """Iterate over the normalisations whose own weights are frozen, where other weights are not."""
    if all(not p.requires_grad for p in model.parameters()):
        return
    for name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        is_norm = isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
        if is_norm and own and not any(p.requires_grad for p in own):
            yield name, module


def _pairs(named: dict[str, nn.Parameter], *, kinds: dict[str, str]) -> list[tuple[str, str]]:
    """Return pairs of matrices that are one parameter, or two of the same values (not all alike).

    Two of the same values count in layers of different kinds only (an embedding and the output): layers of one kind are
    often copies of each other at the start (``nn.TransformerEncoder``, a target network).
    """
    found: list[tuple[str, str]] = []
    matrices = [(name, p) for name, p in named.items() if p.ndim > 1 and not p.is_sparse and p.numel() > 1]
    known: dict[tuple[object, ...], tuple[str, nn.Parameter]] = {}
    with torch.no_grad():
        lengths = [float(one) for one in norms([dense(p) for _, p in matrices])]
        for (name, p), length in zip(matrices, lengths, strict=True):
            key = (tuple(p.shape), p.dtype, p.device, length)
            first = known.setdefault(key, (name, p))
            if first[0] == name or length == 0 or not length < float("inf"):
                continue
            is_copy = kinds.get(first[0].rpartition(".")[0]) == kinds.get(name.rpartition(".")[0])
            is_equal = not is_copy and torch.equal(first[1], p) and not bool((p == p.reshape(-1)[0]).all())
            if first[1] is p or is_equal:
                found.append((first[0], name))
    return found


def _differ(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None or one is other:
        return False
    return one.shape != other.shape or not torch.equal(slice_of(one.detach()), slice_of(other.detach()))


def tied_layers(layers: Iterable[tuple[str, nn.Module]]) -> dict[str, tuple[str, ...]]:
    """Return for each layer the other layers that share one of its parameters."""
    owners: dict[int, list[str]] = {}
    for name, module in layers:
        for p in module._parameters.values():
            if p is not None:
                owners.setdefault(id(p), []).append(name)
    found: dict[str, set[str]] = {}
    for names in owners.values():
        for name in names if len(names) > 1 else ():
            found.setdefault(name, set()).update(other for other in names if other != name)
    return {name: tuple(sorted(others)) for name, others in found.items()}
