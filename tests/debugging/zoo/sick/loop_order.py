"""Faults of the training loop: what is made, given and repeated where it should not be."""

from __future__ import annotations

import itertools  # noqa: F401 - a twin uses it

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nbops as nb
from zoo.data import accuracy, batches, digits, r2, wave
from zoo.program import after, before, drop, sick, swap


@sick(
    family="loop", kind="invariant", cause="optimizer-of-other-parameters", place=("optimizer", "model"),
    metric="accuracy", works=0.9, margin=0.5,
    fix=[after("net = build()  # again", "optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)")],
)  # fmt: skip
def optimizer_of_an_older_model(lab):
    """The model was built again after the optimizer."""

    def build():
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    x, y, xt, yt = digits(flat=True)
    net = build()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)  # <- here
    torch.manual_seed(lab.seed)
    net = build()  # again
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for step in range(200):
        rows = torch.randint(0, len(x), (64,))
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(step, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="loop", kind="invariant", cause="parameters-not-in-optimizer", place=("features*", "optimizer"),
    metric="accuracy", works=0.93, margin=0.05,
    fix=[swap("net.classifier.parameters()", "net.parameters()")],
)  # fmt: skip
def half_the_parameters(lab):
    """Only the classifier's parameters were given to the optimizer; the features stay random."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 8, 3, stride=2), nn.Tanh())
            self.classifier = nn.Linear(32, 10)

        def forward(self, x):
            return self.classifier(self.features(x).flatten(1))

    x, y, xt, yt = digits()
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.classifier.parameters(), lr=5e-3)  # <- here
    lab.watch(net, optimizer, loss=criterion, batch=next(iter(loader)))
    for epoch in range(12):
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, accuracy(net, xt, yt))
    lab.score(accuracy(net, xt, yt))


@sick(
    family="loop", kind="invariant", cause="same-batch-always", place="batch",
    metric="accuracy", works=0.9, margin=0.1,
    fix=[
        before("for step in range(300):", "stream = itertools.chain.from_iterable(itertools.repeat(loader))"),
        swap("xb, yb = next(iter(loader))", "xb, yb = next(stream)"),
    ],
)  # fmt: skip
def first_batch_for_ever(lab):
    """``next(iter(loader))`` inside the loop gives the first batch each time."""
    x, y, xt, yt = digits(flat=True)
    loader = DataLoader(TensorDataset(x, y), batch_size=64)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=next(iter(loader)))
    for step in range(300):
        xb, yb = next(iter(loader))  # <- here
        optimizer.zero_grad()
        loss = criterion(net(xb), yb)
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(step, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="loop", kind="invariant", cause="model-rebuilt-in-loop", place=("model", "optimizer"), by=100,
    metric="accuracy", works=0.93, margin=0.2,
    fix=[
        drop("    net = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))"),
        drop("    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.5)"),
    ],
)  # fmt: skip
def model_built_in_the_loop(lab):
    """Model and optimizer are made anew at each epoch, so only the last epoch counts."""
    x, y, xt, yt = digits(flat=True)
    criterion = nn.CrossEntropyLoss()
    net = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.5)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(15):
        net = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))  # <- here
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.5)
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="loop", kind="invariant", cause="optimizer-rebuilt-in-loop", place="optimizer",
    metric="r2", works=0.98, margin=0.05,
    fix=[
        drop("optimizer = torch.optim.Adam(net.parameters(), lr=0.03)"),
        before("for step in range(400):", "optimizer = torch.optim.Adam(net.parameters(), lr=0.03)"),
    ],
)  # fmt: skip
def optimizer_built_in_the_loop(lab):
    """A new Adam for every batch has no memory: each step is the sign of the gradient times the rate."""
    x, y, xt, yt = wave()
    x, xt = x.squeeze(-1), xt.squeeze(-1)
    net = nn.Sequential(nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    criterion = nn.MSELoss()
    lab.watch(net, loss=criterion, batch=(x[:64], y[:64]))
    for step in range(400):
        rows = torch.randint(0, len(x), (64,))
        optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
        optimizer.zero_grad()
        loss = criterion(net(x[rows]), y[rows])
        loss.backward()
        optimizer.step()  # <- here
        if step % 50 == 0:
            print(step, loss.item())
    lab.score(r2(net, xt, yt))


@sick(
    family="loop", kind="statistic", cause="clip-too-small", place="optimizer",
    metric="accuracy", works=0.9, margin=0.3,
    fix=[swap("net.parameters(), 1e-4)", "net.parameters(), 1.0)")],
)  # fmt: skip
def clipped_to_nothing(lab):
    """Gradients are clipped to a norm of 1e-4 under SGD."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    with nb.run("clipped"):
        for epoch in range(8):
            for xb, yb in batches(x, y):
                optimizer.zero_grad()
                loss = criterion(net(xb), yb)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1e-4)  # <- here
                optimizer.step()
            nb.log(epoch, loss=loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="loop", kind="statistic", cause="loss-sign", place="loss",
    metric="accuracy", works=0.9, margin=0.5,
    fix=[swap("loss = -criterion(net(xb), yb)", "loss = criterion(net(xb), yb)")],
)  # fmt: skip
def loss_with_the_wrong_sign(lab):
    """Gradient ascent on the cross-entropy."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(8):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = -criterion(net(xb), yb)  # <- here
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="loop", kind="statistic", cause=("clip-at-wrong-place", "exploding-gradient"),
    place=("optimizer", "rnn", "model"), metric="r2", works=0.5, margin=0.3, by=200,
    fix=[
        drop("torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)"),
        after("loss.backward()", "torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)"),
    ],
)  # fmt: skip
def clipped_before_backward(lab):
    """Gradients are clipped between zero_grad and backward, when there are none: a recurrence explodes."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.RNN(1, 32, nonlinearity="relu", batch_first=True)
            self.head = nn.Linear(32, 1)
            with torch.no_grad():
                self.rnn.weight_hh_l0.copy_(torch.eye(32) * 1.1)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    x, y, xt, yt = wave()
    net = Net()
    criterion = nn.MSELoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for step in range(400):
        rows = torch.randint(0, len(x), (32,))
        optimizer.zero_grad()
        loss = criterion(net(x[rows]), y[rows])
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)  # <- here
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(step, loss.item())
    lab.score(r2(net, xt, yt))
