"""Faults of the loss itself: what it compares, how it sums, which task it stands for."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

import nbops as nb
from zoo.data import accuracy, balanced_accuracy, batches, digits, line, predict, r2
from zoo.program import drop, sick, swap


@sick(
    family="loss", kind="invariant", cause="loss-broadcast", place="loss",
    metric="r2", works=0.9, margin=0.5,
    fix=[swap("loss = F.mse_loss(net(xb), yb)", "loss = F.mse_loss(net(xb).squeeze(1), yb)")],
)  # fmt: skip
def column_against_row(lab):
    """Predictions [n, 1] against targets [n]: the loss compares each with all."""
    x, y, xt, yt = line()
    y = y.squeeze(1)
    net = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=F.mse_loss, batch=(x[:32], y[:32]))
    for epoch in range(15):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            loss = F.mse_loss(net(xb), yb)  # <- here
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(net, xt, yt))


@sick(
    family="loss", kind="statistic", cause=("loss-reduction-sum", "lr-too-high"), place=("loss", "optimizer"),
    metric="accuracy", works=0.9, margin=0.2,
    fix=[swap('nn.CrossEntropyLoss(reduction="sum")', "nn.CrossEntropyLoss()")],
)  # fmt: skip
def loss_summed_over_the_batch(lab):
    """reduction="sum" with a learning rate that was meant for the mean."""
    x, y, xt, yt = digits()
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)
    )
    criterion = nn.CrossEntropyLoss(reduction="sum")  # <- here
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:128], y[:128]))
    for epoch in range(12):
        for xb, yb in batches(x, y, size=128):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="loss", kind="invariant", cause="graph-cut", place=("loss", "model"),
    metric="accuracy", works=0.9, margin=0.4,
    fix=[
        swap("loss = F.mse_loss(predicted, yb.float())", "loss = F.cross_entropy(net(xb), yb)"),
        drop("loss.requires_grad_()"),
    ],
)  # fmt: skip
def loss_of_the_argmax(lab):
    """The loss is taken of the predicted class number, which has no gradient."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, batch=(x[:64], y[:64]))
    for epoch in range(6):
        for xb, yb in batches(x, y):
            predicted = net(xb).argmax(dim=1).float()  # <- here
            loss = F.mse_loss(predicted, yb.float())
            loss.requires_grad_()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="loss", kind="statistic", cause="real-class-ignored", place="loss",
    metric="balanced accuracy", works=0.93, margin=0.05,
    fix=[swap("nn.CrossEntropyLoss(ignore_index=0)", "nn.CrossEntropyLoss()")],
)  # fmt: skip
def class_zero_ignored(lab):
    """ignore_index=0 was copied from a language model; here 0 is a digit."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss(ignore_index=0)  # <- here
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(10):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(balanced_accuracy(predict(net, xt).argmax(1), yt))


@sick(
    family="loss", kind="statistic", cause="class-weights-wrong", place="loss",
    metric="balanced accuracy", works=0.85, margin=0.1,
    fix=[swap("weight = counts / counts.sum()", "weight = counts.sum() / (len(counts) * counts)")],
)  # fmt: skip
def class_weights_upside_down(lab):
    """Weights proportional to the frequency make the rare class rarer still."""
    x, y, xt, yt = digits(flat=True)
    y, yt = (y == 8).long(), (yt == 8).long()
    counts = torch.bincount(y).float()
    weight = counts / counts.sum()  # <- here
    net = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 2))
    criterion = nn.CrossEntropyLoss(weight=weight)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(10):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(balanced_accuracy(predict(net, xt).argmax(1), yt))


@sick(
    family="loss", kind="statistic", cause="wrong-loss-for-task", place=("loss", "model"),
    metric="accuracy", works=0.9, margin=0.2,
    fix=[
        swap("nn.Linear(64, 1))", "nn.Linear(64, 10))"),
        swap("F.mse_loss(net(xb).squeeze(1), yb.float())", "F.cross_entropy(net(xb), yb)"),
        swap("lambda x: F.one_hot(net(x).squeeze(1).round().clamp(0, 9).long(), 10)", "net"),
    ],
)  # fmt: skip
def class_numbers_as_regression(lab):
    """Ten classes learned as one number with a squared error."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, batch=(x[:64], y[:64]))
    for epoch in range(10):
        for xb, yb in batches(x, y):
            loss = F.mse_loss(net(xb).squeeze(1), yb.float())  # <- here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(lambda x: F.one_hot(net(x).squeeze(1).round().clamp(0, 9).long(), 10), xt, yt))


