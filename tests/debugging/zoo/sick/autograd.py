"""Custom autograd functions and operations without gradient, kept graphs, and slow loops."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from zoo.data import accuracy, batches, digits, graph_nodes, line, r2, resident_mb, wave
from zoo.program import drop, sick, swap


@sick(
    family="autograd", kind="invariant", cause="wrong-backward", place=("fold", "model"), by=20,
    metric="r2", works=0.9, margin=0.1,
    fix=[swap("return grad\n", "return grad * ctx.saved_tensors[0].sign()\n")],
)  # fmt: skip
def derivative_by_hand(lab):
    """A hand-written backward pass of the absolute value forgets its sign."""

    class Absolute(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.abs()

        @staticmethod
        def backward(ctx, grad):
            return grad  # <- here

    class Fold(nn.Module):
        def forward(self, x):
            return Absolute.apply(x)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.out = nn.Linear(3, 16), nn.Linear(16, 1)
            self.fold = Fold()

        def forward(self, x):
            return self.out(self.fold(self.fc1(x)))

    x, _, xt, _ = line()
    y, yt = x.abs() @ torch.tensor([[1.0], [-2.0], [1.0]]), xt.abs() @ torch.tensor([[1.0], [-2.0], [1.0]])
    net = Net()
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for epoch in range(40):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(net, xt, yt))


@sick(
    family="autograd", kind="invariant", cause="wrong-backward", place=("hidden", "model"), by=20,
    metric="accuracy", works=0.9, margin=0.1,
    fix=[swap("return grad @ weight, None", "return grad @ weight, grad.T @ x")],
)  # fmt: skip
def backward_without_the_weight(lab):
    """A custom linear function returns no gradient for its weight."""

    class Matmul(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight):
            ctx.save_for_backward(x, weight)
            return x @ weight.T

        @staticmethod
        def backward(ctx, grad):
            x, weight = ctx.saved_tensors
            return grad @ weight, None  # <- here

    class Fast(nn.Module):
        def __init__(self, i, o):
            super().__init__()
            self.weight = nn.Parameter(0.3 * torch.randn(o, i))

        def forward(self, x):
            return Matmul.apply(x, self.weight)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = Fast(64, 16), nn.Linear(16, 10)

        def forward(self, x):
            return self.out(torch.tanh(self.hidden(x)))

    x, y, xt, yt = digits(flat=True)
    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(10):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="autograd", kind="invariant", cause=("nondifferentiable-op", "graph-cut"), place=("encoder*", "model"),
    metric="accuracy", works=0.9, margin=0.1,
    fix=[swap("code = torch.round(code)", "code = code + (torch.round(code) - code).detach()")],
)  # fmt: skip
def rounding_in_the_middle(lab):
    """A code is rounded without a straight-through gradient, so the encoder gets zeros."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(64, 12), nn.Sigmoid())
            self.head = nn.Linear(12, 10)

        def forward(self, x):
            code = self.encoder(x)
            code = torch.round(code)  # <- here
            return self.head(code)

    x, y, xt, yt = digits(flat=True)
    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(20):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="autograd", kind="invariant", cause="graph-cut", place=("features*", "model"),
    metric="accuracy", works=0.93, margin=0.05,
    fix=[swap("torch.from_numpy(np.maximum(h.detach().numpy(), 0))", "h.clamp(min=0)")],
)  # fmt: skip
def numpy_in_forward(lab):
    """A step through NumPy in forward cuts the graph behind the features."""
    import numpy as np

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Linear(64, 12)
            self.head = nn.Linear(12, 10)

        def forward(self, x):
            h = self.features(x)
            h = torch.from_numpy(np.maximum(h.detach().numpy(), 0))  # <- here
            return self.head(h)

    x, y, xt, yt = digits(flat=True)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(15):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="leaks", kind="invariant", cause="graph-kept", place="loss", by=200,
    metric="graph nodes", works=10, margin=1000,
    fix=[swap("losses.append(loss)", "losses.append(loss.item())")],
)  # fmt: skip
def losses_kept_with_their_graphs(lab):
    """A list of losses for a plot keeps the graph of every step."""
    x, y, xt, yt = digits()
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1024, 10),
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    losses = []
    for step in range(250):
        rows = torch.randint(0, len(x), (32,))
        optimizer.zero_grad()
        loss = criterion(net(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        losses.append(loss)  # <- here
        if step % 50 == 0:
            print(step, accuracy(net, xt, yt))
    lab.score(graph_nodes(losses))


@sick(
    family="leaks", kind="invariant", cause="graph-kept", place="loss", by=200,
    metric="graph nodes", works=10, margin=1000,
    fix=[swap("total_loss += loss\n", "total_loss += loss.item()\n")],
)  # fmt: skip
def sum_of_losses_keeps_graphs(lab):
    """The running total is a tensor with a graph through all steps."""
    x, y, xt, yt = wave()
    net = nn.Sequential(nn.Flatten(), nn.Linear(24, 64), nn.Tanh(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    lab.watch(net, optimizer, loss=F.mse_loss, batch=(x[:128], y[:128]))
    total_loss = 0.0
    for step in range(250):
        rows = torch.randint(0, len(x), (128,))
        optimizer.zero_grad()
        loss = F.mse_loss(net(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        total_loss += loss  # <- here
        if step % 50 == 0:
            print(step, float(total_loss), r2(net, xt, yt))
    lab.score(graph_nodes(total_loss))


@sick(
    family="leaks", kind="invariant", cause="graph-kept", place=("loss", "model"), by=200,
    metric="megabytes", works=25, margin=35,
    fix=[swap("loss.backward(create_graph=True)", "loss.backward()")],
)  # fmt: skip
def create_graph_for_nothing(lab):
    """backward(create_graph=True) ties each gradient to its graph, and each parameter to its gradient."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 512), nn.Tanh(), nn.Linear(512, 512), nn.Tanh(), nn.Linear(512, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    kept = []
    for step in range(60):
        rows = torch.randint(0, len(x), (64,))
        optimizer.zero_grad()
        loss = criterion(net(x[rows]), y[rows])
        loss.backward(create_graph=True)  # <- here
        kept.append(net[0].weight.grad.sum())
        optimizer.step()
        if step == 10:
            began = resident_mb()
    lab.score(resident_mb() - began)


@sick(
    family="leaks", kind="invariant", cause="graph-kept", place=("model", "metric"), by=200,
    metric="megabytes", works=20, margin=30,
    fix=[swap("outputs.append(net(xb))", "outputs.append(net(xb).detach())")],
)  # fmt: skip
def evaluation_with_graphs(lab):
    """Outputs of the evaluation are collected without no_grad: the graphs of all batches stay until its end."""
    x, y, xt, yt = digits()
    net = nn.Sequential(
        nn.Conv2d(1, 64, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4096, 10),
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for epoch in range(2):
        for xb, yb in batches(x[:480], y[:480], size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        net.eval()
        began, outputs = resident_mb(), []
        for xb, _ in batches(x, y, size=32, shuffle=False):
            outputs.append(net(xb))  # <- here
        grown = resident_mb() - began
        net.train()
        print(epoch, (torch.cat(outputs).argmax(1) == y).float().mean().item())
        del outputs
    lab.score(grown)


@sick(
    family="leaks", kind="crash", cause="graph-kept", place=("loss", "optimizer", "model"), by=1,
    metric="accuracy", works=0.85, raises="RuntimeError: one of the variables needed for gradient computation",
    fix=[drop("    total = total + loss"), swap("total.backward(retain_graph=True)", "loss.backward()")],
)  # fmt: skip
def backward_of_the_sum_so_far(lab):
    """Each step runs backward through the sum of all losses so far, whose weights have been changed since."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    total = 0.0
    for epoch in range(10):
        for xb, yb in batches(x, y):
            loss = F.cross_entropy(net(xb), yb)
            total = total + loss
            optimizer.zero_grad()
            total.backward(retain_graph=True)  # <- here
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))
