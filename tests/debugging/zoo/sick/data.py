"""Faults of the data: labels, order, leakage, imbalance, and what preprocessing does to the inputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.model_selection import KFold
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nbops as nb
from zoo.data import accuracy, balanced_accuracy, batches, digits, line, predict, r2, table
from zoo.program import before, drop, sick, swap


@sick(
    family="data", ref="B31", kind="invariant", cause="train-test-leak", place=("batch", "metric"), by=100,
    metric="error", works=0.12, margin=0.05,
    fix=[
        drop("    order = torch.randperm(len(x))"),
        drop("    train, test = order[:200], order[200:]"),
        swap(
            "for epoch in range(60):",
            "order = torch.randperm(len(x))\ntrain, test = order[:200], order[200:]\nfor epoch in range(60):",
        ),
    ],
)  # fmt: skip
def split_again_every_epoch(lab):
    """Train and test are split anew at each epoch, so in the end all has been trained on."""
    x, y, fresh, fresh_y = digits(flat=True)
    x, y = x[:300] + 0.4 * torch.randn(300, 64), y[:300]
    fresh = fresh + 0.4 * torch.randn(fresh.shape)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:20], y[:20]))
    for epoch in range(60):
        order = torch.randperm(len(x))  # <- here
        train, test = order[:200], order[200:]
        for xb, yb in batches(x[train], y[train], size=20):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()
        shown = accuracy(net, x[test], y[test])
        print(epoch, loss.item(), "test accuracy", shown)
    lab.score(abs(shown - accuracy(net, fresh, fresh_y)))


@sick(
    family="data", kind="invariant", cause="train-test-leak", place=("batch", "metric"), by=50,
    metric="error", works=0.12, margin=0.05,
    fix=[swap("test_x, test_y = x[-300:], y[-300:]", "test_x, test_y = fresh, fresh_y")],
)  # fmt: skip
def oversampled_before_the_split(lab):
    """Noisy samples were multiplied before the split: copies of test rows are in the training set."""
    x, y, fresh, fresh_y = digits(flat=True)
    x, y = x[:200], y[:200]
    flip = torch.rand(200) < 0.2
    y = torch.where(flip, torch.randint(0, 10, (200,)), y)
    x, y = x.repeat(5, 1), y.repeat(5)
    order = torch.randperm(len(x))
    x, y = x[order], y[order]
    train_x, train_y = x[:-300], y[:-300]
    test_x, test_y = x[-300:], y[-300:]  # <- here
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(train_x[:50], train_y[:50]))
    for epoch in range(30):
        for xb, yb in batches(train_x, train_y, size=50):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()
        shown = accuracy(net, test_x, test_y)
        print(epoch, loss.item(), "test accuracy", shown)
    lab.score(abs(shown - accuracy(net, fresh, fresh_y)))


@sick(
    family="data", ref="B33", kind="statistic", cause="labels-not-of-inputs", place="batch",
    metric="accuracy", works=0.9, margin=0.5,
    fix=[drop("y = y[torch.randperm(len(y))]")],
)  # fmt: skip
def labels_shuffled(lab):
    """The labels were shuffled once, without their images."""
    x, y, xt, yt = digits(flat=True)
    y = y[torch.randperm(len(y))]  # <- here
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
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
    family="data", ref="B33", kind="statistic", cause=("label-noise", "labels-not-of-inputs"), place="batch",
    metric="accuracy", works=0.92, margin=0.05,
    fix=[swap("wrong = torch.rand(len(y)) < 0.6", "wrong = torch.rand(len(y)) < 0.0")],
)  # fmt: skip
def most_labels_wrong(lab):
    """Six labels of ten are random."""
    x, y, xt, yt = digits(flat=True)
    wrong = torch.rand(len(y)) < 0.6  # <- here
    y = torch.where(wrong, torch.randint(0, 10, y.shape), y)
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(20):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="data", kind="statistic", cause="labels-not-of-inputs", place="batch",
    metric="accuracy", works=0.9, margin=0.5,
    fix=[
        swap("zip(DataLoader(x, 64, shuffle=True), DataLoader(y, 64, shuffle=True), strict=True)",
             "DataLoader(TensorDataset(x, y), 64, shuffle=True)"),
    ],
)  # fmt: skip
def two_loaders_zipped(lab):
    """Inputs and labels come from two loaders, each of which shuffles for itself."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(8):
        for xb, yb in zip(DataLoader(x, 64, shuffle=True), DataLoader(y, 64, shuffle=True), strict=True):  # <- here
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="data", kind="statistic", cause="labels-not-of-inputs", place="batch",
    metric="r2", works=0.9, margin=0.5,
    fix=[swap("x[:-1], y[1:]", "x, y")],
)  # fmt: skip
def targets_shifted_by_one(lab):
    """An off-by-one gives every row the target of the next."""
    x, y, xt, yt = line()
    x, y = x[:-1], y[1:]  # <- here
    net = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 1))
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
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
    family="data", kind="statistic", cause="data-not-shuffled", place="batch", metric="accuracy", works=0.9,
    margin=0.1,
    fix=[
        swap(
            "DataLoader(TensorDataset(x, y), batch_size=64)",
            "DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)",
        ),
    ],
)  # fmt: skip
def sorted_by_class(lab):
    """The data are sorted by class, and the loader does not shuffle."""
    x, y, xt, yt = digits(flat=True)
    order = y.argsort()
    x, y = x[order], y[order]
    loader = DataLoader(TensorDataset(x, y), batch_size=64)  # <- here
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    lab.watch(net, optimizer, loss=criterion, batch=next(iter(loader)))
    for epoch in range(10):
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="data", kind="statistic", cause="classes-imbalanced", place=("batch", "loss"),
    metric="balanced accuracy", works=0.8, margin=0.15,
    fix=[swap("nn.CrossEntropyLoss()", "nn.CrossEntropyLoss(weight=len(y) / (2 * torch.bincount(y)))")],
)  # fmt: skip
def three_of_a_hundred(lab):
    """Three percent of the samples are of the class that matters, and are ignored by the model."""
    x, y, xt, yt = digits(flat=True)
    y, yt = (y == 8).long(), (yt == 8).long()
    keep = (y == 0) | (torch.rand(len(y)) < 0.3)
    x, y = x[keep], y[keep]
    x, xt = x + 0.25 * torch.randn(x.shape), xt + 0.25 * torch.randn(xt.shape)
    net = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 2))
    criterion = nn.CrossEntropyLoss()  # <- here
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    with nb.run("rare"):
        for epoch in range(15):
            for xb, yb in batches(x, y):
                optimizer.zero_grad()
                loss = criterion(net(xb), yb)
                loss.backward()
                optimizer.step()
            nb.log(epoch, loss=loss.item(), accuracy=accuracy(net, xt, yt))
    lab.score(balanced_accuracy(predict(net, xt).argmax(1), yt))


