"""Faults of the mode: training and evaluation mixed up, dropout and running statistics in the wrong state."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import nbops as nb
from zoo.data import accuracy, batches, digits, table
from zoo.program import after, before, sick, swap


@sick(
    family="mode", ref="B31", kind="invariant", cause="train-method-overridden", place=("model",),
    metric="accuracy", works=0.9, margin=0.1,
    fix=[swap("def train(self, x, y):", "def fit(self, x, y):"), swap("net.train(x, y)", "net.fit(x, y)"),
         swap("self.training = False", "self.eval()")],
)  # fmt: skip
def train_overridden(lab):
    """A method called train hides nn.Module.train, so eval() cannot be used and only one flag is set by hand."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.7), nn.Linear(64, 10))
            self.optimizer = torch.optim.Adam(self.parameters(), lr=3e-3)

        def forward(self, x):
            return self.body(x)

        def train(self, x, y):  # <- here
            for _ in range(10):
                for xb, yb in batches(x, y):
                    self.optimizer.zero_grad()
                    loss = F.cross_entropy(self(xb), yb)
                    loss.backward()
                    self.optimizer.step()
                print(loss.item())

        def test(self, x, y):
            self.training = False
            with torch.no_grad():
                return (self(x).argmax(1) == y).float().mean()

    x, y, xt, yt = digits(flat=True)
    net = Net()
    lab.watch(net, net.optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    net.train(x, y)
    lab.score(net.test(xt, yt))


@sick(
    family="mode", ref="B35", kind="invariant", cause="eval-in-train-mode", place=("model", "metric"), by=50,
    metric="accuracy", works=0.9, margin=0.15,
    fix=[before("with torch.no_grad():", "net.eval()"), after("shown = (net(xt)", "net.train()")],
)  # fmt: skip
def no_eval_call(lab):
    """The test accuracy is computed with dropout on."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.8), nn.Linear(32, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(25):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            shown = (net(xt).argmax(1) == yt).float().mean()  # <- here
        print(epoch, "test accuracy", shown.item())
    lab.score(shown)


@sick(
    family="mode", ref="B35", kind="invariant", cause="eval-in-train-mode", place=("model", "metric", "1", "4"), by=50,
    metric="accuracy", works=0.9, margin=0.1,
    fix=[before("for c in range(10):", "net.eval()"), before("right = 0", "net.train()")],
)  # fmt: skip
def evaluated_one_class_at_a_time(lab):
    """Test images go through batch normalisation in training mode, one class at a time."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(
        nn.Linear(64, 64),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(4):
        right = 0
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()
        for c in range(10):
            with torch.no_grad():
                right += int((net(xt[yt == c]).argmax(1) == c).sum())  # <- here
        print(epoch, "test accuracy", right / len(xt))
    lab.score(right / len(xt))


@sick(
    family="mode", kind="invariant", cause="train-in-eval-mode", place=("model", "1", "4"), by=60,
    metric="accuracy", works=0.88, margin=0.2,
    fix=[after("for epoch in range(8):", "    net.train()")],
)  # fmt: skip
def never_back_to_train(lab):
    """evaluate() sets eval mode and nobody sets train mode again: statistics stay those of the first epoch."""
    x, y, xt, yt = table("breast_cancer", scaled=False)

    def evaluate(net, x, y):
        net.eval()
        with torch.no_grad():
            return (net(x).argmax(1) == y).float().mean().item()

    net = nn.Sequential(
        nn.Linear(30, 32),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.Linear(32, 32),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.Linear(32, 2),
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    print("before", evaluate(net, xt, yt))
    for epoch in range(8):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)  # <- here
            loss.backward()
            optimizer.step()
        print(epoch, loss.item(), evaluate(net, xt, yt))
    lab.score(evaluate(net, xt, yt))


@sick(
    family="mode", ref="B37", kind="invariant", cause="dropout-always-on", place=("attention", "model"), by=50,
    metric="accuracy", works=0.9, margin=0.04,
    fix=[swap("F.dropout(weights, 0.6)", "F.dropout(weights, 0.6, training=self.training)")],
)  # fmt: skip
def functional_dropout(lab):
    """F.dropout without its training flag stays on in evaluation."""

    class Attention(nn.Module):
        def __init__(self, size):
            super().__init__()
            self.qkv = nn.Linear(size, 3 * size)
            self.scale = size**-0.5

        def forward(self, x):
            q, k, v = self.qkv(x).chunk(3, dim=-1)
            weights = (q @ k.transpose(1, 2) * self.scale).softmax(-1)
            weights = F.dropout(weights, 0.6)  # <- here
            return weights @ v

    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Linear(8, 32)
            self.places = nn.Parameter(torch.randn(8, 32) * 0.3)
            self.attention = Attention(32)
            self.head = nn.Linear(256, 10)

        def forward(self, x):
            x = self.embed(x.view(-1, 8, 8)) + self.places
            return self.head(F.relu(self.attention(x)).flatten(1))

    x, y, xt, yt = digits(flat=True)
    net = Rows()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(15):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item(), accuracy(net, xt, yt))
    lab.score(accuracy(net, xt, yt))


