"""Faults of what is shown: the training is right, the figure is wrong. The score is the distance to the true figure."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nbops as nb
from zoo.data import accuracy, batches, digits, line
from zoo.program import before, drop, sick, swap


@sick(
    family="metrics", ref="B09", kind="invariant", cause="metric-not-reset", place="metric", by=100,
    metric="error", works=0.01, margin=1.0,
    fix=[drop("running_loss = 0.0"), before("    for xb, yb in loader:", "running_loss = 0.0")],
)  # fmt: skip
def running_loss_runs_on(lab):
    """The running loss is not set to zero at each epoch: what is printed rises while the model learns."""
    x, y, xt, yt = digits(flat=True)
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    lab.watch(net, optimizer, loss=criterion, batch=next(iter(loader)))
    running_loss = 0.0
    with nb.run("digits"):
        for epoch in range(8):
            losses = []
            for xb, yb in loader:
                optimizer.zero_grad()
                loss = criterion(net(xb), yb)
                loss.backward()
                optimizer.step()
                running_loss += loss.item()
                losses.append(loss.item())
            shown = running_loss / len(loader)  # <- here
            nb.log(epoch, loss=shown, accuracy=accuracy(net, xt, yt))
    lab.score(abs(shown - sum(losses) / len(losses)))


@sick(
    family="metrics", ref="B11", kind="invariant", cause="metric-broadcast", place="metric", by=100,
    metric="error", works=0.001, margin=0.5,
    fix=[swap("(predicted == labels).sum()", "(predicted == labels.squeeze(1)).sum()")],
)  # fmt: skip
def predictions_against_a_column(lab):
    """Predictions [n] against labels [n, 1] compare each with all: an accuracy above 1."""
    x, y, xt, yt = digits(flat=True)
    y, yt = y[:, None], yt[:, None]
    loader = DataLoader(TensorDataset(xt, yt), batch_size=32)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64, 0]))
    with nb.run("digits"):
        for epoch in range(6):
            for xb, yb in batches(x, y):
                optimizer.zero_grad()
                loss = F.cross_entropy(net(xb), yb.squeeze(1))
                loss.backward()
                optimizer.step()
            correct = 0
            with torch.no_grad():
                for images, labels in loader:
                    predicted = net(images).argmax(1)
                    correct += (predicted == labels).sum().item()  # <- here
            shown = correct / len(xt)
            nb.log(epoch, loss=loss.item(), accuracy=shown)
    lab.score(abs(shown - accuracy(net, xt, yt.squeeze(1))))


@sick(
    family="metrics", kind="invariant", cause="metric-wrong-denominator", place="metric", by=100,
    metric="error", works=0.001, margin=1.0,
    fix=[swap("correct / len(loader)", "correct / len(loader.dataset)")],
)  # fmt: skip
def divided_by_batches(lab):
    """Right answers are divided by the number of batches."""
    x, y, xt, yt = digits(flat=True)
    loader = DataLoader(TensorDataset(xt, yt), batch_size=60)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    with nb.run("digits"):
        for epoch in range(5):
            for xb, yb in batches(x, y):
                optimizer.zero_grad()
                loss = criterion(net(xb), yb)
                loss.backward()
                optimizer.step()
            net.eval()
            correct = sum((net(xb).argmax(1) == yb).sum().item() for xb, yb in loader)
            net.train()
            shown = correct / len(loader)  # <- here
            nb.log(epoch, loss=loss.item(), accuracy=shown)
    lab.score(abs(shown - accuracy(net, xt, yt)))


@sick(
    family="metrics", kind="invariant", cause="metric-on-wrong-data", place=("metric", "batch"), by=100,
    metric="error", works=0.02, margin=0.1,
    fix=[swap("shown = evaluate(net, train_loader)", "shown = evaluate(net, test_loader)")],
)  # fmt: skip
def validated_on_the_training_set(lab):
    """What is called validation accuracy is computed on the training loader."""
    x, y, xt, yt = digits(flat=True)
    x, y, xt = x[:200] + 0.4 * torch.randn(200, 64), y[:200], xt + 0.4 * torch.randn(xt.shape)
    train_loader = DataLoader(TensorDataset(x, y), batch_size=50, shuffle=True)
    test_loader = DataLoader(TensorDataset(xt, yt), batch_size=50)

    def evaluate(net, loader):
        net.eval()
        with torch.no_grad():
            right = sum((net(xb).argmax(1) == yb).sum().item() for xb, yb in loader)
        net.train()
        return right / len(loader.dataset)

    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, loss=criterion, batch=next(iter(train_loader)))
    with nb.run("digits"):
        for epoch in range(25):
            for xb, yb in train_loader:
                optimizer.zero_grad()
                loss = criterion(net(xb), yb)
                loss.backward()
                optimizer.step()
            accuracy_train = evaluate(net, train_loader)
            shown = evaluate(net, train_loader)
            nb.log(epoch, loss=loss.item(), train_accuracy=accuracy_train, val_accuracy=shown)  # <- here
    lab.score(abs(shown - accuracy(net, xt, yt)))


@sick(
    family="metrics", kind="invariant", cause="metric-wrong-axis", place="metric", by=100,
    metric="error", works=0.001, margin=0.5,
    fix=[swap("argmax(0) == yt[rows]", "argmax(1) == yt[rows]")],
)  # fmt: skip
def argmax_over_the_batch(lab):
    """argmax(0) asks which sample is the best of each class; batches of ten hide that the shapes are others."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    with nb.run("digits"):
        for epoch in range(6):
            for xb, yb in batches(x, y):
                optimizer.zero_grad()
                loss = criterion(net(xb), yb)
                loss.backward()
                optimizer.step()
            right = 0
            with torch.no_grad():
                for rows in torch.arange(len(xt)).split(10):
                    right += (net(xt[rows]).argmax(0) == yt[rows]).sum().item()  # <- here
            shown = right / len(xt)
            nb.log(epoch, loss=loss.item(), accuracy=shown)
    lab.score(abs(shown - accuracy(net, xt, yt)))


