"""Healthy trainings of many kinds, on real data: no finding, no warning (warnings are errors here)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

import nbops as nb
from nbops.debugging.watch import Watch

Data = tuple[Tensor, Tensor]


pytestmark = pytest.mark.usefixtures("no_rule_of_time")


def batch_of(data: Data, size: int = 64) -> Data:
    rows = torch.randint(0, len(data[0]), (size,))
    return data[0][rows], data[1][rows]


def accuracy(model: nn.Module, data: Data) -> float:
    model.eval()
    with torch.no_grad():
        right = (model(data[0]).argmax(1) == data[1]).float().mean().item()
    model.train()
    return right


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 64), nn.ReLU(),
        nn.Dropout(0.2), nn.Linear(64, 10),
    )  # fmt: skip


@pytest.mark.parametrize(("seed", "on_error"), [(0, "warn"), (1, "warn"), (2, "warn"), (0, "stop")])
def test_convolutional_network(digits: Data, seed: int, on_error: str) -> None:
    torch.manual_seed(seed)
    model, loss = cnn(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    with nb.watch(model, optimizer=optimizer, loss=loss, on_error=on_error) as watch:
        for step in range(200):
            x, y = batch_of(digits, 32)
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
            if step % 50 == 0:
                accuracy(model, batch_of(digits))  # an evaluation in between
    assert watch.diagnoses == []
    assert watch.errors == []
    assert watch.steps == 200
    assert accuracy(model, digits) > 0.9


def mlp_with_clipping(data: Data) -> Watch:
    model, loss = (
        nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, 10)),
        nn.CrossEntropyLoss(),
    )
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=150)
    watch = nb.watch(model, loss=loss)
    for _ in range(150):
        x, y = batch_of(data)
        optimizer.zero_grad()
        loss(model(x), y).backward()
        clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        schedule.step()
    return watch


def accumulation(data: Data) -> Watch:
    model, loss = cnn(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    watch = nb.watch(model, loss=loss, on_error="stop")
    for micro in range(300):
        x, y = batch_of(data, 16)
        (loss(model(x), y) / 10).backward()
        if micro % 10 == 9:
            optimizer.step()
            optimizer.zero_grad()
    return watch


def transformer(data: Data) -> Watch:
    class Rows(nn.Module):
        """Eight rows of a digit as a sequence."""

        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(8, 32)
            self.body = nn.TransformerEncoder(
                nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2, enable_nested_tensor=False
            )
            self.head = nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(self.embed(x.view(-1, 8, 8))).mean(1))  # type: ignore[no-any-return]

    model, loss = Rows(), nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    watch = nb.watch(model, loss=loss)
    for _ in range(80):
        x, y = batch_of(data, 32)
        optimizer.zero_grad(set_to_none=False)
        loss(model(x), y).backward()
        optimizer.step()
    return watch


def recurrent(data: Data) -> Watch:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.LSTM(8, 32, batch_first=True)
            self.head = nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            out, _ = self.body(x.view(-1, 8, 8))
            return self.head(out[:, -1])  # type: ignore[no-any-return]

    model, loss = Rows(), nn.CrossEntropyLoss()
    optimizer = torch.optim.RMSprop(model.parameters(), 3e-3)
    watch = nb.watch(model, loss=loss)
    for _ in range(100):
        x, y = batch_of(data)
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    return watch


def sparse_embedding(data: Data) -> Watch:
    """Pixels as words: only the rows that were looked up get a gradient."""
    model = nn.Sequential(nn.EmbeddingBag(64 * 17 + 400, 16, sparse=True), nn.Linear(16, 10))
    loss = nn.CrossEntropyLoss()
    table, dense = torch.optim.SparseAdam(list(model[0].parameters()), 0.01), torch.optim.Adam(model[1].parameters())
    watch = nb.watch(model, loss=loss, on_error="stop")
    for _ in range(100):
        x, y = batch_of(data)
        words = (x * 16).long() + torch.arange(64) * 17
        table.zero_grad()
        dense.zero_grad()
        loss(model(words), y).backward()
        table.step()
        dense.step()
    return watch


def adversaries(data: Data) -> Watch:
    """Generator and critic with an optimizer each; both are watched."""
    maker = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 64), nn.Sigmoid())
    critic = nn.Sequential(nn.Linear(64, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
    loss = nn.BCEWithLogitsLoss()
    makes, criticises = torch.optim.Adam(maker.parameters(), 1e-3), torch.optim.Adam(critic.parameters(), 1e-3)
    watch, other = nb.watch(critic, loss=loss), nb.watch(maker, loss=loss)
    for step in range(120):
        real, _ = batch_of(data)
        false = maker(torch.randn(64, 8))
        criticises.zero_grad()
        (loss(critic(real), torch.ones(64, 1)) + loss(critic(false.detach()), torch.zeros(64, 1))).backward()
        criticises.step()
        if step % 3 == 2:
            makes.zero_grad()
            loss(critic(false), torch.ones(64, 1)).backward()
            makes.step()
    assert other.diagnoses == []
    assert (watch.steps, other.steps) == (120, 40)
    return watch


def tuned_adapter(data: Data) -> Watch:
    """A frozen layer and a low-rank correction whose second matrix starts at zero."""

    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen = nn.Linear(64, 32).requires_grad_(False)
            self.down, self.up = nn.Linear(64, 4, bias=False), nn.Linear(4, 32, bias=False)
            nn.init.zeros_(self.up.weight)
            self.head = nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(self.frozen(x) + self.up(self.down(x))))  # type: ignore[no-any-return]

    model, loss = Adapted(), nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3)
    watch = nb.watch(model)
    for _ in range(100):
        x, y = batch_of(data)
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    return watch


def autoencoder_in_bfloat16(data: Data) -> Watch:
    model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 64)).to(torch.bfloat16)
    loss = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    watch = nb.watch(model, loss=loss, on_error="stop")
    for _ in range(100):
        x = batch_of(data)[0].to(torch.bfloat16)
        optimizer.zero_grad()
        loss(model(x), x).backward()
        optimizer.step()
    return watch


def tied_double_precision(data: Data) -> Watch:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(16, 64) * 0.1)  # a parameter of the model itself
            self.out = nn.Linear(16, 64, bias=False)
            self.out.weight = nn.Parameter(torch.randn(64, 16) * 0.1)
            self.again = nn.Linear(16, 64, bias=False)
            self.again.weight = self.out.weight

        def forward(self, x: Tensor) -> Tensor:
            hidden = torch.tanh(x @ self.weight.T)
            return self.out(hidden) + self.again(hidden)  # type: ignore[no-any-return]

    model, loss = Tied().double(), nn.MSELoss(reduction="none")
    optimizer = torch.optim.SGD(model.parameters(), 0.005)
    watch = nb.watch(model, loss=loss, on_error="stop")
    for _ in range(100):
        x = batch_of(data)[0].double()
        optimizer.zero_grad()
        loss(model(x), x).sum(1).mean().backward()
        optimizer.step()
    assert "Tied" in watch.stats
    return watch


def submodules_called_apart(data: Data) -> Watch:
    """The model's own forward is never called."""
    model = nn.ModuleDict({"body": nn.Sequential(nn.Linear(64, 32), nn.ReLU()), "head": nn.Linear(32, 10)})
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watch = nb.watch(model)
    for _ in range(60):
        x, y = batch_of(data)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model["head"](model["body"](x)), y).backward()
        optimizer.step()
    assert "activation_rms" in watch.stats["body.0"]
    return watch


PROGRAMS = [
    mlp_with_clipping, accumulation, transformer, recurrent, sparse_embedding, adversaries, tuned_adapter,
    autoencoder_in_bfloat16, tied_double_precision, submodules_called_apart,
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_healthy_program(digits: Data, program: Callable[[Data], Watch]) -> None:
    watch = program(digits)
    assert watch.diagnoses == []
    assert watch.errors == []
    assert watch.steps >= 30
    assert watch.sampled >= 20
    assert all(value == value for numbers in watch.stats.values() for value in numbers.values())  # no NaN
    watch.close()
