"""Tables: regressions and small, unbalanced or noisy classifications, all in order."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from zoo.data import accuracy, balanced_accuracy, batches, digits, line, predict, r2, table, wave
from zoo.program import healthy


@healthy(family="tables", metric="r2", works=0.95)
def straight_line(lab):
    """Plain linear regression under SGD: one layer, no activation."""
    x, y, xt, yt = line()
    net = nn.Linear(3, 1)
    criterion = nn.MSELoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for epoch in range(10):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(net, xt, yt))


@healthy(family="tables", metric="r2", works=0.35)
def targets_normalised(lab):
    """Disease progression from 25 to 346, standardised before training."""
    x, y, xt, yt = table("diabetes")
    mean, std = y.mean(), y.std()
    loader = DataLoader(TensorDataset(x, (y - mean) / std), batch_size=32, shuffle=True)
    net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 1))
    criterion = nn.SmoothL1Loss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3, weight_decay=1e-3)
    lab.watch(net, optimizer, loss=criterion, batch=next(iter(loader)))
    for epoch in range(25):
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(lambda t: predict(net, t) * std + mean, xt, yt))


@healthy(family="tables", metric="error", works=0.12)
def quantiles(lab):
    """Three quantiles by the pinball loss; the score is how far their coverage is from what it should be."""
    x, y, xt, yt = line(1500, noise=1.0)
    net = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 3))
    levels = torch.tensor([0.1, 0.5, 0.9])

    def pinball_fn(out, target):
        gap = target - out
        return torch.maximum(levels * gap, (levels - 1) * gap).mean()

    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, loss=pinball_fn, batch=(x[:64], y[:64]))
    for epoch in range(15):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = pinball_fn(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    covered = (yt < predict(net, xt)).float().mean(0)
    lab.score((covered - levels).abs().max())


@healthy(family="tables", metric="r2", works=0.9)
def mean_and_variance(lab):
    """The network gives a mean and a variance, and the loss is a likelihood that becomes negative."""
    x, y, xt, yt = line()
    net = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 2))
    criterion = nn.GaussianNLLLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, batch=(x[:32],))
    for epoch in range(25):
        for xb, yb in batches(x, y, size=32):
            mean, spread = net(xb).split(1, dim=1)
            loss = criterion(mean, yb, F.softplus(spread) + 1e-4)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(lambda t: net(t)[:, :1], xt, yt))


@healthy(family="tables", metric="r2", works=0.6)
def counts(lab):
    """A Poisson regression of counts on the logarithm of the rate."""
    x, y, xt, yt = line(1000)
    y, yt = torch.poisson((0.6 * y + 0.5).exp()), torch.poisson((0.6 * yt + 0.5).exp())
    net = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1))
    criterion = nn.PoissonNLLLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:50], y[:50]))
    for epoch in range(15):
        for xb, yb in batches(x, y, size=50):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(lambda t: net(t).exp(), xt, yt))


@healthy(family="tables", metric="accuracy", works=0.85)
def all_of_iris_at_once(lab):
    """A tiny table in one batch: every step sees the same rows, because these are all there are."""
    x, y, xt, yt = table("iris")
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=criterion, batch=(x, y))
    for epoch in range(150):
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        if epoch % 30 == 0:
            print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@healthy(family="tables", metric="accuracy", works=0.85)
def forty_rows_of_wine(lab):
    """Forty rows, batches of eight, a small network with dropout and weight decay."""
    x, y, xt, yt = table("wine")
    x, y = x[:40], y[:40]
    net = nn.Sequential(nn.Linear(13, 16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 3))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3, weight_decay=1e-2)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:8], y[:8]))
    for epoch in range(40):
        for xb, yb in batches(x, y, size=8):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        if epoch % 10 == 0:
            print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@healthy(family="tables", metric="balanced accuracy", works=0.85)
def rare_class_weighted(lab):
    """One digit of ten is looked for, and weighs nine times as much as the others."""
    x, y, xt, yt = digits(flat=True)
    y, yt = (y == 8).float(), (yt == 8).long()
    net = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 1))
    criterion = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(9.0))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64, None]))
    for epoch in range(12):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb).squeeze(1), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(balanced_accuracy((predict(net, xt) > 0).long().squeeze(1), yt))


@healthy(family="tables", metric="balanced accuracy", works=0.85)
def rare_class_sampled(lab):
    """Five percent of the rows are of one class; the sampler draws both classes alike."""
    x, y, xt, yt = table("breast_cancer")
    rows = torch.cat([torch.where(y == 1)[0], torch.where(y == 0)[0][:15]])
    x, y = x[rows], y[rows]
    weight = (1 / torch.bincount(y).float())[y]
    loader = DataLoader(TensorDataset(x, y), batch_size=32, sampler=WeightedRandomSampler(weight, len(y)))
    net = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 2))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3, weight_decay=1e-2)
    lab.watch(net, optimizer, loss=criterion, batch=next(iter(loader)))
    for epoch in range(15):
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(balanced_accuracy(predict(net, xt).argmax(1), yt))


@healthy(family="tables", metric="balanced accuracy", works=0.85)
def focal_loss(lab):
    """A loss that looks away from what is easy: its gradients shrink by design."""
    x, y, xt, yt = digits(flat=True)
    y, yt = (y == 3).float(), (yt == 3).long()
    net = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 1), nn.Flatten(0))

    def focal_fn(out, target):
        each = F.binary_cross_entropy_with_logits(out, target, reduction="none")
        return ((1 - torch.exp(-each)) ** 2 * each).mean()

    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=focal_fn, batch=(x[:64], y[:64]))
    for epoch in range(12):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = focal_fn(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(balanced_accuracy((predict(net, xt) > 0).long(), yt))


@healthy(family="tables", metric="accuracy", works=0.85)
def some_labels_wrong(lab):
    """A fifth of the labels is wrong, and a robust loss copes: the training accuracy stays near 80 percent."""
    x, y, xt, yt = digits(flat=True)
    wrong = torch.rand(len(y)) < 0.2
    y = torch.where(wrong, torch.randint(0, 10, y.shape), y)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3, weight_decay=1e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(10):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@healthy(family="tables", metric="accuracy", works=0.9)
def several_labels_at_once(lab):
    """Four questions about a digit, each with its own sigmoid: even, small, round, prime."""
    x, y, xt, yt = digits(flat=True)

    def answers(digit):
        round_ = torch.isin(digit, torch.tensor([0, 6, 8, 9]))
        prime = torch.isin(digit, torch.tensor([2, 3, 5, 7]))
        return torch.stack([digit % 2 == 0, digit < 5, round_, prime], 1).float()

    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], answers(y[:64])))
    for epoch in range(12):
        for xb, yb in batches(x, answers(y)):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(((predict(net, xt) > 0).float() == answers(yt)).float().mean())


@healthy(family="tables", metric="accuracy", works=0.9)
def two_tasks(lab):
    """One body, two heads: which digit, and how much ink; the losses are weighted to be alike."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
            self.digit = nn.Linear(64, 10)
            self.ink = nn.Linear(64, 1)

        def forward(self, x):
            h = self.body(x)
            return self.digit(h), self.ink(h).squeeze(1)

    x, y, xt, yt = digits(flat=True)
    ink = x.mean(1)
    ink = (ink - ink.mean()) / ink.std()
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, batch=(x[:64],))
    for epoch in range(10):
        for xb, yb, ib in batches(x, y, ink):
            digit, amount = net(xb)
            loss = F.cross_entropy(digit, yb) + 0.5 * F.mse_loss(amount, ib)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(lambda t: net(t)[0], xt, yt))


