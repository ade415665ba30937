"""Parameters compared across processes of ``torch.distributed``, through its key-value store: nobody waits for anybody.

A collective call would hang where only some ranks watch, or sample other steps. Each rank writes
its checksums under the step's number and compares those of a step before, if all have come.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import nn

from nbops.debugging.aspects import RankView
from nbops.debugging.tensors import dense, norms, pack, unwrap

_TOLERANCE = 1e-6
_EARLY = 16


class Ranks:
    """What this rank has written, and the last comparison."""

    def __init__(self) -> None:
        self._waiting: list[int] = []
        self._last: RankView | None = None
        self._store: Any = None
        self._tried = False

    def is_due(self, step: int) -> bool:
        """Return whether checksums are written at a step: at the same ones in every process."""
        return step > 0 and (step & (step - 1) == 0 if step < _EARLY else step % _EARLY == 0)

    def note(self, model: nn.Module, step: int) -> None:
        """Write the checksums of a step that is due."""
        store = self._opened()
        if store is None or not self.is_due(step):
            return
        named = [(name, p) for name, p in unwrap(model).named_parameters() if p.requires_grad]
        if not named:
            return
        with torch.no_grad():
            values = pack([*norms([dense(p) for _, p in named]), *(dense(p).sum() for _, p in named)]).tolist()
        count = len(named)
        sums = {name: (values[i], values[count + i]) for i, (name, _) in enumerate(named)}
        store.set(self._key(step, torch.distributed.get_rank()), json.dumps(sums))
        self._waiting = [*self._waiting[-8:], step]

    def compare(self, model: nn.Module, step: int) -> RankView | None:
        """Return the newest comparison; None without several processes, or before all have written."""
        store = self._opened()
        if store is None:
            return None
        size = torch.distributed.get_world_size()
        for at in list(self._waiting):
            keys = [self._key(at, rank) for rank in range(size)]
            if store.check(keys):
                rows = [json.loads(store.get(key)) for key in keys]
                names = [name for name in rows[0] if _differ([row.get(name) for row in rows])]
                self._last = RankView(size, at, tuple(names))
                self._waiting = [one for one in self._waiting if one > at]
        return self._last

    def _key(self, step: int, rank: int) -> str:
        return f"nbops/watch/{step}/{rank}"

    def _opened(self) -> Any:
        if not torch.distributed.is_available() or not torch.distributed.is_initialized():
            return None
        if torch.distributed.get_world_size() < 2:
            return None
        if not self._tried:
            self._tried = True
            find = getattr(torch.distributed.distributed_c10d, "_get_default_store", None)
            self._store = find() if find is not None else None
            if self._store is not None and not hasattr(self._store, "check"):
                self._store = None
        return self._store


def _differ(sums: list[list[float] | None]) -> bool:
    first = sums[0]
    if first is None or any(one is None for one in sums):
        return True
    scale = max(abs(first[0]), 1e-12)
    return any(abs(a - b) > _TOLERANCE * scale for one in sums[1:] if one is not None
               for a, b in zip(first, one, strict=True))  # fmt: skip
