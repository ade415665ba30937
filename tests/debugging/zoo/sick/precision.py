"""Faults of precision, of gradient scaling, and of replicas that should stay alike."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from zoo.data import accuracy, batches, digits, line, r2, wave
from zoo.program import after, before, drop, sick, swap


@sick(
    family="precision", kind="statistic", cause=("updates-below-precision", "lr-too-low"),
    place=("optimizer", "model", "0", "2", "4"), metric="accuracy", works=0.9, margin=0.1,
    fix=[drop("net.to(torch.bfloat16)"), swap("x.bfloat16(), xt.bfloat16()", "x, xt")],
)  # fmt: skip
def weights_in_bfloat16(lab):
    """Weights in bfloat16 swallow updates that are less than a 256th of them."""
    x, y, xt, yt = digits(flat=True)
    x, xt = x.bfloat16(), xt.bfloat16()
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    net.to(torch.bfloat16)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)  # <- here
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(25):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="precision", kind="statistic", cause="gradients-underflow", place=("loss", "model", "0", "2"), by=50,
    metric="loss", works=0.03, margin=0.015,
    fix=[swap("loss.backward()", "(loss * 4096).backward()"), swap("lr=2000.0", "lr=2000.0 / 4096")],
)  # fmt: skip
def gradients_in_half(lab):
    """The gradients of a lightly weighted loss are rounded to zero in float16."""
    x, _, xt, _ = digits(flat=True)
    x, xt = x.half(), xt.half()
    net = nn.Sequential(nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 64)).half()
    optimizer = torch.optim.SGD(net.parameters(), lr=2000.0, momentum=0.9)
    lab.watch(net, optimizer, loss=F.mse_loss, batch=(x[:256], x[:256]))
    for epoch in range(60):
        for (xb,) in batches(x, size=256):
            optimizer.zero_grad()
            loss = 1e-4 * F.mse_loss(net(xb), xb)
            loss.backward()  # <- here
            optimizer.step()
        print(epoch, loss.item())
    lab.score(F.mse_loss(net(xt).float(), xt.float()))


@sick(
    family="precision", kind="invariant", cause="half-overflow", place=("norm", "model", "loss"), by=20,
    metric="r2", works=0.8, margin=0.3,
    fix=[swap("power = x * x", "power = x.float() * x.float()")],
)  # fmt: skip
def squares_beyond_half(lab):
    """A normalisation squares its input in float16, where nothing above 65504 exists."""

    class EnergyNorm(nn.Module):
        def __init__(self, size):
            super().__init__()
            self.gain = nn.Parameter(torch.full((size,), float(size)))

        def forward(self, x):
            power = x * x  # <- here
            return power / power.sum(-1, keepdim=True) * self.gain

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(3, 32)
            self.norm = EnergyNorm(32)
            self.out = nn.Linear(32, 1)

        def forward(self, x):
            return self.out(self.norm(self.hidden(x)))

    x, y, xt, yt = line()
    y, yt = (x[:, :1].abs() / x.norm(dim=1, keepdim=True)), (xt[:, :1].abs() / xt.norm(dim=1, keepdim=True))
    x, xt = x * 500, xt * 500
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=F.mse_loss, batch=(x[:32], y[:32]))
    for epoch in range(40):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.float16):
                out = net(xb)
            loss = F.mse_loss(out.float(), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(net, xt, yt))


@sick(
    family="precision", kind="statistic", cause=("scaler-misused", "clip-too-small"), place="optimizer",
    metric="accuracy", works=0.9, margin=0.2,
    fix=[before("torch.nn.utils.clip_grad_norm_", "scaler.unscale_(optimizer)")],
)  # fmt: skip
def clipped_before_unscaling(lab):
    """Scaled gradients are clipped to 1, then divided by the scale: nothing is left of them."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(8):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(net(xb), yb)
            scaler.scale(loss).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)  # <- here
            scaler.step(optimizer)
            scaler.update()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="precision", kind="invariant", cause="scaler-misused", place="optimizer", by=20,
    metric="accuracy", works=0.9, margin=0.3,
    fix=[swap("optimizer.step()", "scaler.step(optimizer)"), after("scaler.step(optimizer)", "scaler.update()")],
)  # fmt: skip
def scaler_bypassed(lab):
    """The loss is scaled, but optimizer.step() is called directly."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(8):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(net(xb), yb)
            scaler.scale(loss).backward()
            optimizer.step()  # <- here
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="replicas", ref="B41", kind="invariant", cause="communication-corrupt", place=("optimizer", "model", "*"),
    by=200, metric="accuracy", works=0.9, margin=0.1,
    fix=[swap("if torch.rand(()) < 0.01:", "if torch.rand(()) < 0.0:")],
)  # fmt: skip
def garbage_from_the_network(lab):
    """One all-reduce in a hundred returns what was in its buffer."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    other = copy.deepcopy(net)
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9) for m in (net, other)]
    lab.watch(net, optimizers[0], loss=F.cross_entropy, batch=(x[:64], y[:64]))

    def all_reduce(a, b):
        mean = (a + b) / 2
        if torch.rand(()) < 0.01:
            mean = torch.randn_like(mean) * 1e4  # <- here
        a.copy_(mean)
        b.copy_(mean)

    for epoch in range(8):
        for xb, yb in batches(x, y):
            for model, optimizer, rows in zip((net, other), optimizers, (slice(0, 32), slice(32, 64)), strict=True):
                optimizer.zero_grad()
                F.cross_entropy(model(xb[rows]), yb[rows]).nan_to_num().backward()
            for p, q in zip(net.parameters(), other.parameters(), strict=True):
                all_reduce(p.grad, q.grad)
            for optimizer in optimizers:
                optimizer.step()
        print(epoch, accuracy(net, xt, yt))
    lab.score(accuracy(net, xt, yt))


