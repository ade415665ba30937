"""Faults of what preprocessing does to the inputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from zoo.data import accuracy, batches, digits, raw_digits, table
from zoo.program import sick, swap


@sick(
    family="data", kind="statistic", cause="augmentation-too-strong", place="batch",
    metric="accuracy", works=0.9, margin=0.2,
    fix=[swap("erase(xb, 7)", "erase(xb, 2)")],
)  # fmt: skip
def erased_images(lab):
    """Random erasing takes 7 of 8 pixels in each direction."""
    x, y, xt, yt = digits()

    def erase(images, size):
        images = images.clone()
        for image in images:
            top, left = torch.randint(0, 9 - size, (2,)).tolist()
            image[:, top : top + size, left : left + size] = 0
        return images

    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(erase(x[:64], 7), y[:64]))
    for epoch in range(8):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(erase(xb, 7)), yb)  # <- here
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="data", kind="statistic", cause="inputs-collapsed", place=("batch", "0", "1"),
    metric="accuracy", works=0.9, margin=0.3,
    fix=[swap("x, xt = x / 255, xt / 255  # again", "x, xt = x / 1, xt / 1")],
)  # fmt: skip
def scaled_twice(lab):
    """Images that are already from 0 to 1 are divided by 255 once more."""
    x, y, xt, yt = digits()
    x, xt = x / 255, xt / 255  # again  # <- here
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
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
    family="data", kind="statistic", cause="inputs-collapsed", place="batch", by=20,
    metric="accuracy", works=0.9, margin=0.2,
    fix=[swap("(x // 255).float()", "(x / 255).float()"), swap("(xt // 255).float()", "(xt / 255).float()")],
)  # fmt: skip
def integer_division(lab):
    """``//`` on integer pixels leaves only the brightest ones."""
    x, y, xt, yt = raw_digits()
    x = (x // 255).float()  # <- here
    xt = (xt // 255).float()
    x, xt = x[:, :, 2:6, 2:6], xt[:, :, 2:6, 2:6]
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
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
    family="data", kind="statistic", cause="inputs-corrupted", place="batch",
    metric="accuracy", works=0.9, margin=0.1,
    fix=[swap("images - 60", "images.clamp(min=60) - 60")],
)  # fmt: skip
def bytes_that_wrap(lab):
    """Subtracting from uint8 pixels wraps: black becomes grey."""
    x, y, xt, yt = raw_digits()
    x, xt = (
        (x // 2 + torch.randint(0, 70, x.shape)).to(torch.uint8),
        (xt // 2 + torch.randint(0, 70, xt.shape)).to(torch.uint8),
    )

    def prepare(images):
        return (images - 60).float() / 127  # <- here

    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(prepare(x[:64]), y[:64]))
    for epoch in range(12):
        for xb, yb in batches(prepare(x), y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, prepare(xt), yt))


@sick(
    family="data", kind="statistic", cause=("inputs-not-scaled", "inputs-corrupted"), place=("batch", "0"),
    metric="accuracy", works=0.93, margin=0.06,
    fix=[swap("torch.where(missing, -9999.0, x)", "torch.where(missing, 0.0, x)")],
)  # fmt: skip
def sentinel_for_missing(lab):
    """Missing measurements stand as -9999 in the table."""
    x, y, xt, yt = table("breast_cancer")
    missing = torch.rand(x.shape) < 0.02
    x = torch.where(missing, -9999.0, x)  # <- here
    net = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 2))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for epoch in range(15):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="data", kind="invariant", cause=("same-batch-always", "inputs-collapsed"), place="batch",
    metric="accuracy", works=0.9, margin=0.1,
    fix=[swap("rows = torch.randint(0, 1, (64,))", "rows = torch.randint(0, len(x), (64,))")],
)  # fmt: skip
def one_row_for_all(lab):
    """randint's upper bound is exclusive: with 1 it always draws row 0."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for step in range(200):
        rows = torch.randint(0, 1, (64,))  # <- here
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(step, loss.item())
    lab.score(accuracy(net, xt, yt))
