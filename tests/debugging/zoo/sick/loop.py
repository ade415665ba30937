"""Faults of the training loop: what is cleared, computed and applied, and in which order."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from zoo.data import accuracy, batches, digits, line, r2, table
from zoo.program import after, before, drop, sick, swap


@sick(
    family="loop", ref="B01", kind="invariant", cause="grads-not-cleared", place="optimizer",
    metric="accuracy", works=0.93, margin=0.1,
    fix=[before("loss.backward()", "optimizer.zero_grad()")],
)  # fmt: skip
def no_zero_grad(lab):
    """A CNN whose gradients add up over all batches; looks like too high a learning rate."""
    x, y, xt, yt = digits()
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:32], y[:32]))
    for epoch in range(8):
        for xb, yb in batches(x, y, size=32):
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()  # <- here
        print(f"epoch {epoch}: loss {loss.item():.4f}")
    lab.score(accuracy(net, xt, yt))


@sick(
    family="loop", kind="invariant", cause="grads-not-cleared", place="optimizer",
    metric="r2", works=0.9, margin=0.3,
    fix=[swap("net.zero_grad", "optimizer.zero_grad()")],
)  # fmt: skip
def zero_grad_not_called(lab):
    """``net.zero_grad`` without parentheses does nothing."""
    x, y, xt, yt = line()
    net = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 1))
    criterion = nn.MSELoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for step in range(400):
        rows = torch.randint(0, len(x), (32,))
        net.zero_grad  # noqa: B018
        loss = criterion(net(x[rows]), y[rows])
        loss.backward()
        optimizer.step()  # <- here
        if step % 100 == 0:
            print(step, loss.item())
    lab.score(r2(net, xt, yt))


@sick(
    family="loop", kind="invariant", cause="grads-cleared-before-step", place="optimizer",
    metric="accuracy", works=0.9, margin=0.5,
    fix=[drop("optimizer.zero_grad()"), before("loss = criterion", "optimizer.zero_grad()")],
)  # fmt: skip
def zero_grad_before_step(lab):
    """Gradients are cleared between backward and step, so nothing is ever learned."""
    x, y, xt, yt = digits(flat=True)
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=next(iter(loader)))
    for epoch in range(6):
        total = 0.0
        for xb, yb in loader:
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.zero_grad()  # <- here
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch}: loss {total / len(loader):.4f}")
    lab.score(accuracy(net, xt, yt))


@sick(
    family="loop", kind="invariant", cause="backward-missing", place=("optimizer", "loss", "model"),
    metric="accuracy", works=0.9, margin=0.3,
    fix=[before("optimizer.step()", "loss.backward()")],
)  # fmt: skip
def no_backward(lab):
    """The loss is computed, and the optimizer steps without gradients."""
    x, y, xt, yt = table("wine")
    net = nn.Sequential(nn.Linear(13, 32), nn.Tanh(), nn.Linear(32, 3))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=criterion, batch=(x, y))
    for epoch in range(60):
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        optimizer.step()  # <- here
        if epoch % 10 == 0:
            print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="loop", kind="invariant", cause="step-missing", place=("optimizer", "model"),
    metric="accuracy", works=0.9, margin=0.5,
    fix=[after("loss.backward()", "optimizer.step()")],
)  # fmt: skip
def no_step(lab):
    """Only the scheduler steps, the optimizer never does."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 100, 0.5)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for step in range(200):
        rows = torch.randint(0, len(x), (64,))
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x[rows]), y[rows])
        loss.backward()
        scheduler.step()  # <- here
        if step % 50 == 0:
            print(step, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="loop", kind="statistic", cause="step-outside-loop", place="optimizer", by=20,
    metric="accuracy", works=0.9, margin=0.3,
    fix=[drop("optimizer.step()"), after("loss.backward()", "optimizer.step()")],
)  # fmt: skip
def step_after_the_epoch(lab):
    """The step lost its indentation: one step per epoch, with the gradient of the last batch."""
    x, y, xt, yt = digits(flat=True)
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    lab.watch(net, optimizer, loss=criterion, batch=next(iter(loader)))
    for epoch in range(8):
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
        optimizer.step()  # <- here
        print(f"epoch {epoch}: loss {loss.item():.4f}")
    lab.score(accuracy(net, xt, yt))


@sick(
    family="loop", kind="statistic", cause=("accumulation-not-scaled", "lr-too-high"), place="optimizer",
    metric="accuracy", works=0.9, margin=0.2,
    fix=[swap("loss.backward()", "(loss / accumulate).backward()")],
)  # fmt: skip
def accumulation_is_summed(lab):
    """Sixteen micro-batches are summed where they should be averaged."""
    x, y, xt, yt = digits()
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
    accumulate = 16
    lab.watch(net, optimizer, loss=criterion, batch=(x[:8], y[:8]))
    for epoch in range(12):
        for i, (xb, yb) in enumerate(batches(x, y, size=8)):
            loss = criterion(net(xb), yb)
            loss.backward()  # <- here
            if i % accumulate == accumulate - 1:
                optimizer.step()
                optimizer.zero_grad()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="loop", kind="invariant", cause="graph-cut", place=("loss", "model"),
    metric="accuracy", works=0.9, margin=0.4,
    fix=[swap("torch.tensor(F.cross_entropy(net(xb), yb).item(), requires_grad=True)", "F.cross_entropy(net(xb), yb)")],
)  # fmt: skip
def loss_made_a_leaf(lab):
    """An error of autograd was silenced by wrapping the loss into a new tensor."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(5):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = torch.tensor(F.cross_entropy(net(xb), yb).item(), requires_grad=True)  # <- here
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="loop", kind="invariant", cause="graph-cut", place=("encoder", "encoder.*", "head"),
    metric="accuracy", works=0.93, margin=0.05,
    fix=[swap("self.encoder(x).detach()", "self.encoder(x)")],
)  # fmt: skip
def encoder_detached(lab):
    """A detach that was there for a plot keeps the encoder from learning."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 8))
            self.head = nn.Linear(8, 10)

        def forward(self, x):
            features = self.encoder(x).detach()  # <- here
            return self.head(features)

    x, y, xt, yt = digits(flat=True)
    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(15):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, accuracy(net, xt, yt))
    lab.score(accuracy(net, xt, yt))
