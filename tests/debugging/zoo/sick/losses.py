"""Faults of the output and of the loss: double activations, wrong axes, wrong ranges, wrong losses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from zoo.data import accuracy, batches, digits, line, predict, r2, table
from zoo.program import drop, sick, swap


@sick(
    family="loss", ref="B13", kind="invariant", cause="softmax-over-wrong-axis",
    place=("softmax", "lin3", "model", "loss"), metric="accuracy", works=0.9, margin=0.3,
    fix=[swap("nn.Softmax(dim=0)", "nn.Identity()"), swap("outputs.unsqueeze(0))[0]", "outputs)")],
)  # fmt: skip
def softmax_over_one(lab):
    """A softmax over an axis of size 1 gives ones: the loss is ln 3 for ever."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin1 = nn.Linear(13, 32)
            self.lin2 = nn.Linear(32, 16)
            self.lin3 = nn.Linear(16, 3)
            self.softmax = nn.Softmax(dim=0)  # <- here

        def forward(self, x):
            x = F.relu(self.lin1(x))
            x = F.relu(self.lin2(x))
            outputs = self.lin3(x)
            return self.softmax(outputs.unsqueeze(0))[0]  # <- here

    x, y, xt, yt = table("wine")
    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:16], y[:16]))
    for epoch in range(20):
        for xb, yb in batches(x, y, size=16):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="loss", ref="B13", kind="statistic", cause="double-softmax", place=("6", "loss", "model"), by=100,
    metric="accuracy", works=0.93, margin=0.05,
    fix=[drop("nn.Softmax(dim=1)")],
)  # fmt: skip
def softmax_before_cross_entropy(lab):
    """The network ends in a softmax, and the loss applies another one."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(64, 10),
        nn.Softmax(dim=1),  # <- here
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(6):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)  # <- here
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch} loss {loss.item():.4f}")
    lab.score(accuracy(net, xt, yt))


@sick(
    family="loss", kind="statistic", cause="double-softmax", place=("loss", "model"), by=100,
    metric="accuracy", works=0.9, margin=0.1,
    fix=[swap("return F.softmax(self.fc2(x), dim=-1)", "return self.fc2(x)")],
)  # fmt: skip
def functional_softmax_before_cross_entropy(lab):
    """The same with a functional softmax in forward and a functional loss."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 16, 3, stride=2)
            self.fc1 = nn.Linear(144, 64)
            self.fc2 = nn.Linear(64, 10)

        def forward(self, x):
            x = F.relu(self.conv(x)).flatten(1)
            x = F.relu(self.fc1(x))
            return F.softmax(self.fc2(x), dim=-1)  # <- here

    x, y, xt, yt = digits()
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(5):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)  # <- here
            loss.backward()
            optimizer.step()
        print(epoch, loss.item(), accuracy(net, xt, yt))
    lab.score(accuracy(net, xt, yt))


@sick(
    family="loss", ref="B15", kind="statistic", cause=("double-softmax", "init-too-large"),
    place=("3", "loss", "model"), metric="accuracy", works=0.9, margin=0.2,
    fix=[swap(", nn.Sigmoid())", ")"), drop("nn.init.normal_(p)"), drop("for p in net.parameters()")],
)  # fmt: skip
def cross_entropy_on_sigmoid(lab):
    """Sigmoid outputs and weights of standard deviation 1 in front of a cross-entropy."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10), nn.Sigmoid())
    for p in net.parameters():
        nn.init.normal_(p)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(15):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)  # <- here
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="loss", kind="statistic", cause="double-softmax", place=("loss", "3", "model"), by=100,
    metric="loss", works=0.2, margin=0.1,
    fix=[swap("nn.BCEWithLogitsLoss()", "nn.BCELoss()")],
)  # fmt: skip
def logits_loss_on_sigmoid(lab):
    """BCEWithLogitsLoss on a network that ends in a sigmoid: probabilities never leave 0.5 to 0.73."""
    x, y, xt, yt = table("breast_cancer")
    y, yt = y.float().unsqueeze(1), yt.float().unsqueeze(1)
    net = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 1), nn.Sigmoid())
    criterion = nn.BCEWithLogitsLoss()  # <- here
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for epoch in range(15):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(criterion(predict(net, xt), yt))


@sick(
    family="loss", ref="B17", kind="invariant", cause="output-range", place=("3", "model", "loss"), by=100,
    metric="r2", works=0.9, margin=0.3,
    fix=[swap(", nn.Linear(32, 1), nn.ReLU())", ", nn.Linear(32, 1))")],
)  # fmt: skip
def relu_on_the_output(lab):
    """A ReLU on the last layer of a regression whose targets are half negative."""
    x, y, xt, yt = line()
    net = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 1), nn.ReLU())  # <- here
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for epoch in range(20):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(net, xt, yt))


@sick(
    family="loss", ref="B19", kind="invariant", cause=("output-range", "targets-not-scaled"),
    place=("loss", "model", "batch"), metric="r2", works=0.3, margin=0.5, by=100,
    fix=[swap("return torch.sigmoid(self.out(h))", "return self.out(h) * 100 + 150")],
)  # fmt: skip
def sigmoid_for_a_regression(lab):
    """A sigmoid output for targets between 25 and 346 saturates at 1."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(10, 32)
            self.out = nn.Linear(32, 1)

        def forward(self, x):
            h = torch.tanh(self.hidden(x))
            return torch.sigmoid(self.out(h))  # <- here

    x, y, xt, yt = table("diabetes")
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=F.mse_loss, batch=(x[:32], y[:32]))
    for epoch in range(40):
        for xb, yb in batches(x, y, size=32):
            loss = F.mse_loss(net(xb), yb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(net, xt, yt))


@sick(
    family="loss", kind="invariant", cause="logits-to-nll", place=("loss", "model"), by=50,
    metric="accuracy", works=0.9, margin=0.2,
    fix=[swap("return self.fc2(x)", "return F.log_softmax(self.fc2(x), dim=1)")],
)  # fmt: skip
def nll_of_raw_scores(lab):
    """NLLLoss on raw scores: the loss goes to minus infinity."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1 = nn.Linear(64, 64)
            self.fc2 = nn.Linear(64, 10)

        def forward(self, x):
            x = F.relu(self.fc1(x))
            return self.fc2(x)  # <- here

    x, y, xt, yt = digits(flat=True)
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    net = Net()
    criterion = nn.NLLLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    lab.watch(net, optimizer, loss=criterion, batch=next(iter(loader)))
    for epoch in range(8):
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))
