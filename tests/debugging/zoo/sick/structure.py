"""Faults of what belongs to a model: unregistered parts, unused parts, transfer learning, tied weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from zoo.data import accuracy, batches, digits, line, r2
from zoo.program import before, drop, sick, swap


@sick(
    family="structure", ref="B07", kind="invariant", cause="modules-not-registered", place=("layers*", "model"),
    metric="accuracy", works=0.9, margin=0.03,
    fix=[
        swap("self.layers = [nn.Linear", "self.layers = nn.ModuleList([nn.Linear"),
        swap("for _ in range(4)]", "for _ in range(4)])"),
    ],
)  # fmt: skip
def layers_in_a_list(lab):
    """Six layers stand in a plain list: the optimizer never hears of them."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(64, 12)
            self.layers = [nn.Linear(12, 12) for _ in range(4)]  # <- here
            self.last = nn.Linear(12, 10)

        def forward(self, x):
            x = torch.tanh(self.first(x))
            for layer in self.layers:
                x = torch.tanh(layer(x))
            return self.last(x)

    x, y, xt, yt = digits(flat=True)
    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(25):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="structure", kind="invariant", cause="modules-not-registered", place=("blocks*", "model"),
    metric="accuracy", works=0.9, margin=0.1,
    fix=[swap("self.blocks = {", "self.blocks = nn.ModuleDict({"), swap("nn.Linear(24, 10)}", "nn.Linear(24, 10)})")],
)  # fmt: skip
def layers_in_a_dict(lab):
    """The same with a dict."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Linear(64, 24)
            self.blocks = {"body": nn.Linear(24, 24), "head": nn.Linear(24, 10)}  # <- here
            self.scale = nn.Parameter(torch.ones(10))

        def forward(self, x):
            x = F.relu(self.stem(x))
            x = F.relu(self.blocks["body"](x))
            return self.blocks["head"](x) * self.scale

    x, y, xt, yt = digits(flat=True)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(15):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="structure", kind="invariant", cause="parameter-not-registered", place=("scale", "weight", "model"),
    metric="r2", works=0.9, margin=0.3,
    fix=[swap("self.weight = torch.randn(3, 1, requires_grad=True)", "self.weight = nn.Parameter(torch.randn(3, 1))")],
)  # fmt: skip
def weight_that_is_no_parameter(lab):
    """A weight with requires_grad is still no Parameter."""

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.randn(3, 1, requires_grad=True)  # <- here
            self.bias = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return x @ self.weight + self.bias

    x, y, xt, yt = line()
    net = Linear()
    criterion = nn.MSELoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for epoch in range(15):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(net, xt, yt))


@sick(
    family="structure", kind="invariant", cause="module-unused", place=("classifier", "fc", "model"),
    metric="accuracy", works=0.9, margin=0.3,
    fix=[
        swap("net.classifier = nn.Linear(32, 10)", "net.fc = nn.Linear(32, 10)"),
        swap("net.classifier.parameters()", "net.fc.parameters()"),
    ],
)  # fmt: skip
def new_head_under_another_name(lab):
    """The new head is assigned to ``classifier``, but forward calls ``fc``."""

    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
            self.fc = nn.Linear(32, 10)

        def forward(self, x):
            return self.fc(self.body(x))

    x, y, xt, yt = digits(flat=True)
    net = Backbone()
    trainer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(150):  # another task: labels counted the other way round
        rows = torch.randint(0, len(x), (64,))
        trainer.zero_grad()
        F.cross_entropy(net(x[rows]), 9 - y[rows]).backward()
        trainer.step()
    for p in net.parameters():
        p.requires_grad_(False)
    net.classifier = nn.Linear(32, 10)  # <- here
    net.fc.requires_grad_(True)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.classifier.parameters(), lr=0.01)
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
    family="structure", kind="invariant", cause=("parameters-not-in-optimizer", "optimizer-of-other-parameters"),
    place=("fc", "optimizer"), metric="accuracy", works=0.9, margin=0.03,
    fix=[
        drop("optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)"),
        before(
            "criterion = nn.CrossEntropyLoss()",
            "optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)",
        ),
    ],
)  # fmt: skip
def head_replaced_behind_the_optimizer(lab):
    """The head is replaced after the optimizer was built: the new one is never updated."""

    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(64, 48), nn.ReLU())
            self.fc = nn.Linear(48, 5)

        def forward(self, x):
            return self.fc(self.body(x))

    x, y, xt, yt = digits(flat=True)
    net = Backbone()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)  # <- here
    net.fc = nn.Linear(48, 10)
    criterion = nn.CrossEntropyLoss()
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
    family="structure", kind="invariant", cause="layer-made-in-forward", place=("Net", "model"),
    metric="accuracy", works=0.9, margin=0.3,
    fix=[
        before("self.last = nn.Linear(48, 10)", "self.middle = nn.Linear(48, 48)"),
        swap("torch.relu(nn.Linear(48, 48)(x))", "torch.relu(self.middle(x))"),
    ],
)  # fmt: skip
def layer_made_in_forward(lab):
    """The middle layer is made where it is called, with other random weights in each pass."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(64, 48)
            self.last = nn.Linear(48, 10)

        def forward(self, x):
            x = torch.relu(self.first(x))
            x = torch.relu(nn.Linear(48, 48)(x))  # <- here
            return self.last(x)

    x, y, xt, yt = digits(flat=True)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(20):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="structure", kind="statistic", cause="missing-activation", place=("model", "Net", "first", "second"),
    metric="r2", works=0.8, margin=0.3,
    fix=[swap("self.second(self.first(x))", "self.second(torch.tanh(self.first(x)))")],
)  # fmt: skip
def forward_without_an_activation(lab):
    """Two layers follow each other in a forward of the user's, with nothing between them."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(1, 64)
            self.second = nn.Linear(64, 1)

        def forward(self, x):
            return self.second(self.first(x))  # <- here

    x = torch.linspace(-3, 3, 512)[:, None]
    y = x**2 - 3
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=F.mse_loss, batch=(x[:64], y[:64]))
    for step in range(400):
        rows = torch.randint(0, len(x), (64,))
        optimizer.zero_grad()
        loss = F.mse_loss(net(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(step, loss.item())
    lab.score(r2(net, x, y))
