"""An error for lack of memory, in a real kernel's shell: which layer asked, when, and what would fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nbops.debugging.memory.oom import explain, is_out_of_memory
from nbops.debugging.memory.trace import BACKWARD, FORWARD, STEP

TOO_MUCH = 1 << 46  # bytes: no machine has so much


class Wide(nn.Module):
    """Its second layer asks for more than there is."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = Asking()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x))
        return out


class Asking(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.repeat(TOO_MUCH // 64, 1)


class Late(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.expand(TOO_MUCH, *grad.shape).contiguous()[0]


class Hungry(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:
        torch.empty(TOO_MUCH)


def error_of(call: Any) -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        call()
    return caught.value


def test_the_layer_that_asked_in_the_forward_pass_is_named() -> None:
    model, batch = Wide(), torch.randn(4, 4)
    error = error_of(lambda: model(batch))
    assert is_out_of_memory(error)
    found = explain(error)
    assert (found.phase, found.layer) == (FORWARD, "second")
    assert found.asked_bytes == TOO_MUCH
    assert found.report is not None
    assert found.report.estimate.allocated > TOO_MUCH
    assert "were asked for in second during the forward" in str(found)


def test_backward_and_optimizer_step_are_told_apart() -> None:
    x = torch.randn(3, requires_grad=True)
    assert explain(error_of(lambda: Late.apply(x).sum().backward())).phase == BACKWARD
    assert explain(error_of(Hungry([x], lr=0.1).step)).phase == STEP


def test_words_of_a_full_gpu_are_read() -> None:
    said = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 23.68 GiB of which 1.2 GiB"
    error = torch.OutOfMemoryError(said)
    found = explain(error)
    assert is_out_of_memory(error)
    assert found.asked_bytes == int(2.5 * (1 << 30))
    assert found.capacity_bytes == int(23.68 * (1 << 30))
    assert found.report is None
    assert "See what a step takes" in str(found)


def test_other_errors_are_none_of_ours() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(None)


def test_the_cell_that_failed_shows_it(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    shell.run_cell("import torch\nfrom torch import nn")
    shell.user_ns["model"] = Wide()
    result = shell.run_cell("out = model(torch.randn(4, 4))")
    assert is_out_of_memory(result.error_in_exec)
    (card,) = [value for value in shown if type(value).__name__ == "OutOfMemory"]
    assert card.layer == "second"
    again = shell.run_cell("1 / 0")
    assert isinstance(again.error_in_exec, ZeroDivisionError)
    assert sum(type(value).__name__ == "OutOfMemory" for value in shown) == 1
