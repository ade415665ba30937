"""Runs a piece of code as a notebook's cell up to ``look(model, …)``, and says which rules that read find something."""

from __future__ import annotations

import hashlib
import linecache
import sys
import textwrap
from typing import Any

import torch

from nbops.debugging.preflight.found import Found
from nbops.debugging.reading import running

PREAMBLE = """
import copy
import math
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset, random_split
torch.manual_seed(0)
x, y = torch.randn(120, 8), torch.randint(0, 3, (120,))
loader = DataLoader(TensorDataset(x, y), batch_size=20, shuffle=True)
val_loader = DataLoader(TensorDataset(torch.randn(60, 8), torch.randint(0, 3, (60,))), batch_size=20)
net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
"""


class _Looked(Exception):
    """Ends a cell where it has been looked at."""


def read(source: str, *, errors: list[str] | None = None) -> list[tuple[str, Found]]:
    """Return what is found in a cell; `errors` of ours fail the test that does not ask for them."""
    text = textwrap.dedent(source).strip("\n") + "\n"
    name = f"/tmp/ipykernel_1/{hashlib.sha256(text.encode()).hexdigest()[:10]}.py"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    found: list[tuple[str, Found]] = []
    noted: list[str] = [] if errors is None else errors

    def look(model: Any, *, loss: Any = None, optimizers: Any = (), batch: Any = None) -> None:
        found.extend(running.findings(
            sys._getframe(1), model=model, loss=loss, optimizers=optimizers, batch=batch, errors=noted
        ))  # fmt: skip
        raise _Looked

    space: dict[str, Any] = {"__name__": "__main__"}
    exec(PREAMBLE, space)  # noqa: S102 - the tests' own code
    space["look"] = look
    state = torch.get_rng_state()
    try:
        exec(compile(text, name, "exec"), space)  # noqa: S102
    except _Looked:
        pass
    finally:
        linecache.cache.pop(name, None)
        torch.set_rng_state(state)
    assert errors is not None or noted == []
    return found


def told(source: str) -> list[str]:
    """Return the names of the rules that give an error or a warning."""
    return [name for name, one in read(source) if one.status != "hint"]
