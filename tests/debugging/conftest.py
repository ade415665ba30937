"""Real data for tiny trainings, and a check that no test leaves a hook of torch behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.optim import optimizer as torch_optimizer

from nbops.debugging import stepping
from nbops.debugging.rules import rules

sys.path.insert(0, str(Path(__file__).parent))  # the zoo is a package of its own


@pytest.fixture(scope="session")
def digits() -> tuple[Tensor, Tensor]:
    """images : float32 [1797, 64] from 0 to 1; labels : int64 [1797]"""
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)


@pytest.fixture
def no_rule_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """How even steps are depends on who else uses the machine."""
    assert rules["uneven-steps"]
    monkeypatch.delitem(rules._entries, "uneven-steps")


@pytest.fixture(autouse=True)
def _no_hook_left() -> Iterator[None]:
    """Every watch that a test opened is closed, and torch's global hooks are those from before."""
    torch.manual_seed(0)
    yield
    for session in stepping.open_sessions():
        session.close()
    stepping.prune()
    assert not torch_optimizer._global_optimizer_pre_hooks
    assert not torch_optimizer._global_optimizer_post_hooks