@sick(
    family="mode", kind="invariant", cause="dropout-always-on", place=("drop", "model"), by=50,
    metric="accuracy", works=0.9, margin=0.08,
    fix=[after("super().__init__()", "self.drop = nn.Dropout(0.7)"), swap("nn.Dropout(0.7)(x)", "self.drop(x)")],
)  # fmt: skip
def dropout_made_in_forward(lab):
    """A Dropout that is constructed inside forward is always in training mode."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1 = nn.Linear(64, 48)
            self.fc2 = nn.Linear(48, 10)

        def forward(self, x):
            x = F.relu(self.fc1(x))
            x = nn.Dropout(0.7)(x)  # <- here
            return self.fc2(x)

    x, y, xt, yt = digits(flat=True)
    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    with nb.run("dropout"):
        for epoch in range(12):
            for xb, yb in batches(x, y):
                optimizer.zero_grad()
                loss = criterion(net(xb), yb)
                loss.backward()
                optimizer.step()
            nb.log(epoch, loss=loss.item(), accuracy=accuracy(net, xt, yt))
    lab.score(accuracy(net, xt, yt))


@sick(
    family="mode", ref="B39", kind="invariant", cause="parametrization-stale", place=("layer", "model", "metric"), by=0,
    metric="error", works=0.1, margin=0.1,
    fix=[before("net.eval()", "net.train()\nfor _ in range(30):\n    net(torch.randn(8, 16))")],
)  # fmt: skip
def spectral_norm_before_training(lab):
    """A spectrally normalised layer is evaluated before any training forward: its power iteration has hardly begun."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = spectral_norm(nn.Linear(16, 64, bias=False), n_power_iterations=1)
            with torch.no_grad():
                self.layer.parametrizations.weight.original.copy_(torch.randn(64, 16) * torch.linspace(0.2, 3, 16))

        def forward(self, x):
            return self.layer(x)

    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=F.mse_loss, batch=(torch.randn(8, 16), torch.randn(8, 64)))
    net.eval()
    with torch.no_grad():
        before_training = net(torch.eye(16))  # <- here
    largest = torch.linalg.matrix_norm(before_training, ord=2)
    net.train()
    for _ in range(5):
        optimizer.zero_grad()
        F.mse_loss(net(torch.randn(8, 16)), torch.randn(8, 64)).backward()
        optimizer.step()
    lab.score((largest - 1).abs())


@sick(
    family="mode", kind="statistic", cause="running-stats-wrong", place=("1", "model"),
    metric="accuracy", works=0.9, margin=0.1,
    fix=[swap("nn.BatchNorm2d(16, momentum=0.001)", "nn.BatchNorm2d(16, momentum=0.1)")],
)  # fmt: skip
def momentum_of_another_library(lab):
    """Batch normalisation with a momentum meant the other way round: the running statistics hardly move."""
    x, y, xt, yt = digits()
    x, xt = x * 4 + 3, xt * 4 + 3
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3),
        nn.BatchNorm2d(16, momentum=0.001),  # <- here
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(576, 10),
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(6):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item(), accuracy(net, xt, yt))
    lab.score(accuracy(net, xt, yt))


@sick(
    family="mode", kind="invariant", cause="eval-preprocessing-differs", place=("batch", "metric"), by=50,
    metric="accuracy", works=0.9, margin=0.1,
    fix=[swap("accuracy(net, xt, yt)\n    print", "accuracy(net, (xt - mean) / std, yt)\n    print")],
)  # fmt: skip
def evaluated_without_normalising(lab):
    """Training images are standardised, test images are not."""
    x, y, xt, yt = digits(flat=True)
    mean, std = 4 * x.mean(), x.std() / 3
    x = (x - mean) / std
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(10):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        shown = accuracy(net, xt, yt)  # <- here
        print(epoch, loss.item(), shown)
    lab.score(shown)
