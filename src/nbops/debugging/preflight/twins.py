"""Copies of models, batches and functions that preflight may do anything with: the originals stay bit for bit.

A fake twin has shapes, types and devices but no values and no memory; a real twin lives on the CPU.
"""

from __future__ import annotations

import collections
import copy
import functools
import io
import logging
import types
import warnings
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode

from nbops.debugging.places import is_user_code

_SHARED = (
    torch.utils.data.Dataset, torch.utils.data.DataLoader, torch.dtype, torch.device, torch.jit.ScriptFunction,
)  # fmt: skip
_ATOMS = (str, bytes, int, float, complex, bool, type(None), type, types.ModuleType, types.BuiltinFunctionType, range)


class Twin:
    """One set of copies that know of each other: what was shared between originals is shared between copies.

    Parameters
    ----------
    mode : FakeTensorMode or None
        The mode whose tensors the copies hold; None for real copies on the CPU.
    """

    def __init__(self, mode: FakeTensorMode | None = None) -> None:
        self.mode = mode
        self._memo: dict[int, Any] = {}
        self._alive: list[Any] = []  # ids in the memo must not be used again

    @classmethod
    def fake(cls) -> Twin:
        """Return a twin without values."""
        return cls(FakeTensorMode(allow_non_fake_inputs=True))

    @property
    def is_fake(self) -> bool:
        """Whether the copies hold no values."""
        return self.mode is not None

    def original_ids(self) -> dict[int, int]:
        """Return the id of each copy's original, by the id of the copy."""
        return {id(made): key for key, made in self._memo.items()}

    def copy(self, value: Any) -> Any:
        """Return the copy of `value`: tensors, modules, containers, user's functions and objects; others are shared."""
        if isinstance(value, _ATOMS):
            return value
        if id(value) in self._memo:
            return self._memo[id(value)]
        return self._made(value)

    def _keep(self, value: Any, made: Any) -> Any:
        self._memo[id(value)] = made
        self._alive.append(value)
        return made

    def _made(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._keep(value, self._tensor(value))
        if isinstance(value, nn.Module | torch.optim.Optimizer):
            return self._object(value, object.__new__(type(value)))
        if isinstance(value, dict | list | set | frozenset | tuple | collections.deque):
            return self._container(value)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            return types.MethodType(value.__func__, self.copy(value.__self__))
        if isinstance(value, functools.partial):
            args, keywords = self.copy(value.args), self.copy(value.keywords)
            return self._keep(value, functools.partial(self.copy(value.func), *args, **keywords))
        if isinstance(value, weakref.ref):
            target = value()
            return value if target is None else weakref.ref(self.copy(target))
        if isinstance(value, torch.Generator):
            return self._keep(value, torch.Generator(value.device).set_state(value.get_state()))
        return self._other(value)

    def _tensor(self, value: Tensor) -> Tensor:
        if is_lazy(value):
            keywords: dict[str, Any] = {"device": "cpu", "dtype": value.dtype}
            if isinstance(value, nn.Parameter):
                keywords["requires_grad"] = value.requires_grad
            return type(value)(**keywords)
        with torch.no_grad():
            if self.mode is not None:
                made: Tensor = self.mode.from_tensor(value.detach())
            else:
                made = value.detach().to("cpu", copy=True)
        if isinstance(value, nn.Parameter):
            return nn.Parameter(made, requires_grad=value.requires_grad)
        return made.requires_grad_(value.requires_grad and value.is_leaf)

    def _object(self, value: Any, made: Any) -> Any:
        self._keep(value, made)
        for name, item in vars(value).items():
            made.__dict__[name] = self.copy(item)
        return made

    def _container(self, value: Any) -> Any:
        if isinstance(value, tuple | frozenset):
            items = [self.copy(item) for item in value]
            if all(a is b for a, b in zip(items, value, strict=True)):
                return value
            named = hasattr(value, "_fields")
            return self._keep(value, type(value)(*items) if named else type(value)(items))
        made = self._keep(value, copy.copy(value))
        if isinstance(value, dict):
            made.clear()
            for key, item in value.items():
                made[self.copy(key)] = self.copy(item)
        elif isinstance(value, list):
            made[:] = [self.copy(item) for item in value]
        else:
            made.clear()
            made.update(map(self.copy, value)) if isinstance(value, set) else made.extend(map(self.copy, value))
        return made

    def _function(self, value: types.FunctionType) -> Any:
        """Return a function of the user with copies of the modules and tensors that it reaches from outside."""
        if not is_user_code(value.__code__.co_filename):
            return value
        closure = tuple(map(_empty, value.__closure__ or ()))
        made = types.FunctionType(value.__code__, value.__globals__, value.__name__, value.__defaults__, closure)
        made.__kwdefaults__ = value.__kwdefaults__
        made.__dict__.update(vars(value))
        self._keep(value, made)
        for new, old in zip(made.__closure__ or (), value.__closure__ or (), strict=True):
            if _is_filled(old):
                new.cell_contents = self.copy(old.cell_contents)
        changed = {name: item for name, item in self._globals(value) if item is not value.__globals__[name]}
        if changed:
            made = types.FunctionType(
                value.__code__, {**value.__globals__, **changed}, value.__name__, value.__defaults__, made.__closure__
            )
            made.__kwdefaults__ = value.__kwdefaults__
        return self._keep(value, made)

    def _globals(self, function: types.FunctionType) -> Iterator[tuple[str, Any]]:
        for name in function.__code__.co_names:
            found = function.__globals__.get(name)
            if isinstance(found, nn.Module | Tensor | types.FunctionType | list | dict | tuple):
                yield name, self.copy(found)

    def _other(self, value: Any) -> Any:
        kind = type(value)
        if isinstance(value, _SHARED) or not hasattr(value, "__dict__"):
            return value
        has_own_way = any(
            name in vars(one)
            for one in kind.__mro__[:-1] for name in ("__reduce_ex__", "__reduce__", "__deepcopy__", "__slots__")
        )  # fmt: skip
        if not has_own_way:
            try:
                return self._object(value, object.__new__(kind))
            except TypeError:  # made in C: it has no copy that we could fill
                return value
        try:
            with FakeCopyMode(self.mode) if self.mode is not None else nullcontext():
                return self._keep(value, copy.deepcopy(value, self._memo))
        except Exception:  # whatever its own way of copying objects to: it is shared
            return value


def is_lazy(tensor: Any) -> bool:
    """Return whether a parameter has no shape before the first forward call."""
    return bool(nn.parameter.is_lazy(tensor))


def _empty(_: Any) -> types.CellType:
    return types.CellType()


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:  # a name of the enclosing function that is not bound yet
        return False
    return True


@contextmanager
def quiet_modes() -> Iterator[None]:
    """Compute eagerly, with gradients, outside of inference mode; what user's code prints or warns of stays unseen."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    level = log.level
    log.setLevel(logging.CRITICAL)  # each failing fake operation would write its traceback there
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(warnings.catch_warnings())
            stack.enter_context(redirect_stdout(io.StringIO()))
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
