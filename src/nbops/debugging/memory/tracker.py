"""Follows every storage that a step allocates, by the operation that returned it, until it is let go."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from nbops.debugging.memory.scratch import scratch_of, sizes_behind
from nbops.debugging.memory.trace import FORWARD, Trace


class StorageTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes a `Trace` while it is entered.

    Parameters
    ----------
    model : nn.Module
        Its modules name what is allocated inside them.
    device : str
        ``"cpu"`` or ``"cuda"``: whose scratch space of operations is added.
    """

    def __init__(self, model: nn.Module, *, device: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = Trace()
        self.phase = FORWARD
        self._device = device
        self._names = {module: name for name, module in model.named_modules()}
        self._inside: list[str] = []
        self._known: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._hooks: list[Any] = []

    def __enter__(self) -> StorageTracker:
        enter = nn.modules.module.register_module_forward_pre_hook(self._enter)
        leave = nn.modules.module.register_module_forward_hook(self._leave, always_call=True)
        self._hooks = [enter, leave]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *details: Any) -> None:
        super().__exit__(*details)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()

    def note(self, tensors: Iterable[Tensor], *, sort: str) -> None:
        """Say what some tensors are for; those that are not known yet count as allocated now."""
        for tensor in tensors:
            self.trace.sorts[self._number(tensor)] = sort

    @property
    def module(self) -> str:
        """Path of the module that executes; that of the root is empty."""
        return self._inside[-1] if self._inside else ""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        self.trace.scratch(scratch_of(func, args, found, device=self._device), phase=self.phase, module=self.module)
        behind = sizes_behind(func, args, found, device=self._device)
        for place, item in enumerate(tree_iter(found)):
            if isinstance(item, Tensor):
                self._number(item, size=behind.get(place))
        return found

    def _number(self, tensor: Tensor, *, size: int | None = None) -> int:
        storage = tensor.untyped_storage()
        key = storage._cdata
        known = self._known.get(key)
        if known is not None and known[0]() is not None:
            return known[1]
        if size is None:
            size = 0 if tensor.device.type == "meta" else storage.nbytes()
        number = self.trace.allocate(size, phase=self.phase, module=self.module)
        self._known[key] = (weakref.ref(storage, lambda _: self._gone(key, number)), number)
        return number

    def _gone(self, key: int, number: int) -> None:
        self.trace.release(number)
        if self._known.get(key, (None, 0))[1] == number:
            del self._known[key]

    def _enter(self, module: nn.Module, args: Any) -> None:
        if module in self._names:
            self._inside.append(self._names[module])

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if module in self._names and self._inside:
            self._inside.pop()


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of the storages of some tensors, each storage once."""
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def tensors_in(values: Any) -> list[Tensor]:
    """Return the tensors in nested lists, tuples, dicts and the like."""
    return [item for item in tree_iter(values) if isinstance(item, torch.Tensor)]