@sick(
    family="metrics", kind="statistic", cause="threshold-on-logits", place="metric", by=200,
    metric="error", works=0.001, margin=0.02,
    fix=[swap("(net(xt).squeeze(1) > 0.5)", "(net(xt).squeeze(1) > 0)")],
)  # fmt: skip
def half_as_a_logit(lab):
    """The threshold of a half is for probabilities, and the network gives logits."""
    x, y, xt, yt = digits(flat=True)
    y, yt = (y > 4).float(), (yt > 4).float()
    net = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 1))
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32, None]))
    with nb.run("high"):
        for epoch in range(6):
            for xb, yb in batches(x, y, size=32):
                optimizer.zero_grad()
                loss = criterion(net(xb).squeeze(1), yb)
                loss.backward()
                optimizer.step()
            shown = ((net(xt).squeeze(1) > 0.5) == (yt > 0)).float().mean().item()  # <- here
            nb.log(epoch, loss=loss.item(), accuracy=shown)
    true = ((net(xt).squeeze(1) > 0) == (yt > 0)).float().mean().item()
    lab.score(abs(shown - true))


@sick(
    family="metrics", kind="statistic", cause=("metric-on-wrong-data", "metric-not-reset"), place="metric", by=200,
    metric="error", works=0.001, margin=0.05,
    fix=[
        swap(
            "shown = (net(xb).argmax(1) == yb).float().mean().item()",
            "right.append((net(xb).argmax(1) == yb).sum().item())",
        ),
        before("for xb, yb in loader:", "right = []"),
        before("nb.log(", "shown = sum(right) / len(xt)"),
    ],
)  # fmt: skip
def accuracy_of_the_last_batch(lab):
    """The accuracy that is shown is that of the last test batch, which holds one rare class."""
    x, y, xt, yt = digits(flat=True)
    keep = (y != 9) | (torch.rand(len(y)) < 0.1)
    x, y, order = x[keep], y[keep], yt.argsort()
    loader = DataLoader(TensorDataset(xt[order], yt[order]), batch_size=24)
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:32], y[:32]))
    with nb.run("digits"):
        for epoch in range(5):
            for xb, yb in batches(x, y, size=32):
                optimizer.zero_grad()
                loss = F.cross_entropy(net(xb), yb)
                loss.backward()
                optimizer.step()
            for xb, yb in loader:
                shown = (net(xb).argmax(1) == yb).float().mean().item()  # <- here
            nb.log(epoch, loss=loss.item(), accuracy=shown)
    lab.score(abs(shown - accuracy(net, xt, yt)))


@sick(
    family="metrics", kind="invariant", cause="metric-broadcast", place="metric", by=60,
    metric="error", works=0.01, margin=0.2,
    fix=[swap("(predicted - yt).abs().mean()", "(predicted - yt.squeeze(1)).abs().mean()")],
)  # fmt: skip
def mean_error_of_all_pairs(lab):
    """The mean absolute error of predictions [n] and targets [n, 1] is that of all pairs."""
    x, y, xt, yt = line()
    net = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 1))
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    with nb.run("line"):
        for epoch in range(12):
            for xb, yb in batches(x, y, size=32):
                optimizer.zero_grad()
                loss = criterion(net(xb), yb)
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                predicted = net(xt).squeeze(1)
            shown = (predicted - yt).abs().mean().item()  # <- here
            nb.log(epoch, loss=loss.item(), error=shown)
    lab.score(abs(shown - (net(xt) - yt).abs().mean().item()))
