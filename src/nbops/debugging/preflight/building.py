"""Models and optimizers that are given as functions: made here, and what their constructors refuse is found."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from nbops.core.errors import InvalidInput
from nbops.debugging.places import place_of_error
from nbops.debugging.preflight.found import Found
from nbops.debugging.preflight.limits import LAYERS, OPTIMIZERS, broken
from nbops.debugging.preflight.subject import all_modules
from nbops.debugging.randomness import untouched_randomness


@dataclass
class Built:
    """What there is to look at; `model` is None where its constructor raised."""

    model: nn.Module | None
    optimizers: list[torch.optim.Optimizer] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)


def build(model: nn.Module | Callable[[], nn.Module], optimizer: Any) -> Built:
    """Return model and optimizers, made where they are given as functions.

    Raises
    ------
    InvalidInput
        A function that makes no module, a scripted model, or something that is no optimizer.
    """
    made: Any = model
    if not isinstance(model, nn.Module):
        try:
            with untouched_randomness():
                made = model()
        except Exception as error:  # a constructor may raise anything, and that is what we want to know
            return Built(None, [], [constructor_error(error)])
        if not isinstance(made, nn.Module):
            raise InvalidInput(f"the function made a {type(made).__name__}", hint="Return a torch.nn.Module from it.")
    if any(isinstance(module, torch.jit.ScriptModule) for module in all_modules(made)):
        raise InvalidInput("a scripted model cannot be looked into", hint="Pass the module that it was scripted from.")
    built = Built(made)
    for one in _listed(optimizer):
        if not isinstance(one, torch.optim.Optimizer) and callable(one):
            try:
                one = one(made.parameters())
            except Exception as error:  # as above
                built.found.append(constructor_error(error, layer="optimizer"))
                continue
        if not isinstance(one, torch.optim.Optimizer):
            raise InvalidInput(
                f"optimizer is a {type(one).__name__}", hint="Pass a torch.optim.Optimizer, or several in a list."
            )
        built.optimizers.append(one)
    return built


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    is_many = isinstance(value, Iterable) and not isinstance(value, torch.optim.Optimizer)
    return list(value) if is_many else [value]


def constructor_error(error: Exception, *, layer: str = "") -> Found:
    """Return the finding of a constructor that raised: which one, its line, and the setting that is not legal."""
    place = place_of_error(error.__traceback__)
    owner, settings = _constructor(error)
    message = str(error).strip().partition("\n")[0][:200]
    what = f"{owner.__name__ if owner else 'the constructor'} raised {type(error).__name__}: {message}"
    expected = got = fix = ""
    limits = OPTIMIZERS if owner is not None and issubclass(owner, torch.optim.Optimizer) else LAYERS
    for hit in broken(owner, settings, limits) if owner is not None else ():
        expected = f"{hit.limit.name} {hit.limit.expected}"
        got = f"{hit.limit.name}={hit.value!r}"
        fix = hit.limit.fix or f"Set {hit.limit.name} to a value that is {hit.limit.expected}."
        break
    error.__traceback__ = None
    return Found(
        layer or (owner.__name__ if owner else "model"), "error", what, "It cannot be made with these settings.",
        fix or "Change the settings in this line.", 0.98, expected=expected, got=got or message, place=place,
        blocks=not layer,
    )  # fmt: skip


def _constructor(error: BaseException) -> tuple[type | None, dict[str, Any]]:
    """Return the class of torch whose constructor raised, and the arguments that it was called with."""
    found: tuple[type | None, dict[str, Any]] = (None, {})
    for frame, _ in traceback.walk_tb(error.__traceback__):
        owner = frame.f_locals.get("self")
        is_ours = isinstance(owner, nn.Module | torch.optim.Optimizer)
        is_torch = is_ours and type(owner).__module__.startswith("torch.")
        if frame.f_code.co_name == "__init__" and is_torch and found[0] is not type(owner):
            found = type(owner), dict(frame.f_locals)
    return found
