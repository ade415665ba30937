"""Makers of NaN and infinity: the verdict must name the operation or the batch, before the weights are lost."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

import nbops as nb
from zoo.data import accuracy, batches, digits, line, predict, r2, table, wave
from zoo.program import before, drop, sick, swap


@sick(
    family="nan", ref="B21", kind="invariant", cause="exp-overflow", place=("loss", "model", "out"), by=200,
    metric="accuracy", works=0.85, margin=0.2,
    fix=[swap("e = torch.exp(scores)", "e = torch.exp(scores - scores.amax(dim=1, keepdim=True))")],
)  # fmt: skip
def softmax_by_hand(lab):
    """A hand-written softmax without subtracting the maximum overflows once the scores have grown."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(64, 64)
            self.out = nn.Linear(64, 10)

        def forward(self, x):
            scores = self.out(F.relu(self.hidden(x)))
            e = torch.exp(scores)  # <- here
            return e / e.sum(dim=1, keepdim=True)

    x, y, xt, yt = digits(flat=True)
    x, xt = x * 200, xt * 200
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, batch=(x[:64], y[:64]))
    for epoch in range(15):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = -torch.log(net(xb)[torch.arange(len(yb)), yb] + 1e-9).mean()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="nan", kind="invariant", cause="log-of-zero", place=("loss",), by=300, metric="accuracy", works=0.93,
    margin=0.2,
    fix=[
        swap(
            "yb * torch.log(p) + (1 - yb) * torch.log(1 - p)",
            "yb * torch.log(p + 1e-7) + (1 - yb) * torch.log(1 - p + 1e-7)",
        ),
    ],
)  # fmt: skip
def cross_entropy_by_hand(lab):
    """A binary cross-entropy by hand: log(1 - p) with p rounded to 1."""
    x, y, xt, yt = table("breast_cancer")
    y = y.float()
    net = nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9)
    lab.watch(net, optimizer, batch=(x[:32], y[:32]))
    for epoch in range(25):
        for xb, yb in batches(x, y, size=32):
            p = torch.sigmoid(net(xb)).squeeze(1)
            loss = -(yb * torch.log(p) + (1 - yb) * torch.log(1 - p)).mean()  # <- here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(lambda x: torch.cat([-net(x), net(x)], 1), xt, yt))


