"""Faults of pretrained and frozen parts, and of weights that are shared."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from zoo.data import accuracy, batches, characters, digits, line, predict, r2, table, windows
from zoo.program import before, drop, sick, swap


@sick(
    family="structure", ref="B03", kind="statistic", cause=("input-resolution", "eval-preprocessing-differs"),
    place=("batch", "model"), by=60, metric="accuracy", works=0.9, margin=0.05,
    fix=[swap("scale_factor=8", "scale_factor=1")],
)  # fmt: skip
def images_blown_up(lab):
    """Images of 8 pixels are blown up to 64 for a backbone that was trained on 8: slow, large and worse."""

    class Backbone(nn.Module):
        image_size = 8

        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(16, 32, 3, padding=1),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(4),
            )
            self.fc = nn.Linear(512, 10)

        def forward(self, x):
            return self.fc(self.features(x).flatten(1))

    x, y, xt, yt = digits()
    net = Backbone()
    trainer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(120):
        rows = torch.randint(0, 700, (64,))
        trainer.zero_grad()
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        trainer.step()

    def resize(images):
        return F.interpolate(images, scale_factor=8, mode="nearest")  # <- here

    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(resize(x[:16]), y[:16]))
    for epoch in range(2):
        for xb, yb in batches(x[700:1000], y[700:1000], size=16):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(resize(xb)), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, resize(xt), yt))


@sick(
    family="structure", kind="invariant", cause=("eval-preprocessing-differs", "inputs-not-scaled"), place=("batch",),
    by=60, metric="accuracy", works=0.9, margin=0.03,
    fix=[swap("x, xt = x * 255, xt * 255", "x, xt = (x - mean) / std, (xt - mean) / std")],
)  # fmt: skip
def backbone_fed_otherwise(lab):
    """A frozen backbone that was trained on standardised images gets images from 0 to 255."""
    x, y, xt, yt = digits(flat=True)
    mean, std = x.mean(), x.std()
    backbone = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 8), nn.Tanh())
    head = nn.Linear(8, 10)
    trainer = torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=5e-3)
    for _ in range(300):
        rows = torch.randint(0, len(x), (64,))
        trainer.zero_grad()
        F.cross_entropy(head(backbone((x[rows] - mean) / std)), y[rows]).backward()
        trainer.step()
    x, xt = x * 255, xt * 255  # <- here
    backbone.requires_grad_(False)
    net = nn.Sequential(backbone, head)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(6):
        for xb, yb in batches(x[:200], y[:200]):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="structure", kind="statistic", cause="frozen-by-accident", place=("features*", "model"), by=60,
    metric="accuracy", works=0.9, margin=0.08,
    fix=[drop("net.features.requires_grad_(False)")],
)  # fmt: skip
def random_features_frozen(lab):
    """The features are frozen as for transfer learning, but nothing was loaded into them."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 8, 3, stride=2), nn.Tanh())
            self.head = nn.Linear(32, 10)

        def forward(self, x):
            return self.head(self.features(x).flatten(1))

    x, y, xt, yt = digits()
    net = Net()
    net.features.requires_grad_(False)  # <- here
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=5e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for epoch in range(12):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="structure", kind="invariant", cause=("tie-broken", "parameter-twice-in-optimizer"),
    place=("out", "embed", "model", "optimizer"), metric="loss", works=2.8, margin=0.1,
    fix=[swap("self.out.weight = nn.Parameter(self.embed.weight)", "self.out.weight = self.embed.weight")],
)  # fmt: skip
def tied_by_memory_only(lab):
    """nn.Parameter(weight) makes a second parameter on the same memory: the optimizer updates it twice per step."""

    class LM(nn.Module):
        def __init__(self, vocabulary):
            super().__init__()
            self.embed = nn.Embedding(vocabulary, 48)
            nn.init.normal_(self.embed.weight, std=0.1)
            self.rnn = nn.GRU(48, 48, batch_first=True)
            self.out = nn.Linear(48, vocabulary, bias=False)
            self.out.weight = nn.Parameter(self.embed.weight)  # <- here

        def forward(self, tokens):
            return self.out(self.rnn(self.embed(tokens))[0])

    ids, vocabulary = characters()
    net = LM(vocabulary)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0, momentum=0.9, weight_decay=0.005)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=windows(ids, 32, 20))
    for step in range(250):
        xb, yb = windows(ids, 32, 20)
        optimizer.zero_grad()
        loss = F.cross_entropy(net(xb).transpose(1, 2), yb)
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(step, loss.item())
    xb, yb = windows(ids, 256, 20)
    lab.score(F.cross_entropy(predict(net, xb).transpose(1, 2), yb))


@sick(
    family="structure", kind="invariant", cause="parameter-twice-in-optimizer", place=("optimizer", "0", "model"),
    metric="r2", works=0.9, margin=0.1,
    fix=[swap("[*net.parameters(), *net[0].parameters()]", "net.parameters()")],
)  # fmt: skip
def parameters_listed_twice(lab):
    """Parameters of the first layer stand twice in the optimizer's list: they make two steps at a time."""
    x, y, xt, yt = line()
    net = nn.Sequential(nn.Linear(3, 1, bias=False))
    criterion = nn.MSELoss()
    optimizer = torch.optim.SGD([*net.parameters(), *net[0].parameters()], lr=0.55)  # <- here
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for epoch in range(12):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(net, xt, yt))


@sick(
    family="structure", kind="statistic", cause=("running-stats-wrong", "frozen-by-accident"), place=("1", "model"),
    metric="accuracy", works=0.93, margin=0.03,
    fix=[before("for xb, yb in batches(x, y, size=4", "net[1].eval()")],
)  # fmt: skip
def frozen_norm_that_moves(lab):
    """A frozen backbone keeps its batch norm in training mode, and batches of four wash its statistics away."""
    x, y, xt, yt = table("breast_cancer")
    net = nn.Sequential(nn.Linear(30, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
    trainer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(100):
        rows = torch.randint(0, len(x), (64,))
        trainer.zero_grad()
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        trainer.step()
    for p in net[:2].parameters():
        p.requires_grad_(False)
    order = y.argsort()
    x, y = x[order], y[order]
    optimizer = torch.optim.SGD(net[3].parameters(), lr=1e-3)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:4], y[:4]))
    for epoch in range(3):
        for xb, yb in batches(x, y, size=4, shuffle=False):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)  # <- here
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))
