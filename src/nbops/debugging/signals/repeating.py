"""Does an evaluation give the same answer twice? One more forward pass, with everything put back afterwards."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from nbops.debugging.tensors import first_tensor

_DROPS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
_CONTAINERS = (list, dict, set)


def difference_of(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
) -> tuple[float | None, bool]:  # fmt: skip
    """Return the largest difference to `output` of the same call made again, over its rms, and whether it drops values.

    None where it cannot be tried: hooks of the user's own would see a call that he did not make.
    """
    before = first_tensor(output)
    if before is None or before.numel() == 0 or _has_foreign_hooks(model):
        return None, False
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return None, False
    try:
        with restored(model), _hearing_dropout() as dropped:
            again = first_tensor(model(*args, **kwargs))
    except Exception:  # a forward that cannot be run twice, for a reason of its own
        return None, False
    if again is None or again.shape != before.shape:
        return None, False
    scale = float(before.float().square().mean().sqrt())
    largest = float((again.float() - before.float()).abs().max())
    return (0.0 if largest == 0.0 else largest / max(scale, 1e-12)), bool(dropped) and not _drops_on_purpose(model)


def _drops_on_purpose(model: nn.Module) -> bool:
    """Return whether dropout layers were put into training mode by hand, as for Monte-Carlo dropout: they alone."""
    on = [module for module in model.modules() if module.training]
    others = [m for m in model.modules() if m is not model and not isinstance(m, _DropoutNd)]
    return bool(on) and bool(others) and all(isinstance(module, _DropoutNd) for module in on)


@contextmanager
def _hearing_dropout() -> Iterator[list[str]]:
    """Note which dropout functions drop values meanwhile."""
    functional, dropped = torch.nn.functional, []
    originals = {name: getattr(functional, name) for name in _DROPS if hasattr(functional, name)}

    def heard(name: str) -> Any:
        def drop(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
            if training and p > 0:
                dropped.append(name)
            return originals[name](input, p, training, inplace)

        return drop

    for name in originals:
        setattr(functional, name, heard(name))
    try:
        yield dropped
    finally:
        for name, original in originals.items():
            setattr(functional, name, original)


def _has_foreign_hooks(model: nn.Module) -> bool:
    for module in model.modules():
        hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
        if any(not type(hook).__module__.startswith("nbops.") for hook in hooks):
            return True
    return False


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Put buffers (running means), plain attributes of the modules and random states back afterwards."""
    buffers = [(b, b.detach().clone()) for b in model.buffers()]
    plain = [(m, _public(m), [(v, copy.copy(v)) for v in _public(m).values() if isinstance(v, _CONTAINERS)])
             for m in model.modules()]  # fmt: skip
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, value in buffers:
                    if not torch.equal(buffer, value):  # writing would spoil a graph that waits for its backward pass
                        buffer.copy_(value)
            for module, values, containers in plain:
                for name in _public(module).keys() - values.keys():
                    del module.__dict__[name]
                module.__dict__.update(values)
                for container, content in containers:
                    container.clear()
                    container.extend(content) if isinstance(container, list) else container.update(content)


def _public(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in module.__dict__.items() if not name.startswith("_")}