@sick(
    family="nan", kind="invariant", cause="sqrt-at-zero", place=("loss", "model", "0", "2"), by=60,
    metric="accuracy", works=0.85, margin=0.2,
    fix=[swap("(a - b).square().sum(1).sqrt()", "((a - b).square().sum(1) + 1e-6).sqrt()")],
)  # fmt: skip
def distance_of_equal_images(lab):
    """A pair of one and the same image has distance 0, where the square root has no gradient."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    lab.watch(net, optimizer, batch=(x[:64],))
    for step in range(400):
        left, right = torch.randint(0, len(x), (2, 64))
        left[0] = right[0] = step
        a, b = net(x[left]), net(x[right])
        distance = (a - b).square().sum(1).sqrt()  # <- here
        same = (y[left] == y[right]).float()
        loss = (same * distance.square() + (1 - same) * F.relu(1 - distance).square()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    known = predict(net, x)
    nearest = torch.cdist(predict(net, xt), known).argmin(1)
    lab.score((y[nearest] == yt).float().mean() if known.isfinite().all() else float("nan"))


@sick(
    family="nan", kind="invariant", cause="division-by-zero", place=("batch", "0"), by=0,
    metric="accuracy", works=0.9, margin=0.2,
    fix=[swap("x.std(0)", "x.std(0).clamp(min=1e-3)")],
)  # fmt: skip
def standardised_by_no_spread(lab):
    """Pixels at the border are always 0: their spread is 0, and 0/0 is NaN in every batch."""
    x, y, xt, yt = digits(flat=True)
    mean, std = x.mean(0), x.std(0)
    x, xt = (x - mean) / std, (xt - mean) / std  # <- here
    net = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
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
    lab.score(accuracy(net, xt, yt) if all(p.isfinite().all() for p in net.parameters()) else float("nan"))


@sick(
    family="nan", kind="invariant", cause="division-by-zero", place=("loss", "model", "body.0", "body.2"), by=60,
    metric="r2", works=0.9, margin=0.2,
    fix=[swap("z / z.norm(dim=1, keepdim=True)", "z / (z.norm(dim=1, keepdim=True) + 1e-6)")],
)  # fmt: skip
def code_of_length_zero(lab):
    """A code is divided by its length; an all-zero input without biases has length 0."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(3, 32, bias=False), nn.ReLU(), nn.Linear(32, 16, bias=False))
            self.head = nn.Linear(19, 1)

        def forward(self, x):
            z = self.body(x)
            z = z / z.norm(dim=1, keepdim=True)  # <- here
            return self.head(torch.cat([z, x], dim=1))

    x, y, xt, yt = line()
    x[40] = 0
    net = Net()
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
    family="nan", kind="invariant", cause="nan-in-data", place=("batch", "0"), by=30,
    metric="accuracy", works=0.93, margin=0.2,
    fix=[swap('x[200, 7] = float("nan")', "x[200, 7] = 0.0")],
)  # fmt: skip
def one_missing_value(lab):
    """One value of the table is NaN."""
    x, y, xt, yt = table("breast_cancer")
    x[200, 7] = float("nan")  # <- here
    net = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:32], y[:32]))
    with nb.run("cancer"):
        for epoch in range(12):
            for xb, yb in batches(x, y, size=32):
                loss = F.cross_entropy(net(xb), yb)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            nb.log(epoch, loss=loss.item())
    lab.score(accuracy(net, xt, yt) if net[0].weight.isfinite().all() else float("nan"))


@sick(
    family="nan", kind="invariant", cause="nan-in-data", place=("batch", "loss"), by=30,
    metric="r2", works=0.9, margin=0.2,
    fix=[drop('y[100] = float("inf")')],
)  # fmt: skip
def infinite_target(lab):
    """One target is infinite."""
    x, y, xt, yt = line()
    y[100] = float("inf")  # <- here
    net = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1))
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for epoch in range(20):
        for xb, yb in batches(x, y, size=32):
            loss = criterion(net(xb), yb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(net, xt, yt))


@sick(
    family="nan", kind="invariant", cause=("exp-overflow",), place=("loss", "model", "2"), by=60,
    metric="loss", works=3.0, margin=1.0,
    fix=[swap("rate = torch.exp(net(xb))", "rate = torch.exp(net(xb).clamp(-8, 8))")],
)  # fmt: skip
def rate_of_a_count(lab):
    """The rate of a Poisson regression is the exponential of an output that nothing holds back."""
    x = torch.randn(600, 5)
    y = torch.poisson(torch.exp(x[:, :1].clamp(-2, 2)))
    x[::50] *= 300
    net = nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.003)
    lab.watch(net, optimizer, batch=(x[:40], y[:40]))
    for epoch in range(15):
        for xb, yb in batches(x, y, size=40):
            rate = torch.exp(net(xb))  # <- here
            loss = (rate - yb * torch.log(rate)).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        print(epoch, loss.item())
    plain = x.abs().amax(1) < 5
    lab.score(F.poisson_nll_loss(predict(net, x[plain]), y[plain]))


