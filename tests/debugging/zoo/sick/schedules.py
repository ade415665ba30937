"""Faults of learning-rate schedules and of checkpoints."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

import nbops as nb
from zoo.data import accuracy, batches, digits, line, r2, table, wave
from zoo.program import after, drop, sick, swap


@sick(
    family="schedules", kind="statistic", cause=("scheduler-decays-too-fast", "lr-too-low"),
    place=("optimizer", "scheduler"), by=200, metric="accuracy", works=0.9, margin=0.3,
    fix=[drop("        scheduler.step()"), after("    print(epoch, loss.item())", "scheduler.step()")],
)  # fmt: skip
def decay_at_every_batch(lab):
    """A schedule that was meant for epochs steps at every batch: the rate is nothing after ten of them."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.1)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(10):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
            scheduler.step()  # <- here
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="schedules", kind="invariant", cause="scheduler-not-stepped", place=("optimizer", "scheduler"), by=100,
    metric="accuracy", works=0.9, margin=0.3,
    fix=[after("optimizer.step()", "scheduler.step()")],
)  # fmt: skip
def warm_up_that_never_begins(lab):
    """A warm-up starts at a rate of 0, and the schedule is never stepped."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 30))
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(8):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()  # <- here
        print(epoch, loss.item(), scheduler.get_last_lr())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="schedules", kind="statistic", cause=("scheduler-misread", "lr-too-low"), place=("optimizer", "scheduler"),
    by=300, metric="accuracy", works=0.9, margin=0.3,
    fix=[swap("lambda epoch: 3e-3 * 0.95**epoch", "lambda epoch: 0.95**epoch")],
)  # fmt: skip
def rate_where_a_factor_is_meant(lab):
    """LambdaLR multiplies: a function that returns the rate itself squares it."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 3e-3 * 0.95**epoch)  # <- here
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    with nb.run("lambda"):
        for epoch in range(10):
            for xb, yb in batches(x, y):
                optimizer.zero_grad()
                loss = criterion(net(xb), yb)
                loss.backward()
                optimizer.step()
            scheduler.step()
            nb.log(epoch, loss=loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="schedules", kind="statistic", cause=("scheduler-misread", "scheduler-decays-too-fast"),
    place=("optimizer", "scheduler"), by=300, metric="r2", works=0.9, margin=0.1,
    fix=[swap('mode="max"', 'mode="min"')],
)  # fmt: skip
def plateau_of_the_wrong_mode(lab):
    """ReduceLROnPlateau waits for a loss that rises, and lowers the rate at every epoch."""
    x, y, xt, yt = wave()
    net = nn.Sequential(nn.Flatten(), nn.Linear(24, 32), nn.Tanh(), nn.Linear(32, 1))
    criterion = nn.MSELoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.1, patience=0)  # <- here
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(25):
        total = 0.0
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(xb)
        scheduler.step(total / len(x))
        print(epoch, total / len(x))
    lab.score(r2(net, xt, yt))


@sick(
    family="schedules", kind="crash", cause="scheduler-too-short", place=("optimizer", "scheduler"), by=117,
    metric="accuracy", works=0.9, raises="ValueError: Tried to step .* times",
    fix=[swap("total_steps=5 * 23", "total_steps=8 * 23")],
)  # fmt: skip
def one_cycle_too_short(lab):
    """OneCycleLR was made for five epochs, and the training takes eight."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=5 * 23)  # <- here
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(8):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
            scheduler.step()  # <- here
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="schedules", kind="statistic", cause=("scheduler-misread", "lr-too-high"),
    place=("optimizer", "scheduler"), by=400, metric="r2", works=0.95, margin=0.03,
    fix=[swap("1.02**step", "0.98**step")],
)  # fmt: skip
def rate_that_grows(lab):
    """The factor of an exponential decay is above 1."""
    x, y, xt, yt = line()
    net = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 1))
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.02**step)  # <- here
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for step in range(350):
        rows = torch.randint(0, len(x), (32,))
        optimizer.zero_grad()
        loss = criterion(net(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 50 == 0:
            print(step, loss.item())
    lab.score(r2(net, xt, yt))


@sick(
    family="checkpoints", kind="invariant", cause="checkpoint-not-loaded", place=("model",), by=0,
    metric="accuracy", works=0.93, margin=0.05,
    fix=[swap('torch.load("before.pt")', '{k.removeprefix("module."): v for k, v in torch.load("before.pt").items()}')],
)  # fmt: skip
def nothing_loaded(lab):
    """strict=False hides that no key of the checkpoint fits: all begin with ``module.``."""

    def build():
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    x, y, xt, yt = digits(flat=True)
    earlier = build()
    trainer = torch.optim.Adam(earlier.parameters(), lr=5e-3)
    for _ in range(150):
        rows = torch.randint(0, len(x), (64,))
        trainer.zero_grad()
        F.cross_entropy(earlier(x[rows]), y[rows]).backward()
        trainer.step()
    torch.save(nn.DataParallel(earlier).state_dict(), "before.pt")

    net = build()
    net.load_state_dict(torch.load("before.pt"), strict=False)  # <- here
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(5):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="checkpoints", kind="invariant", cause="checkpoint-aliases-weights", place=("model",), by=200,
    metric="accuracy", works=0.9, margin=0.05,
    fix=[
        swap(
            "best, best_state = shown, net.state_dict()",
            "best, best_state = shown, copy.deepcopy(net.state_dict())",
        ),
    ],
)  # fmt: skip
def best_state_is_the_last(lab):
    """state_dict() returns the weights themselves, so the kept best state trains on."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    best, best_state = 0.0, None
    for epoch in range(12):
        if epoch == 8:  # the rate that somebody tried at the end
            optimizer.param_groups[0]["lr"] = 3.0
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        shown = accuracy(net, xt, yt)
        if shown > best:
            best, best_state = shown, net.state_dict()  # <- here
        print(epoch, shown)
    net.load_state_dict(best_state)
    lab.score(accuracy(net, xt, yt))


@sick(
    family="checkpoints", kind="statistic", cause="best-model-by-wrong-mode", place=("metric", "model"), by=200,
    metric="accuracy", works=0.9, margin=0.2,
    fix=[swap("best = 0.0", "best = 1e9"), swap("if validation > best:", "if validation < best:")],
)  # fmt: skip
def worst_model_kept(lab):
    """The model with the highest validation loss is kept."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    best = 0.0
    with nb.run("digits"):
        for epoch in range(10):
            for xb, yb in batches(x, y):
                optimizer.zero_grad()
                loss = criterion(net(xb), yb)
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                validation = criterion(net(xt), yt).item()
            if validation > best:  # <- here
                best, kept = validation, copy.deepcopy(net.state_dict())
            nb.log(epoch, loss=loss.item(), val_loss=validation)
    net.load_state_dict(kept)
    lab.score(accuracy(net, xt, yt))


@sick(
    family="checkpoints", kind="invariant", cause="optimizer-of-other-parameters", place=("optimizer", "model"), by=20,
    metric="accuracy", works=0.93, margin=0.1,
    fix=[drop("optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)"),
         after("net = torch.load(", "optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)")],
)  # fmt: skip
def resumed_with_the_old_optimizer(lab):
    """The whole model is loaded from a file after the optimizer was built."""
    x, y, xt, yt = table("breast_cancer")
    net = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 2))
    torch.save(net, "model.pt")
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)  # <- here
    net = torch.load("model.pt", weights_only=False)
    criterion = nn.CrossEntropyLoss()
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for epoch in range(10):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))
