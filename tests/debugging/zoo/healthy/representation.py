"""Contrastive and siamese training, adapters, frozen parts, graphs and sets, all in order."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from zoo.data import accuracy, batches, digits, predict, r2
from zoo.program import healthy


@healthy(family="representation", metric="accuracy", works=0.8)
def siamese_pairs(lab):
    """Pairs of images through one network: near if of one digit, far if not, but no farther than a margin."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, batch=(x[:64],))

    def pairs(images, labels, count):
        one = torch.randint(0, len(images), (count,))
        other = torch.randint(0, len(images), (count,))
        for i in range(0, count, 2):
            same = torch.where(labels == labels[one[i]])[0]
            other[i] = same[torch.randint(0, len(same), ())]
        return images[one], images[other], (labels[one] == labels[other]).float()

    for step in range(250):
        a, b, same = pairs(x, y, 64)
        distance = ((net(a) - net(b)).square().sum(1) + 1e-6).sqrt()
        loss = (same * distance.square() + (1 - same) * F.relu(1 - distance).square()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(step, loss.item())
    a, b, same = pairs(xt, yt, 600)
    near = (predict(net, a) - predict(net, b)).norm(dim=1) < 0.5
    lab.score((near == (same > 0)).float().mean())


@healthy(family="representation", metric="accuracy", works=0.75)
def two_views(lab):
    """Contrastive learning without labels: two noisy views of an image must find each other in the batch."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 32))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, batch=(x[:96],))

    def view(images):
        return images * (torch.rand_like(images) > 0.2) + 0.1 * torch.randn_like(images)

    for epoch in range(10):
        for (xb,) in batches(x, size=96):
            z = F.normalize(torch.cat([net(view(xb)), net(view(xb))]), dim=1)
            scores = (z @ z.T / 0.2).masked_fill(torch.eye(len(z), dtype=torch.bool), -1e9)
            loss = F.cross_entropy(scores, torch.arange(len(z)).roll(len(xb)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    known, new = F.normalize(predict(net, x)), F.normalize(predict(net, xt))
    lab.score((y[(new @ known.T).argmax(1)] == yt).float().mean())


@healthy(family="representation", metric="accuracy", works=0.85)
def triplets(lab):
    """An anchor, a friend and a stranger; once most triplets are in order their loss and gradient are zero."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
    criterion = nn.TripletMarginLoss(margin=1.0)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, batch=(x[:64],))
    by_class = [torch.where(y == c)[0] for c in range(10)]
    for step in range(200):
        rows = torch.randint(0, len(x), (64,))
        friends = torch.stack([by_class[c][torch.randint(0, len(by_class[c]), ())] for c in y[rows].tolist()])
        others = (y[rows] + torch.randint(1, 10, (64,))) % 10
        strangers = torch.stack([by_class[c][torch.randint(0, len(by_class[c]), ())] for c in others.tolist()])
        optimizer.zero_grad()
        loss = criterion(net(x[rows]), net(x[friends]), net(x[strangers]))
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(step, loss.item())
    lab.score((y[torch.cdist(predict(net, xt), predict(net, x)).argmin(1)] == yt).float().mean())


@healthy(family="representation", metric="accuracy", works=0.78)
def low_rank_adapters(lab):
    """A pretrained network is frozen; two small matrices beside each layer learn, and one of them starts at zero."""

    class Adapted(nn.Module):
        def __init__(self, base, rank=4):
            super().__init__()
            self.base = base.requires_grad_(False)
            self.lora_a = nn.Parameter(0.1 * torch.randn(rank, base.in_features))
            self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank))

        def forward(self, x):
            return self.base(x) + x @ self.lora_a.T @ self.lora_b.T

    x, y, xt, yt = digits(flat=True)
    base = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    trainer = torch.optim.Adam(base.parameters(), lr=3e-3)
    for xb, yb in [pair for _ in range(5) for pair in batches(x, (y + 1) % 10)]:  # another task
        trainer.zero_grad()
        F.cross_entropy(base(xb), yb).backward()
        trainer.step()
    net = nn.Sequential(*(Adapted(m) if isinstance(m, nn.Linear) else m for m in base))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=0.01)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(8):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@healthy(family="representation", metric="accuracy", works=0.9)