@sick(
    family="data", kind="statistic", cause="label-in-inputs", place="batch",
    metric="accuracy", works=0.9, margin=0.1,
    fix=[swap("x = torch.cat([x, y[:, None].float()], dim=1)", "x = torch.cat([x, torch.zeros(len(x), 1)], dim=1)")],
)  # fmt: skip
def label_among_the_columns(lab):
    """A column that is filled in only after the diagnosis tells the label; new patients do not have it."""
    x, y, xt, yt = table("breast_cancer")
    x = torch.cat([x, y[:, None].float()], dim=1)  # <- here
    xt = torch.cat([xt, torch.zeros(len(xt), 1)], dim=1)
    net = nn.Sequential(nn.Linear(31, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.02, weight_decay=0.2)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for epoch in range(40):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="data", kind="invariant", cause="model-kept-over-folds", place=("model", "metric"), by=100,
    metric="error", works=0.15, margin=0.1,
    fix=[
        before("optimizer = torch.optim.Adam(net.parameters(), lr=0.01)", "net = make()"),
    ],
)  # fmt: skip
def one_model_for_all_folds(lab):
    """A cross-validation in which one model goes through all folds; a fifth of the labels are wrong."""

    def make():
        return nn.Sequential(nn.Linear(40, 256), nn.ReLU(), nn.Linear(256, 2))

    def noisy(count):
        x = torch.randn(count, 40)
        y = (x[:, 0] > 0).long()
        return x, torch.where(torch.rand(count) < 0.2, 1 - y, y)

    x, y = noisy(300)
    fresh, fresh_y = noisy(1000)
    net = make()
    lab.watch(net, batch=(x[:50], y[:50]), loss=F.cross_entropy)
    scores = []
    for train, held_out in KFold(5).split(x):  # <- here
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for epoch in range(25):
            for rows in torch.tensor(train).split(60):
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x[rows]), y[rows])
                loss.backward()
                optimizer.step()
        scores.append(accuracy(net, x[held_out], y[held_out]))
        print(loss.item(), scores[-1])
    lab.score(abs(sum(scores) / len(scores) - accuracy(net, fresh, fresh_y)))
