"""Programs that end in an error of shape, type, range or structure: to be found before the first step, and located."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from zoo.data import accuracy, batches, characters, digits, table, windows
from zoo.program import sick, swap


@sick(
    family="crash", ref="B05", kind="crash", cause="constructor-not-run", place=("model", "optimizer"),
    metric="accuracy", works=0.9, raises="ValueError: optimizer got an empty parameter list",
    fix=[swap("def ___init___(self):", "def __init__(self):")],
)  # fmt: skip
def three_underscores(lab):
    """``___init___`` is no constructor: the module has no parameters."""

    class Net(nn.Module):
        def ___init___(self):  # <- here
            super().__init__()
            self.body = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

        def forward(self, x):
            return self.body(x)

    x, y, xt, yt = digits(flat=True)
    net = Net()
    lab.watch(net, batch=(x[:64], y[:64]), loss=F.cross_entropy)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for epoch in range(6):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="crash", kind="crash", cause="shape-mismatch", place=("fc1",),
    metric="accuracy", works=0.9, raises="RuntimeError: mat1 and mat2 shapes cannot be multiplied",
    fix=[swap("nn.Linear(32 * 8 * 8, 64)", "nn.Linear(32 * 4 * 4, 64)")],
)  # fmt: skip
def linear_of_the_wrong_size(lab):
    """The pooling was forgotten in the size of the first linear layer."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
            self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
            self.pool = nn.MaxPool2d(2)
            self.fc1 = nn.Linear(32 * 8 * 8, 64)  # <- here
            self.fc2 = nn.Linear(64, 10)

        def forward(self, x):
            x = F.relu(self.conv1(x))
            x = self.pool(F.relu(self.conv2(x)))
            x = torch.flatten(x, 1)
            return self.fc2(F.relu(self.fc1(x)))  # <- here

    x, y, xt, yt = digits()
    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(4):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="crash", kind="crash", cause="shape-mismatch", place=("4", "3"),
    metric="accuracy", works=0.9, raises="RuntimeError: Given groups=1, weight of size",
    fix=[swap("nn.Conv2d(32, 32, 3)", "nn.Conv2d(16, 32, 3)")],
)  # fmt: skip
def channels_that_do_not_meet(lab):
    """The second convolution takes 32 channels, the first gives 16."""
    x, y, xt, yt = digits()
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Dropout2d(0.1),
        nn.Conv2d(32, 32, 3),  # <- here
        nn.ReLU(), nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:32], y[:32]))
    for epoch in range(4):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="crash", kind="crash", cause=("flatten-missing", "shape-mismatch"), place=("head",),
    metric="accuracy", works=0.9, raises="RuntimeError: mat1 and mat2 shapes cannot be multiplied",
    fix=[swap("self.head(x)", "self.head(x.flatten(1))")],
)  # fmt: skip
def flatten_forgotten(lab):
    """Feature maps go into a linear layer as they are."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2))
            self.head = nn.Linear(144, 10)

        def forward(self, x):
            x = self.features(x)
            return self.head(x)  # <- here

    x, y, xt, yt = digits()
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, loss=criterion, batch=next(iter(loader)))
    for epoch in range(5):
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="crash", kind="crash", cause="map-too-small", place=("6", "pool3"),
    metric="accuracy", works=0.9, raises="RuntimeError: .*Output size is too small",
    fix=[swap("nn.AvgPool2d(8)", "nn.AvgPool2d(2)")],
)  # fmt: skip
def pooling_of_eight(lab):
    """An average pooling of 8 on a map of 2: it was made for larger images."""
    x, y, xt, yt = digits()
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.AvgPool2d(8),  # <- here
        nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for epoch in range(8):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="crash", kind="crash", cause="label-out-of-range", place=("loss", "batch"),
    metric="accuracy", works=0.9, raises="IndexError: Target 3 is out of bounds",
    fix=[swap("y + 1, yt + 1", "y, yt")],
)  # fmt: skip
def labels_from_one(lab):
    """Labels count from 1, classes from 0."""
    x, y, xt, yt = table("iris")
    y, yt = y + 1, yt + 1  # <- here
    net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for epoch in range(60):
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        if epoch % 10 == 0:
            print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="crash", kind="crash", cause="index-out-of-range", place=("embed", "batch"),
    metric="loss", works=2.8, raises="IndexError: index out of range in self",
    fix=[swap("nn.Embedding(vocabulary - 1, 24)", "nn.Embedding(vocabulary, 24)")],
)  # fmt: skip
def one_word_too_many(lab):
    """The embedding is one row too short for the vocabulary."""

    class Net(nn.Module):
        def __init__(self, vocabulary):
            super().__init__()
            self.embed = nn.Embedding(vocabulary - 1, 24)  # <- here
            self.rnn = nn.GRU(24, 48, batch_first=True)
            self.out = nn.Linear(48, vocabulary)

        def forward(self, tokens):
            return self.out(self.rnn(self.embed(tokens))[0])  # <- here

    ids, vocabulary = characters()
    ids[::40] = vocabulary - 1
    net = Net(vocabulary)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=criterion, batch=(ids[:160].view(8, 20), ids[:160].view(8, 20)))
    for step in range(150):
        xb, yb = windows(ids, 32, 20)
        optimizer.zero_grad()
        loss = criterion(net(xb).flatten(0, 1), yb.flatten())
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(step, loss.item())
    lab.score(loss)


@sick(
    family="crash", kind="crash", cause="dtype-mismatch", place=("0", "batch"),
    metric="accuracy", works=0.9, raises="RuntimeError: mat1 and mat2 must have the same dtype",
    fix=[swap("torch.from_numpy(x.numpy().astype(np.float64))", "torch.from_numpy(x.numpy())")],
)  # fmt: skip
def doubles_from_numpy(lab):
    """NumPy's float64 goes into float32 layers."""
    x, y, xt, yt = table("wine")
    x = torch.from_numpy(x.numpy().astype(np.float64))  # <- here
    net = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for epoch in range(40):
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        if epoch % 10 == 0:
            print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="crash", kind="crash", cause="dtype-mismatch", place=("loss", "batch"),
    metric="accuracy", works=0.9, raises="RuntimeError: .*(Long|Int|scalar type)",
    fix=[swap("y.to(torch.int32)", "y.to(torch.int64)")],
)  # fmt: skip
def labels_of_32_bits(lab):
    """The cross-entropy takes int64 labels, not int32."""
    x, y, xt, yt = digits(flat=True)
    y = y.to(torch.int32)  # <- here
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(6):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="crash", kind="crash", cause="dtype-mismatch", place=("loss", "batch"),
    metric="accuracy", works=0.9, raises="RuntimeError: .*Float",
    fix=[swap("criterion(net(xb).squeeze(1), yb)", "criterion(net(xb).squeeze(1), yb.float())")],
)  # fmt: skip
def integer_targets_for_bce(lab):
    """A binary cross-entropy takes float targets."""
    x, y, xt, yt = table("breast_cancer")
    net = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 1))
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for epoch in range(8):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb).squeeze(1), yb)  # <- here
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(((net(xt).squeeze(1) > 0) == yt).float().mean())


