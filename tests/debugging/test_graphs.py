"""Watched models under torch.compile, export and tracing: hooks stay out of captured graphs, and the watch says so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nbops as nb
from nbops.core.errors import TrainingStopped
from nbops.debugging.findings import DebuggerWarning

Data = tuple[Tensor, Tensor]


def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def train(model: Any, parameters: Any, data: Data, loss: nn.Module, *, steps: int = 25, nan_at: int = -1) -> None:
    optimizer = torch.optim.SGD(parameters, 0.1)
    for step in range(steps):
        rows = torch.randint(0, len(data[0]), (32,))
        optimizer.zero_grad()
        loss(model(data[0][rows] * (torch.nan if step == nan_at else 1)), data[1][rows]).backward()
        optimizer.step()


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Any:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def test_compiled_model_is_watched_without_layer_outputs(digits: Data) -> None:
    model, loss = small(), nn.CrossEntropyLoss()
    compiled = torch.compile(model, backend="eager")
    with pytest.warns(DebuggerWarning, match="compiled by torch.compile: layer outputs are not seen"):
        watch = nb.watch(compiled, loss=loss, on_error="stop")
    with watch:
        assert watch.model_name == "Sequential"
        train(compiled, model.parameters(), digits, loss)
        assert watch.diagnoses == []
        assert list(watch.stats) == ["0", "2"]
        assert "activation_rms" not in watch.stats["0"]
        assert watch.stats["0"]["update_ratio"] > 0
        with pytest.raises(TrainingStopped, match="non-finite-loss at step 3 in layer '0'"):
            train(compiled, model.parameters(), digits, loss, nan_at=3)
    assert not model[0]._forward_hooks


def test_model_that_is_compiled_while_watched(digits: Data) -> None:
    model, loss = small(), nn.CrossEntropyLoss()
    with nb.watch(model, loss=loss, on_error="stop") as watch:
        compiled = torch.compile(model, backend="eager")
        train(compiled, model.parameters(), digits, loss)
        assert watch.diagnoses == []
        assert watch.errors == []
        assert watch.steps == 25
        assert any("no layer's output was seen" in note for note in watch.notes)
    assert torch._dynamo.utils.counters["graph_break"] == {}


def test_watched_model_exports(digits: Data) -> None:
    """As registering does: the watch is still open."""
    model, loss = small(), nn.CrossEntropyLoss()
    with nb.watch(model, loss=loss) as watch:
        train(model, model.parameters(), digits, loss)
        model.eval()
        rows = digits[0][:4]
        want = model(rows)
        for strict in (False, True):
            program = torch.export.export(model, (rows,), strict=strict)
            assert torch.equal(program.module()(rows), want)
            assert {str(node.target) for node in program.graph.nodes if node.op == "call_function"} == {
                "aten.linear.default", "aten.relu.default",
            }  # fmt: skip
        with pytest.warns(DeprecationWarning, match=r"torch.jit.trace"):
            traced = torch.jit.trace(model, (rows,))  # type: ignore[no-untyped-call]
        assert torch.equal(traced(rows), want)
        model.train()
        train(model, model.parameters(), digits, loss)
        assert watch.errors == []
        assert watch.diagnoses == []