def frozen_backbone(lab):
    """Pretrained features with batch normalisation are frozen and kept in eval mode; only the new head learns."""
    x, y, xt, yt = digits()
    features = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Flatten(),
    )  # fmt: skip
    old = nn.Linear(256, 2)
    trainer = torch.optim.Adam([*features.parameters(), *old.parameters()], lr=3e-3)
    for xb, yb in [pair for _ in range(2) for pair in batches(x, y % 2)]:
        trainer.zero_grad()
        F.cross_entropy(old(features(xb)), yb).backward()
        trainer.step()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = features.requires_grad_(False)
            self.head = nn.Linear(256, 10)

        def train(self, mode=True):
            super().train(mode)
            self.features.eval()
            return self

        def forward(self, x):
            return self.head(self.features(x))

    net = Net().train()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.head.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(6):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@healthy(family="representation", metric="accuracy", works=0.9)
def thawed_layer_by_layer(lab):
    """The head learns first; the body is thawed after three epochs, with a smaller rate."""
    x, y, xt, yt = digits(flat=True)
    body, head = nn.Sequential(nn.Linear(64, 64), nn.ReLU()), nn.Linear(64, 10)
    net = nn.Sequential(body, head)
    body.requires_grad_(False)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(10):
        if epoch == 3:
            body.requires_grad_(True)
            optimizer.add_param_group({"params": list(body.parameters()), "lr": 1e-3})
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@healthy(family="representation", metric="accuracy", works=0.85)
def graph_of_neighbours(lab):
    """Graph convolutions by hand: all nodes in every step, labels for a tenth of them, a mask in the loss."""

    class Gcn(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Linear(64, 32)
            self.two = nn.Linear(32, 10)

        def forward(self, x, links):
            h = F.dropout(F.relu(links @ self.one(x)), 0.3, training=self.training)
            return links @ self.two(h)

    x, y, _, _ = digits(flat=True)
    x, y = x[:800], y[:800]
    near = torch.cdist(x, x).topk(6, largest=False).indices
    links = torch.zeros(800, 800).scatter_(1, near, 1.0)
    links = (links + links.T > 0).float()
    root = links.sum(1).rsqrt()
    links = root[:, None] * links * root
    known = torch.arange(800) < 80
    net = Gcn()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, weight_decay=5e-4)
    lab.watch(net, optimizer)
    for epoch in range(80):
        net.train()
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x, links)[known], y[known])
        loss.backward()
        optimizer.step()
        if epoch % 20 == 0:
            print(epoch, loss.item())
    net.eval()
    with torch.no_grad():
        lab.score((net(x, links).argmax(1) == y)[~known].float().mean())


@healthy(family="representation", metric="r2", works=0.85)
def sets_of_numbers(lab):
    """A network of sets: each element by itself, then the sum, then the answer."""

    class DeepSet(nn.Module):
        def __init__(self):
            super().__init__()
            self.each = nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 16))
            self.all = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))

        def forward(self, x):
            return self.all(self.each(x).mean(1))

    x = torch.rand(1500, 8, 1) * 2 - 1
    y = 3 * x.square().mean(1) - 1
    net = DeepSet()
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(12):
        for xb, yb in batches(x[:1200], y[:1200]):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(net, x[1200:], y[1200:]))


@healthy(family="representation", metric="accuracy", works=0.85)
def experts(lab):
    """A mixture of four experts with a gate; each gets the gradient of its share only."""

    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Linear(64, 4)
            self.experts = nn.ModuleList(
                nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10)) for _ in range(4)
            )

        def forward(self, x):
            share = self.gate(x).softmax(1)
            return torch.stack([e(x) for e in self.experts], 2).mul(share[:, None]).sum(2)

    x, y, xt, yt = digits(flat=True)
    net = Mixture()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(10):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@healthy(family="representation", metric="accuracy", works=0.85)
def weights_under_a_constraint(lab):
    """Spectral and weight normalisation by parametrisation: the parameters are not the weights."""
    from torch.nn.utils.parametrizations import spectral_norm, weight_norm

    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(
        spectral_norm(nn.Linear(64, 64)), nn.ReLU(), weight_norm(nn.Linear(64, 64)), nn.ReLU(), nn.Linear(64, 10)
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(10):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))