@sick(
    family="nan", kind="invariant", cause="where-gradient", place=("loss", "model", "*"), by=0, metric="r2",
    works=0.8, margin=0.2,
    fix=[
        swap(
            "torch.where(h > 0, torch.sqrt(h), torch.zeros_like(h))",
            "torch.where(h > 0, torch.sqrt(h.clamp(min=1e-4)), torch.zeros_like(h))",
        ),
    ],
)  # fmt: skip
def square_root_behind_where(lab):
    """torch.where hides the NaN of sqrt in the forward pass, not in the backward pass."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1 = nn.Linear(3, 32)
            self.fc2 = nn.Linear(32, 1)

        def forward(self, x):
            h = self.fc1(x)
            h = torch.where(h > 0, torch.sqrt(h), torch.zeros_like(h))  # <- here
            return self.fc2(h)

    x, y, xt, yt = line()
    net = Net()
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
    family="nan", kind="invariant", cause="mask-all-inf", place=("model", "attend", "loss", "head"), by=60,
    metric="accuracy", works=0.85, margin=0.2,
    fix=[swap("masked_fill(mask[:, None, :], float(\"-inf\"))", "masked_fill(mask[:, None, :], -1e4)")],
)  # fmt: skip
def fully_masked_row(lab):
    """One sequence is padding from end to end, and the softmax over its scores is NaN."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(12, 24)
            self.attend = nn.Linear(24, 72)
            self.head = nn.Linear(24, 4)

        def forward(self, tokens):
            mask = tokens == 0
            q, k, v = self.attend(self.embed(tokens)).chunk(3, dim=-1)
            scores = (q @ k.transpose(1, 2) / 24**0.5).masked_fill(mask[:, None, :], float("-inf"))  # <- here
            return self.head((scores.softmax(-1) @ v).mean(1))

    g = torch.Generator().manual_seed(3)
    tokens = torch.randint(5, 12, (800, 8), generator=g)
    y = torch.randint(0, 4, (800,), generator=g)
    tokens[:, 0] = y + 1
    tokens[700:, 5:] = 0
    tokens[150] = 0
    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(tokens[:32], y[:32]))
    for epoch in range(15):
        for xb, yb in batches(tokens[:600], y[:600], size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, tokens[600:], y[600:]) if net.head.weight.isfinite().all() else float("nan"))


@sick(
    family="nan", kind="invariant", cause="domain-error", place=("loss", "model", "2"), by=20, metric="r2", works=0.8,
    margin=0.3,
    fix=[
        swap("torch.log1p(predicted)", "torch.log1p(predicted.clamp(min=0))"),
        swap("nn.Linear(32, 1))", "nn.Linear(32, 1), nn.Softplus())"),
    ],
)  # fmt: skip
def logarithm_of_a_negative(lab):
    """The squared logarithmic error needs predictions above -1, which nothing ensures."""
    x, y, xt, yt = line()
    y, yt = y.exp(), yt.exp()
    net = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
    lab.watch(net, optimizer, batch=(x[:32] * 5, y[:32]))
    for epoch in range(40):
        for xb, yb in batches(x, y, size=32):
            predicted = net(xb * 5)
            loss = F.mse_loss(torch.log1p(predicted), torch.log1p(yb))  # <- here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(lambda x: torch.log1p(net(x * 5)), xt, torch.log1p(yt)))


@sick(
    family="nan", kind="invariant", cause=("exploding-gradient",), place=("*",), by=200,
    metric="r2", works=0.5, margin=0.3,
    fix=[before("optimizer.step()", "torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)")],
)  # fmt: skip
def recurrence_that_explodes(lab):
    """A recurrence over 24 steps with a spectral radius above 1 and no clipping."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.RNN(1, 32, nonlinearity="relu", batch_first=True)
            self.head = nn.Linear(32, 1)
            with torch.no_grad():
                self.rnn.weight_hh_l0.copy_(torch.eye(32) * 1.15)  # <- here

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
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(step, loss.item())
    lab.score(r2(net, xt, yt))


@sick(
    family="nan", kind="invariant", cause="eps-wrong", place=("optimizer",), by=20,
    metric="accuracy", works=0.9, margin=0.2,
    fix=[swap("eps=0.0", "eps=1e-8")],
)  # fmt: skip
def adam_without_eps(lab):
    """eps=0 divides 0 by 0 for the weights of pixels that are always black."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3, eps=0.0)  # <- here
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(8):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt) if net[0].weight.isfinite().all() else float("nan"))
