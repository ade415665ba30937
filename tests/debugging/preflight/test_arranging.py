"""What a loop does to output and target before its loss gets them is done by preflight too."""

from __future__ import annotations

import ast
import runpy
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nbops as nb
from nbops.debugging.definitions import Scope
from nbops.debugging.preflight.arranging import arrangement
from nbops.debugging.preflight.report import PreflightReport


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(50, 16), nn.Linear(16, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embed(tokens))


def loud(report: PreflightReport) -> list[str]:
    return [d.name for d in report.findings if d.status != "hint"]


def test_flattened_sequences() -> None:
    net, criterion, x, y = Tagger(), nn.CrossEntropyLoss(), torch.randint(1, 50, (8, 12)), torch.randint(0, 7, (8, 12))
    report = nb.preflight(net, (x, y), loss=criterion)
    for _ in range(1):
        loss = criterion(net(x).flatten(0, 1), y.flatten())
        loss.backward()
    assert loud(report) == []


def test_transposed_output_in_a_variable() -> None:
    net, criterion, x, y = Tagger(), nn.CrossEntropyLoss(), torch.randint(1, 50, (8, 12)), torch.randint(0, 7, (8, 12))
    report = nb.preflight(net, (x, y), loss=criterion)
    scores = net(x)
    criterion(scores.transpose(1, 2), y).backward()
    assert loud(report) == []


def test_target_of_another_type_for_a_function() -> None:
    net, x, y = nn.Sequential(nn.Linear(20, 1)), torch.randn(16, 20), torch.arange(16) % 2
    report = nb.preflight(net, (x, y), loss=F.binary_cross_entropy_with_logits)
    F.binary_cross_entropy_with_logits(net(x).squeeze(1), y.float()).backward()
    assert loud(report) == []


def test_target_that_was_prepared_for_preflight_is_left_as_it_is() -> None:
    net, criterion, x, y = nn.Linear(20, 1), nn.MSELoss(), torch.randn(16, 20), torch.randn(16)
    report = nb.preflight(net, (x, y[:, None]), loss=criterion)
    criterion(net(x).squeeze(1), y).backward()
    assert loud(report) == []


def test_sizes_that_fit_the_whole_batch_only() -> None:
    """A smaller last batch fails in the loop, and here."""
    net, criterion, x, y = Tagger(), nn.CrossEntropyLoss(), torch.randint(1, 50, (8, 12)), torch.randint(0, 7, (8, 12))
    report = nb.preflight(net, (x, y), loss=criterion)
    criterion(net(x).view(96, 7), y.view(96)).backward()
    assert loud(report) == ["last-batch"]


def test_plain_call_is_still_found_to_fail() -> None:
    net, criterion, x, y = Tagger(), nn.CrossEntropyLoss(), torch.randint(1, 50, (8, 12)), torch.randint(0, 7, (8, 12))
    report = nb.preflight(net, (x, y), loss=criterion)
    with pytest.raises((ValueError, RuntimeError)):
        criterion(net(x), y).backward()
    assert "target-mismatch" in loud(report)


def test_wrong_preparation_is_found_to_fail() -> None:
    net, criterion, x, y = Tagger(), nn.CrossEntropyLoss(), torch.randint(1, 50, (8, 12)), torch.randint(0, 7, (8, 12))
    report = nb.preflight(net, (x, y), loss=criterion)
    with pytest.raises((ValueError, RuntimeError)):
        criterion(net(x).flatten(0, 1), y).backward()
    assert "target-mismatch" in loud(report)


def test_prepared_call_that_fails_is_what_is_told() -> None:
    net, criterion, x, y = nn.Linear(20, 1), nn.BCEWithLogitsLoss(), torch.randn(16, 20), torch.arange(16) % 2
    report = nb.preflight(net, (x, y), loss=criterion)
    with pytest.raises(RuntimeError, match="Long"):
        criterion(net(x).squeeze(1), y)
    assert loud(report) == ["dtype-mismatch"]


SCRIPT = """
import torch
from torch import nn
import nbops as nb
net, x, y = nn.Linear(20, 1), torch.randn(32, 20), torch.randn(32)
criterion = nn.MSELoss()
def predicted(rows):
    return net(rows){how}
report = nb.preflight(net, (x, y), loss=criterion)
for b in torch.randperm(32).split(8):
    outputs = predicted(x[b])
    loss = criterion(outputs, y[b])
    loss.backward()
"""


@pytest.mark.parametrize(("how", "is_found"), [(".view(-1)", False), (".squeeze(1)", False), ("", True)])
def test_what_a_function_does_to_the_output_is_left_to_the_watch(tmp_path: Path, how: str, is_found: bool) -> None:
    """Where it cannot be done to the copies, it is a hint; the watch sees the shapes at the first step."""
    path = tmp_path / "train.py"
    path.write_text(SCRIPT.format(how=how))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of the sick one
        report = runpy.run_path(str(path))["report"]
    assert (loud(report) == ["broadcast-loss"]) is is_found
    assert "broadcast-loss" in [d.name for d in report.findings]


@pytest.mark.parametrize(
    ("code", "is_found"),
    [
        ("loss = criterion(net(x).squeeze(1), y)", True),
        ("out = net(x)\nloss = criterion(out[:, 0], y.long())", True),
        ("loss = criterion(net(x), y)", False),
        ("loss = criterion(net(x).squeeze(1), y) + criterion(net(x), y)", False),
        ("loss = criterion(net(x)[0], y) + criterion(net(x)[1], y)", False),  # two ways
        ("loss = criterion(net(x) + net(y), y)", False),
        ("loss = criterion(x.squeeze(1), y)", False),  # of no output
        ("loss = criterion((lambda o: o)(net(x)), y)", False),
        ("loss = other(net(x).squeeze(1), y)", False),
    ],
)
def test_what_is_read(code: str, is_found: bool) -> None:

    net, criterion = nn.Linear(4, 1), nn.MSELoss()
    variables = {"net": net, "criterion": criterion, "x": torch.zeros(2, 4), "y": torch.zeros(2), "other": nn.L1Loss()}
    found = arrangement(net, criterion, [Scope("cell", ast.parse(code), variables)])
    assert (found is not None) is is_found
    if found is not None:
        first, second = found(torch.ones(3, 1), torch.ones(3))
        assert first.shape == second.shape == (3,)
