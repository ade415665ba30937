"""Faults of initialisation, scale and learning rate."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nbops as nb
from zoo.data import accuracy, batches, digits, r2, raw_digits, table
from zoo.program import drop, sick, swap


@sick(
    family="scale", ref="B23", kind="statistic", cause=("lr-too-high", "targets-not-scaled", "exploding-gradient"),
    place=("optimizer", "batch", "loss", "0", "2"), by=20, metric="r2", works=0.3, margin=0.3,
    fix=[swap("lr=0.1", "lr=1e-4")],
)  # fmt: skip
def fast_on_raw_targets(lab):
    """SGD with 0.1 on targets in the hundreds: the loss explodes at once."""
    x, y, xt, yt = table("diabetes")
    net = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 1))
    criterion = nn.MSELoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)  # <- here
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for epoch in range(40):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(net, xt, yt))


@sick(
    family="scale", ref="B25", kind="statistic", cause="lr-too-low", place=("optimizer", "model"),
    metric="accuracy", works=0.9, margin=0.4,
    fix=[swap("lr=1e-6", "lr=1e-3")],
)  # fmt: skip
def learning_rate_of_a_millionth(lab):
    """Adam with a rate of 1e-6."""
    x, y, xt, yt = digits()
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-6)  # <- here
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(8):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="scale", ref="B27", kind="invariant", cause="constant-init", place=("fc1", "fc2", "out", "model"),
    metric="accuracy", works=0.9, margin=0.3,
    fix=[swap("nn.init.constant_(layer.weight, 0.05)", "nn.init.xavier_uniform_(layer.weight)")],
)  # fmt: skip
def all_weights_equal(lab):
    """Every weight starts at 0.05, so all units of a layer stay one unit."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1 = nn.Linear(64, 64)
            self.fc2 = nn.Linear(64, 64)
            self.out = nn.Linear(64, 10)
            for layer in (self.fc1, self.fc2, self.out):
                nn.init.constant_(layer.weight, 0.05)  # <- here
                nn.init.zeros_(layer.bias)

        def forward(self, x):
            return self.out(torch.tanh(self.fc2(torch.tanh(self.fc1(x)))))

    x, y, xt, yt = digits(flat=True)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(8):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item(), accuracy(net, xt, yt))
    lab.score(accuracy(net, xt, yt))


@sick(
    family="scale", kind="invariant", cause="constant-init", place=("0", "2", "4", "model"),
    metric="accuracy", works=0.9, margin=0.3,
    fix=[drop("nn.init.zeros_(p)"), drop("for p in net.parameters():")],
)  # fmt: skip
def all_weights_zero(lab):
    """Weights and biases start at zero: only the last bias ever moves."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    for p in net.parameters():
        nn.init.zeros_(p)  # <- here
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(6):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="scale", ref="B27", kind="statistic", cause=("init-too-large", "saturated-activation"),
    place=("0", "1", "2", "3", "4", "5", "6", "model"), metric="accuracy", works=0.9, margin=0.1,
    fix=[
        drop("nn.init.normal_(layer.weight, std=1.0)"),
        drop("if isinstance(layer, nn.Linear):"),
        drop("for layer in net:"),
    ],
)  # fmt: skip
def weights_of_unit_spread(lab):
    """Weights of standard deviation 1 saturate every tanh."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(
        nn.Linear(64, 128),
        nn.Tanh(),
        nn.Linear(128, 128),
        nn.Tanh(),
        nn.Linear(128, 128),
        nn.Tanh(),
        nn.Linear(128, 10),
    )
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=1.0)  # <- here
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(8):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="scale", ref="B29", kind="statistic", cause="vanishing-gradient",
    place=("0", "1", "2", "3", "4", "5", "6", "7", "model"), metric="accuracy", works=0.9, margin=0.4,
    fix=[swap("nn.Sigmoid(),", "nn.BatchNorm1d(48), nn.ReLU(),")],
)  # fmt: skip
def twelve_sigmoid_layers(lab):
    """Twelve sigmoid layers: the first ones get no gradient worth the name."""
    x, y, xt, yt = digits(flat=True)
    layers = [nn.Linear(64, 48)]
    for _ in range(10):
        layers += [nn.Sigmoid(), nn.Linear(48, 48)]  # <- here
    net = nn.Sequential(*layers, nn.ReLU(), nn.Linear(48, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(15):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="scale", kind="statistic", cause="lr-too-high", place=("optimizer", "*"), by=50,
    metric="accuracy", works=0.9, margin=0.4,
    fix=[swap("lr=1.0", "lr=1e-3")],
)  # fmt: skip
def adam_with_rate_one(lab):
    """Adam with a rate of 1 on a small CNN with normalisation."""
    x, y, xt, yt = digits()
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1.0)  # <- here
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=next(iter(loader)))
    for epoch in range(8):
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="scale", kind="statistic", cause=("lr-too-high", "dead-relu"), place=("optimizer", "*"), by=200,
    metric="accuracy", works=0.9, margin=0.2,
    fix=[swap("lr=2.0", "lr=0.1")],
)  # fmt: skip
def sgd_that_kills_units(lab):
    """SGD with a rate of 2: the first steps push ReLU units off for good."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=2.0, momentum=0.5)  # <- here
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for epoch in range(10):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="scale", kind="statistic", cause="inputs-not-scaled", place=("batch", "0"),
    metric="accuracy", works=0.9, margin=0.15,
    fix=[swap("x.float(), xt.float()", "x.float() / 255, xt.float() / 255")],
)  # fmt: skip
def pixels_up_to_255(lab):
    """Pixels from 0 to 255 go into a tanh network as they are."""
    x, y, xt, yt = raw_digits()
    x, xt = x.float(), xt.float()  # <- here
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(10):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="scale", kind="statistic", cause="inputs-not-scaled", place=("batch", "0"),
    metric="accuracy", works=0.9, margin=0.1,
    fix=[swap("scaled=False", "scaled=True")],
)  # fmt: skip
def one_column_in_the_thousands(lab):
    """Raw wine data: one column is near 1,000, the others near 1."""
    x, y, xt, yt = table("wine", scaled=False)  # <- here
    net = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:16], y[:16]))
    with nb.run("wine"):
        for epoch in range(40):
            for xb, yb in batches(x, y, size=16):
                optimizer.zero_grad()
                loss = criterion(net(xb), yb)
                loss.backward()
                optimizer.step()
            nb.log(epoch, loss=loss.item())
    lab.score(accuracy(net, xt, yt))