@healthy(family="tables", metric="r2", works=0.8)
def rare_categories(lab):
    """Categories as sparse embeddings under SparseAdam, the rest under Adam; most rows get no gradient in a step."""
    g = torch.Generator().manual_seed(3)
    value = torch.randn(200, generator=g)
    kind = (200 * torch.rand(4000, generator=g) ** 2).long()
    y = value[kind] + 0.1 * torch.randn(4000, generator=g)
    embed = nn.Embedding(200, 4, sparse=True)
    net = nn.Sequential(embed, nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(0))
    criterion = nn.MSELoss()
    rest = [p for name, p in net.named_parameters() if not name.startswith("0.")]
    optimizers = [torch.optim.SparseAdam(list(embed.parameters()), lr=0.05), torch.optim.Adam(rest, lr=5e-3)]
    lab.watch(net, optimizers, loss=criterion, batch=(kind[:32], y[:32]))
    for epoch in range(5):
        for xb, yb in batches(kind[:3200], y[:3200], size=32):
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(net, kind[3200:], y[3200:]))


@healthy(family="tables", metric="r2", works=0.9)
def solution_of_an_equation(lab):
    """A network that solves u' = -u: the loss holds a derivative, and the backward pass goes through it."""
    net = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, batch=(torch.rand(64, 1),))
    for step in range(400):
        t = (3 * torch.rand(64, 1)).requires_grad_()
        u = net(t)
        (slope,) = torch.autograd.grad(u.sum(), t, create_graph=True)
        start = net(torch.zeros(1, 1))
        loss = (slope + u).square().mean() + (start - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(step, loss.item())
    t = torch.linspace(0, 3, 50)[:, None]
    lab.score(r2(net, t, torch.exp(-t)))


@healthy(family="tables", metric="r2", works=0.8)
def next_value_of_a_wave(lab):
    """Dilated convolutions over 24 values predict the next; gradients are clipped, but rarely."""
    x, y, xt, yt = wave()
    net = nn.Sequential(
        nn.Conv1d(1, 16, 3, dilation=1), nn.ReLU(), nn.Conv1d(16, 16, 3, dilation=2), nn.ReLU(),
        nn.Conv1d(16, 16, 3, dilation=4), nn.ReLU(), nn.Flatten(), nn.Linear(160, 1),
    )  # fmt: skip
    criterion = nn.HuberLoss()
    optimizer = torch.optim.NAdam(net.parameters(), lr=2e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32].transpose(1, 2), y[:32]))
    for epoch in range(8):
        for xb, yb in batches(x.transpose(1, 2), y, size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(net, xt.transpose(1, 2), yt))
