"""Image classifiers of many builds, all in order."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from zoo.data import accuracy, batches, digits, raw_digits
from zoo.program import healthy


@healthy(family="vision", metric="accuracy", works=0.93)
def dense_classifier(lab):
    """Two hidden ReLU layers under Adam."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(12):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item(), accuracy(net, xt, yt))
    lab.score(accuracy(net, xt, yt))


@healthy(family="vision", metric="accuracy", works=0.93)
def convolutions_from_a_loader(lab):
    """Convolutions, batch normalisation and dropout, with a DataLoader and a validation per epoch."""
    x, y, xt, yt = digits()
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.25), nn.Linear(128, 10),
    )  # fmt: skip
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    lab.watch(net, optimizer, loss=criterion, batch=next(iter(loader)))
    for epoch in range(10):
        net.train()
        running = 0.0
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
            running += loss.item() * len(xb)
        net.eval()
        with torch.no_grad():
            right = (net(xt).argmax(1) == yt).float().mean().item()
        print(epoch, running / len(x), right)
    lab.score(right)


@healthy(family="vision", metric="accuracy", works=0.93)
def residual_network(lab):
    """Residual blocks with batch normalisation, AdamW and a one-cycle schedule."""

    class Block(nn.Module):
        def __init__(self, i, o, stride):
            super().__init__()
            self.one = nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())
            self.two = nn.Sequential(nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o))
            self.skip = nn.Conv2d(i, o, 1, stride) if stride > 1 or i != o else nn.Identity()

        def forward(self, x):
            return F.relu(self.two(self.one(x)) + self.skip(x))

    x, y, xt, yt = digits()
    net = nn.Sequential(
        Block(1, 16, 1), Block(16, 16, 1), Block(16, 32, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=5 * 23)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(5):
        for xb, yb in batches(x, y):
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()
            schedule.step()
        print(epoch, loss.item(), schedule.get_last_lr())
    lab.score(accuracy(net, xt, yt))


@healthy(family="vision", metric="accuracy", works=0.93)
def wide_and_mostly_zero(lab):
    """A wide ReLU layer with L1 on its activations: most of them are zero, as they should be."""
    x, y, xt, yt = digits(flat=True)
    body = nn.Sequential(nn.Linear(64, 512), nn.ReLU())
    net = nn.Sequential(body, nn.Linear(512, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(10):
        for xb, yb in batches(x, y):
            hidden = net[0](xb)
            loss = F.cross_entropy(net[1](hidden), yb) + 0.05 * hidden.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item(), (hidden == 0).float().mean().item())
    lab.score(accuracy(net, xt, yt))


@healthy(family="vision", metric="accuracy", works=0.93)
def label_smoothing(lab):
    """A smoothed loss that never gets near zero."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.LayerNorm(96), nn.Linear(96, 10))
    criterion = nn.CrossEntropyLoss(label_smoothing=0.2)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.05)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(10):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@healthy(family="vision", metric="accuracy", works=0.92)
def mixup(lab):
    """Pairs of images are mixed, and their labels too: the targets are probabilities."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], F.one_hot(y[:64], 10).float()))
    share = torch.distributions.Beta(0.4, 0.4)
    for epoch in range(12):
        for xb, yb in batches(x, y):
            part, other = share.sample(), torch.randperm(len(xb))
            target = F.one_hot(yb, 10).float()
            mixed = part * xb + (1 - part) * xb[other]
            optimizer.zero_grad()
            loss = F.cross_entropy(net(mixed), part * target + (1 - part) * target[other])
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@healthy(family="vision", metric="accuracy", works=0.87)
def shifted_and_noisy_images(lab):
    """Augmentation as it should be: shifts by a pixel, a little noise, on training images only."""
    x, y, xt, yt = digits()
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(288, 10),
    )  # fmt: skip
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(10):
        for xb, yb in batches(x, y):
            dy, dx = torch.randint(-1, 2, (2,)).tolist()
            xb = torch.roll(xb, (dy, dx), (2, 3)) + 0.05 * torch.randn_like(xb)
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@healthy(family="vision", metric="accuracy", works=0.9)
def depthwise_with_group_norm(lab):
    """Depthwise and pointwise convolutions, group normalisation, SiLU; images come as bytes and are scaled once."""
    x, y, xt, yt = raw_digits()
    x, xt = x.float() / 255, xt.float() / 255
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.SiLU(), nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.Conv2d(16, 32, 1), nn.GroupNorm(4, 32), nn.SiLU(), nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.RMSprop(net.parameters(), lr=1e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for epoch in range(6):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@healthy(family="vision", metric="accuracy", works=0.78)
def patches_and_attention(lab):
    """A small vision transformer with a class token, positions, and a warm-up."""

    class Vit(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Conv2d(1, 32, 2, stride=2)
            self.token = nn.Parameter(torch.zeros(1, 1, 32))
            self.place = nn.Parameter(0.02 * torch.randn(1, 17, 32))
            layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
            self.body = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
            self.head = nn.Linear(32, 10)

        def forward(self, x):
            patches = self.embed(x).flatten(2).transpose(1, 2)
            tokens = torch.cat([self.token.expand(len(x), -1, -1), patches], 1) + self.place
            return self.head(self.body(tokens)[:, 0])

    x, y, xt, yt = digits()
    net = Vit()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 40))
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(7):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            warm_up.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@healthy(family="vision", metric="accuracy", works=0.93)
def checkpointed_blocks(lab):
    """Blocks are computed again in the backward pass, to save memory."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Linear(64, 64)
            self.blocks = nn.ModuleList(
                nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64)) for _ in range(3)
            )
            self.head = nn.Linear(64, 10)

        def forward(self, x):
            h = self.stem(x)
            for block in self.blocks:
                h = h + checkpoint(block, h, use_reentrant=False)
            return self.head(h)

    x, y, xt, yt = digits(flat=True)
    net = Net()
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


@healthy(family="vision", metric="accuracy", works=0.9)
def early_exits(lab):
    """Two exits with a loss each; a third one is kept for later and gets no gradient."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.low = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
            self.high = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
            self.exits = nn.ModuleList([nn.Linear(64, 10), nn.Linear(64, 10), nn.Linear(64, 10)])

        def forward(self, x):
            low = self.low(x)
            return self.exits[0](low), self.exits[1](self.high(low))

    x, y, xt, yt = digits(flat=True)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, batch=(x[:64], y[:64]))
    for epoch in range(8):
        for xb, yb in batches(x, y):
            first, last = net(xb)
            loss = 0.5 * F.cross_entropy(first, yb) + F.cross_entropy(last, yb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(min(accuracy(lambda t: net(t)[0], xt, yt), accuracy(lambda t: net(t)[1], xt, yt)))
