"""Training loops out of the ordinary, all in order."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from zoo.data import accuracy, batches, digits, line, r2, table
from zoo.program import healthy


@healthy(family="loops", metric="accuracy", works=0.93)
def accumulation(lab):
    """Four micro-batches make a step; their losses are divided by four."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:16], y[:16]))
    for epoch in range(12):
        for micro, (xb, yb) in enumerate(batches(x, y, size=16)):
            loss = criterion(net(xb), yb) / 4
            loss.backward()
            if micro % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
        print(epoch, 4 * loss.item())
    lab.score(accuracy(net, xt, yt))


@healthy(family="loops", metric="r2", works=0.4)
def closures_of_lbfgs(lab):
    """LBFGS calls its closure many times per step, on all of the data each time."""
    x, y, xt, yt = table("diabetes")
    mean, std = y.mean(), y.std()
    net = nn.Sequential(nn.Linear(10, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = torch.optim.LBFGS(net.parameters(), lr=1, max_iter=5, line_search_fn="strong_wolfe")
    criterion = nn.MSELoss()
    lab.watch(net, optimizer, loss=criterion, batch=(x, (y - mean) / std))

    def closure():
        optimizer.zero_grad()
        penalty = sum(p.square().sum() for p in net.parameters())
        loss = criterion(net(x), (y - mean) / std) + 0.01 * penalty
        loss.backward()
        return loss

    for step in range(20):
        print(step, optimizer.step(closure).item())
    lab.score(r2(net, xt, (yt - mean) / std))


@healthy(family="loops", metric="accuracy", works=0.92)
def autocast_to_bfloat16(lab):
    """Mixed precision on the CPU: the forward pass in bfloat16, the weights in float32."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(8):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@healthy(family="loops", metric="accuracy", works=0.92)
def scaler_that_skips(lab):
    """A gradient scaler begins far too high and skips its first steps, as it is made to do."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(8):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.float16):
                loss = criterion(net(xb), yb)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            scaler.step(optimizer)
            scaler.update()
        print(epoch, loss.item(), scaler.get_scale())
    lab.score(accuracy(net, xt, yt))


@healthy(family="loops", metric="accuracy", works=0.9)
def cosine_with_restarts(lab):
    """The learning rate falls to nothing and jumps up again, and the loss with it."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=92, eta_min=1e-4)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(12):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
            schedule.step()
        print(epoch, loss.item(), optimizer.param_groups[0]["lr"])
    lab.score(accuracy(net, xt, yt))


@healthy(family="loops", metric="accuracy", works=0.93)
def teacher_of_averages(lab):
    """A teacher follows the student's weights by an average, and no optimizer touches it."""
    x, y, xt, yt = digits(flat=True)
    student = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    lab.watch(student, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(10):
        for xb, yb in batches(x, y):
            out = student(xb + 0.05 * torch.randn_like(xb))
            with torch.no_grad():
                wanted = teacher(xb).softmax(1)
            loss = F.cross_entropy(out, yb) + 0.3 * F.mse_loss(out.softmax(1), wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                    slow.lerp_(fast, 0.02)
        print(epoch, loss.item())
    lab.score(accuracy(teacher, xt, yt))


@healthy(family="loops", metric="accuracy", works=0.9)
def distillation(lab):
    """A small student learns from the softened outputs of a trained teacher."""
    x, y, xt, yt = digits(flat=True)
    teacher = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    trainer = torch.optim.Adam(teacher.parameters(), lr=5e-3)
    for xb, yb in [pair for _ in range(6) for pair in batches(x, y)]:
        trainer.zero_grad()
        F.cross_entropy(teacher(xb), yb).backward()
        trainer.step()
    teacher.eval()
    student = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    optimizer = torch.optim.Adam(student.parameters(), lr=5e-3)
    lab.watch(student, optimizer, batch=(x[:64], y[:64]))
    for epoch in range(10):
        for xb, yb in batches(x, y):
            with torch.no_grad():
                wanted = F.softmax(teacher(xb) / 2, 1)
            out = student(xb)
            soft = F.kl_div(F.log_softmax(out / 2, 1), wanted, reduction="batchmean") * 4
            loss = 0.5 * soft + 0.5 * F.cross_entropy(out, yb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(student, xt, yt))


@healthy(family="loops", metric="accuracy", works=0.93)
def sharpness_aware(lab):
    """Two backward passes per step: the weights are moved uphill, looked at, and put back."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(8):
        for xb, yb in batches(x, y):
            F.cross_entropy(net(xb), yb).backward()
            norm = torch.stack([p.grad.norm() for p in net.parameters()]).norm() + 1e-12
            moved = [0.05 * p.grad / norm for p in net.parameters()]
            with torch.no_grad():
                for p, d in zip(net.parameters(), moved, strict=True):
                    p.add_(d)
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            with torch.no_grad():
                for p, d in zip(net.parameters(), moved, strict=True):
                    p.sub_(d)
            optimizer.step()
            optimizer.zero_grad()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@healthy(family="loops", metric="accuracy", works=0.93)
def weights_averaged_at_the_end(lab):
    """Stochastic weight averaging: the average is evaluated, with its batch statistics made anew."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
    average = AveragedModel(net)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(10):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        if epoch >= 5:
            average.update_parameters(net)
        print(epoch, loss.item())
    update_bn(batches(x), average)
    lab.score(accuracy(average, xt, yt))


@healthy(family="loops", metric="accuracy", works=0.9)
def curriculum(lab):
    """Easy images first: the data change every two epochs, and the loss rises when they do."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(10):
        noise = 0.1 * (epoch // 2)
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb + noise * torch.randn_like(xb)), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@healthy(family="loops", metric="r2", works=0.9)
def one_optimizer_per_part(lab):
    """The body learns with Adam, the head with SGD, every other step."""
    x, y, xt, yt = line()
    body, head = nn.Sequential(nn.Linear(3, 32), nn.Tanh()), nn.Linear(32, 1)
    net = nn.Sequential(body, head)
    criterion = nn.MSELoss()
    fast = torch.optim.Adam(body.parameters(), lr=0.01)
    slow = torch.optim.SGD(head.parameters(), lr=0.05)
    lab.watch(net, [fast, slow], loss=criterion, batch=(x[:32], y[:32]))
    for epoch in range(20):
        for i, (xb, yb) in enumerate(batches(x, y, size=32)):
            net.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            (fast if i % 2 else slow).step()
        print(epoch, loss.item())
    lab.score(r2(net, xt, yt))


@healthy(family="loops", metric="accuracy", works=0.93)
def groups_and_a_plateau(lab):
    """Weight decay on weights only, a rate per group, and a schedule that waits for a plateau."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    weights = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW([{"params": weights, "weight_decay": 0.01}, {"params": others, "lr": 6e-3}], lr=3e-3)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(15):
        net.train()
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            schedule.step(criterion(net(xt), yt))
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@healthy(family="loops", metric="accuracy", works=0.93)
def best_epoch_kept(lab):
    """The best state is copied, and training ends when the validation loss has not improved for some epochs."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    best, state, waited = float("inf"), None, 0
    for epoch in range(25):
        for xb, yb in batches(x[:1200], y[:1200]):
            optimizer.zero_grad()
            criterion(net(xb), yb).backward()
            optimizer.step()
        with torch.no_grad():
            value = criterion(net(x[1200:]), y[1200:]).item()
        if value < best:
            best, state, waited = value, copy.deepcopy(net.state_dict()), 0
        else:
            waited += 1
        print(epoch, value)
        if waited == 4:
            break
    net.load_state_dict(state)
    lab.score(accuracy(net, xt, yt))
