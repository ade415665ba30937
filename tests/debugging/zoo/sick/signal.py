"""Faults of scale: dead and saturated units, decay, momentum, gains, bottlenecks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from zoo.data import accuracy, batches, digits, line, r2, wave
from zoo.program import drop, sick, swap


@sick(
    family="scale", kind="statistic", cause=("dead-relu", "init-too-large"), place=("hidden", "model"), by=50,
    metric="accuracy", works=0.9, margin=0.3,
    fix=[swap("nn.init.constant_(self.hidden.bias, -4.0)", "nn.init.zeros_(self.hidden.bias)")],
)  # fmt: skip
def born_dead(lab):
    """Biases of -4 keep every ReLU unit off from the start."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(64, 64)
            self.out = nn.Linear(64, 10)
            nn.init.constant_(self.hidden.bias, -4.0)  # <- here

        def forward(self, x):
            return self.out(F.relu(self.hidden(x)))

    x, y, xt, yt = digits(flat=True)
    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
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
    family="scale", kind="statistic", cause="weight-decay-too-high", place=("optimizer", "model"), by=200,
    metric="accuracy", works=0.9, margin=0.4,
    fix=[swap("weight_decay=1.0", "weight_decay=1e-4")],
)  # fmt: skip
def decay_of_one(lab):
    """A weight decay of 1 under SGD keeps all weights near zero."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1.0)  # <- here
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
    family="scale", kind="statistic", cause=("momentum-too-high", "lr-too-high"), place="optimizer",
    metric="r2", works=0.95, margin=0.1,
    fix=[swap("momentum=0.999", "momentum=0.9")],
)  # fmt: skip
def momentum_of_a_pendulum(lab):
    """A momentum of 0.999 overshoots and swings through the whole training."""
    x, y, xt, yt = wave()
    net = nn.Sequential(nn.Flatten(), nn.Linear(24, 32), nn.Tanh(), nn.Linear(32, 1))
    criterion = nn.MSELoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.999)  # <- here
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for step in range(400):
        rows = torch.randint(0, len(x), (64,))
        optimizer.zero_grad()
        loss = criterion(net(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(step, loss.item())
    lab.score(r2(net, xt, yt))


@sick(
    family="scale", kind="statistic", cause=("eps-wrong", "lr-too-low"), place="optimizer",
    metric="accuracy", works=0.9, margin=0.3,
    fix=[swap("eps=10.0", "eps=1e-8")],
)  # fmt: skip
def eps_that_swallows_the_step(lab):
    """Adam's eps set to 10: the step is the gradient times 1e-4."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3, eps=10.0)  # <- here
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(8):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="scale", kind="statistic", cause=("init-too-large", "exploding-gradient"), place=("*",), by=50,
    metric="accuracy", works=0.9, margin=0.1,
    fix=[swap("gain=4.0", "gain=1.0")],
)  # fmt: skip
def gain_of_four(lab):
    """Eight layers initialised with a gain of 4: outputs in the ten thousands."""
    x, y, xt, yt = digits(flat=True)
    layers = [nn.Linear(64, 64), nn.ReLU()]
    for _ in range(6):
        layers += [nn.Linear(64, 64), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(64, 10))
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight, gain=4.0)  # <- here
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
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
    family="scale", kind="statistic", cause=("init-too-small", "vanishing-gradient"), place=("*",), by=200,
    metric="accuracy", works=0.9, margin=0.4,
    fix=[drop("nn.init.normal_(p, std=1e-3)"), drop("if p.ndim > 1:"), drop("for p in net.parameters():")],
)  # fmt: skip
def whispering_weights(lab):
    """Six layers of weights near 1e-3: the signal is gone before the output."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    for p in net.parameters():
        if p.ndim > 1:
            nn.init.normal_(p, std=1e-3)  # <- here
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
    family="scale", kind="statistic", cause="too-much-regularisation", place=("*",),
    metric="accuracy", works=0.9, margin=0.04,
    fix=[swap("nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.95)", "nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2)")],
)  # fmt: skip
def dropout_of_95_percent(lab):
    """Dropout was read as the share that is kept."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.95), nn.Linear(64, 10))  # <- here
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
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
    family="scale", kind="statistic", cause="model-too-small", place=("*",),
    metric="accuracy", works=0.9, margin=0.3,
    fix=[swap("nn.Linear(64, 1), nn.ReLU(), nn.Linear(1, 64)", "nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 64)")],
)  # fmt: skip
def bottleneck_of_one(lab):
    """All that the network knows about an image passes through one unit."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 1), nn.ReLU(), nn.Linear(1, 64), nn.ReLU(), nn.Linear(64, 10))  # <- here
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
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
    family="scale", kind="statistic", cause=("targets-not-scaled", "lr-too-low"),
    place=("batch", "loss", "optimizer", "model"), metric="r2", works=0.9, margin=0.3,
    fix=[swap("y, yt = y * 20_000 + 300_000, yt * 20_000 + 300_000", "offset = 300_000")],
)  # fmt: skip
def prices_as_they_are(lab):
    """Targets near 300,000 under Adam with a rate of 1e-2: the output never gets there."""
    x, y, xt, yt = line()
    y, yt = y * 20_000 + 300_000, yt * 20_000 + 300_000  # <- here
    net = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    lab.watch(net, optimizer, loss=F.mse_loss, batch=(x[:32], y[:32]))
    for epoch in range(20):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            loss = F.mse_loss(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(net, xt, yt))