@sick(
    family="loss", kind="invariant", cause=("logits-to-nll", "wrong-loss-for-task"), place="loss", by=50,
    metric="accuracy", works=0.85, margin=0.2,
    fix=[swap("F.kl_div(student(xb), soft", "F.kl_div(F.log_softmax(student(xb), 1), soft")],
)  # fmt: skip
def divergence_of_raw_scores(lab):
    """F.kl_div wants log-probabilities; with raw scores it is minimised by making all of them huge."""
    x, y, xt, yt = digits(flat=True)
    teacher = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    trainer = torch.optim.Adam(teacher.parameters(), lr=5e-3)
    for _ in range(100):
        rows = torch.randint(0, len(x), (128,))
        trainer.zero_grad()
        F.cross_entropy(teacher(x[rows]), y[rows]).backward()
        trainer.step()
    student = nn.Sequential(nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 10))
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    lab.watch(student, optimizer, batch=(x[:64], y[:64]))
    for epoch in range(10):
        for xb, _yb in batches(x, y):
            with torch.no_grad():
                soft = F.softmax(teacher(xb), 1)
            loss = F.kl_div(student(xb), soft, reduction="batchmean")  # <- here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(student, xt, yt))


@sick(
    family="loss", kind="statistic", cause="loss-terms-unbalanced", place="loss", metric="loss", works=0.04,
    margin=0.015,
    fix=[
        swap("F.mse_loss(decoded, xb)", 'F.mse_loss(decoded, xb, reduction="sum") / len(xb)'),
        swap("kl.sum()", "0.05 * kl.sum() / len(xb)"),
    ],
)  # fmt: skip
def posterior_collapse(lab):
    """A VAE that averages the reconstruction over pixels but sums the divergence: the code carries nothing."""

    class VAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
            self.decoder = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.Sigmoid())

        def forward(self, x):
            mean, log_var = self.encoder(x).chunk(2, dim=1)
            z = mean + torch.randn_like(mean) * (0.5 * log_var).exp() if self.training else mean
            return self.decoder(z), mean, log_var

    x, _, xt, _ = digits(flat=True)
    net = VAE()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, batch=(x[:64],))
    for epoch in range(25):
        for (xb,) in batches(x):
            decoded, mean, log_var = net(xb)
            kl = -0.5 * (1 + log_var - mean.square() - log_var.exp())
            loss = F.mse_loss(decoded, xb) + kl.sum()  # <- here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    net.eval()
    lab.score(F.mse_loss(net(xt)[0], xt))


@sick(
    family="loss", kind="statistic", cause=("activation-on-output", "too-much-regularisation"), place=("3", "model"),
    metric="r2", works=0.9, margin=0.2,
    fix=[swap("nn.Linear(32, 1), nn.Dropout(0.5))", "nn.Linear(32, 1))")],
)  # fmt: skip
def dropout_on_the_output(lab):
    """Dropout behind the last layer of a regression zeroes half of the predictions."""
    x, y, xt, yt = line()
    y, yt = y + 2, yt + 2
    net = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 1), nn.Dropout(0.5))  # <- here
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    with nb.run("dropout"):
        for epoch in range(20):
            for xb, yb in batches(x, y, size=32):
                optimizer.zero_grad()
                loss = criterion(net(xb), yb)
                loss.backward()
                optimizer.step()
            nb.log(epoch, loss=loss.item())
    lab.score(r2(net, xt, yt))


@sick(
    family="loss", kind="statistic", cause="wrong-loss-for-task", place="loss",
    metric="accuracy", works=0.82, margin=0.06,
    fix=[swap("F.cross_entropy(net(xb), yb)", "F.binary_cross_entropy_with_logits(net(xb), yb)")],
)  # fmt: skip
def softmax_over_independent_labels(lab):
    """Four labels that may all be true at once, learned as if exactly one were."""
    x, digit, xt, digit_t = digits(flat=True)
    label = torch.tensor([[d % 2 == 0, d > 4, d in (2, 3, 5, 7), d % 3 == 0] for d in range(10)]).float()
    y, yt = label[digit], label[digit_t]
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(20):
        for xb, yb in batches(x, y):
            loss = F.cross_entropy(net(xb), yb)  # <- here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(((predict(net, xt) > 0) == (yt > 0)).all(1).float().mean())


@sick(
    family="loss", kind="statistic", cause="missing-activation", place=("0", "1", "2", "model"),
    metric="accuracy", works=0.9, margin=0.15,
    fix=[swap("nn.Linear(2, 32), nn.Linear(32, 32), nn.Linear(32, 2)",
              "nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2)")],
)  # fmt: skip
def linear_layers_only(lab):
    """Three linear layers without anything between them draw one straight border."""
    angle = torch.rand(800) * 2 * math.pi
    radius = torch.where(torch.arange(800) % 2 == 0, 1.0, 2.0) + 0.15 * torch.randn(800)
    x = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    y = torch.arange(800) % 2
    net = nn.Sequential(nn.Linear(2, 32), nn.Linear(32, 32), nn.Linear(32, 2))  # <- here
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:40], y[:40]))
    for epoch in range(20):
        for xb, yb in batches(x[:600], y[:600], size=40):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, x[600:], y[600:]))