@sick(
    family="crash", kind="crash", cause="shape-mismatch", place=("block", "block.*", "model"),
    metric="accuracy", works=0.9, raises="RuntimeError: The size of tensor a .* must match",
    fix=[swap("self.skip = nn.Identity()", "self.skip = nn.Conv2d(16, 32, 1, stride=2)")],
)  # fmt: skip
def skip_of_another_shape(lab):
    """A residual block halves the map and doubles the channels, its skip path does neither."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
            self.conv2 = nn.Conv2d(32, 32, 3, padding=1)
            self.skip = nn.Identity()  # <- here

        def forward(self, x):
            return F.relu(self.conv2(F.relu(self.conv1(x))) + self.skip(x))  # <- here

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(1, 16, 3, padding=1)
            self.block = Block()
            self.head = nn.Linear(32, 10)

        def forward(self, x):
            return self.head(self.block(F.relu(self.stem(x))).mean((2, 3)))

    x, y, xt, yt = digits()
    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for epoch in range(6):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="crash", kind="crash", cause="last-batch-too-small", place=("1", "batch"), by=29,
    metric="accuracy", works=0.9, raises="ValueError: Expected more than 1 value per channel when training",
    fix=[swap("batch_size=32, shuffle=True)", "batch_size=32, shuffle=True, drop_last=True)")],
)  # fmt: skip
def last_batch_of_one(lab):
    """The last batch of the epoch holds one sample, and batch normalisation cannot work on it."""
    x, y, xt, yt = digits(flat=True)
    x, y = x[:929], y[:929]
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)  # <- here
    net = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=next(iter(loader)))
    for epoch in range(5):
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))