@sick(
    family="replicas", ref="B41", kind="invariant", cause="replicas-differ", place=("optimizer", "model", "*"), by=50,
    metric="error", works=1e-5, margin=1e-3,
    fix=[after("norms = [", "norms = [torch.stack(norms).norm()] * 2")],
)  # fmt: skip
def clipped_by_its_own_norm(lab):
    """Each shard clips by the norm of its own gradients, so layer norms that all should share drift apart."""

    class Shard(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(24)
            self.part = nn.Linear(24, 8)

        def forward(self, x):
            return self.part(self.norm(x))

    x, y, xt, yt = wave()
    x, xt = x.squeeze(-1), xt.squeeze(-1)
    shards = nn.ModuleList([Shard(), Shard()])
    head = nn.Linear(16, 1)
    net = nn.ModuleDict({"shards": shards, "head": head})
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, batch=(x[:32], y[:32]))
    for step in range(150):
        rows = torch.randint(0, len(x), (32,))
        out = head(torch.tanh(torch.cat([shard(x[rows]) for shard in shards], dim=1)))
        loss = F.mse_loss(out, y[rows])
        optimizer.zero_grad()
        loss.backward()
        for name in ("weight", "bias"):  # the norms are one layer that every process holds
            grads = [getattr(shard.norm, name).grad for shard in shards]
            mean = sum(grads) / 2
            for grad in grads:
                grad.copy_(mean)
        norms = [torch.cat([p.grad.flatten() for p in shard.parameters()]).norm() for shard in shards]  # <- here
        for shard, total in zip(shards, norms, strict=True):
            for p in shard.parameters():
                p.grad.mul_((0.02 / total).clamp(max=1))
        optimizer.step()
        if step % 50 == 0:
            print(step, loss.item())
    lab.score((shards[0].norm.weight - shards[1].norm.weight).abs().max())


@sick(
    family="replicas", kind="invariant", cause="replicas-differ", place=("model", "optimizer", "*"), by=20,
    metric="error", works=1e-5, margin=0.01,
    fix=[before("optimizers = [", "other.load_state_dict(net.state_dict())")],
)  # fmt: skip
def replicas_never_broadcast(lab):
    """Two replicas start from different weights and share their gradients."""

    def build():
        return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    x, y, xt, yt = digits(flat=True)
    net, other = build(), build()  # <- here
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.02) for m in (net, other)]
    lab.watch(net, optimizers[0], loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(8):
        for xb, yb in batches(x, y):
            for model, optimizer, rows in zip((net, other), optimizers, (slice(0, 32), slice(32, 64)), strict=True):
                optimizer.zero_grad()
                F.cross_entropy(model(xb[rows]), yb[rows]).nan_to_num().backward()
            for p, q in zip(net.parameters(), other.parameters(), strict=True):
                mean = (p.grad + q.grad) / 2
                p.grad.copy_(mean)
                q.grad.copy_(mean)
            for optimizer in optimizers:
                optimizer.step()
    lab.score(max((p - q).abs().max() for p, q in zip(net.parameters(), other.parameters(), strict=True)))
