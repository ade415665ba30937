"""Faults of data sets, samplers, loaders and their worker processes."""

from __future__ import annotations

import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, WeightedRandomSampler

from zoo.data import accuracy, balanced_accuracy, batches, digits, line, predict, r2
from zoo.program import before, drop, sick, swap


@sick(
    family="loading", kind="invariant", cause=("dataset-ignores-index", "same-batch-always"), place="batch",
    metric="accuracy", works=0.9, margin=0.3,
    fix=[swap("self.images[0]", "self.images[i]")],
)  # fmt: skip
def dataset_returns_the_first(lab):
    """``__getitem__`` returns the first image with every label."""

    class Digits(Dataset):
        def __init__(self, images, labels):
            self.images, self.labels = images, labels

        def __len__(self):
            return len(self.labels)

        def __getitem__(self, i):
            return self.images[0], self.labels[i]  # <- here

    x, y, xt, yt = digits(flat=True)
    loader = DataLoader(Digits(x, y), batch_size=64, shuffle=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=next(iter(loader)))
    for epoch in range(6):
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="loading", kind="statistic", cause=("sampler-wrong", "same-batch-always"), place="batch",
    metric="accuracy", works=0.9, margin=0.3,
    fix=[swap("WeightedRandomSampler(class_weight, len(y))", "WeightedRandomSampler(class_weight[y], len(y))")],
)  # fmt: skip
def weights_of_classes_for_rows(lab):
    """The sampler gets ten weights of classes where it takes one per row: it draws from the first ten rows."""
    x, y, xt, yt = digits(flat=True)
    class_weight = 1 / torch.bincount(y).float()
    sampler = WeightedRandomSampler(class_weight, len(y))  # <- here
    loader = DataLoader(TensorDataset(x, y), batch_size=64, sampler=sampler)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=next(iter(loader)))
    for epoch in range(8):
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="loading", kind="invariant", cause="loader-empty", place=("batch", "model", "optimizer"), by=0,
    metric="accuracy", works=0.85, margin=0.3,
    fix=[swap("batch_size=256, drop_last=True", "batch_size=16, shuffle=True, drop_last=True")],
)  # fmt: skip
def fewer_rows_than_a_batch(lab):
    """drop_last with a batch size above the number of rows: the loop over the loader never runs."""
    x, y, xt, yt = digits(flat=True)
    x, y = x[:240], y[:240]
    loader = DataLoader(TensorDataset(x, y), batch_size=256, drop_last=True)  # <- here
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:16], y[:16]))
    for epoch in range(25):
        total = 0.0
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(epoch, total)
    lab.score(accuracy(net, xt, yt))


@sick(
    family="loading", kind="statistic", cause=("loop-cut-short", "same-batch-always"), place=("batch",),
    metric="accuracy", works=0.9, margin=0.03,
    fix=[drop("        break")],
)  # fmt: skip
def break_left_behind(lab):
    """A break from debugging ends each epoch after its first batch, which is always the same."""
    x, y, xt, yt = digits(flat=True)
    loader = DataLoader(TensorDataset(x, y), batch_size=64)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=next(iter(loader)))
    for epoch in range(30):
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
            print(epoch, loss.item())
            break  # <- here
    lab.score(accuracy(net, xt, yt))


@sick(
    family="loading", kind="invariant", cause="workers-repeat", place="batch", by=100, metric="share", works=0.9,
    margin=0.3,
    fix=[
        swap("self.noise = np.random.default_rng(0)", "self.noise = np.random"),
        swap("self.noise.standard_normal(64)", "self.noise.randn(64)"),
    ],
)  # fmt: skip
def generator_copied_into_workers(lab):
    """Each worker gets a copy of one NumPy generator, anew at each epoch: the same noise again and again."""

    class Noisy(Dataset):
        def __init__(self, images, labels):
            self.images, self.labels = images, labels
            self.noise = np.random.default_rng(0)  # <- here

        def __len__(self):
            return len(self.labels)

        def __getitem__(self, i):
            noise = torch.tensor(self.noise.standard_normal(64), dtype=torch.float32)
            return self.images[i] + 0.1 * noise, self.labels[i], noise[0]

    x, y, xt, yt = digits(flat=True)
    loader = DataLoader(Noisy(x[:512], y[:512]), batch_size=64, shuffle=True, num_workers=2)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    drawn = []
    for epoch in range(4):
        for xb, yb, noise in loader:
            drawn += noise.tolist()
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(len(set(drawn)) / len(drawn))


@sick(
    family="loading", kind="invariant", cause="workers-repeat", place="batch", by=100,
    metric="share", works=0.99, margin=0.3,
    fix=[
        before("for i in range(len(self.labels)):", "info = torch.utils.data.get_worker_info()"),
        swap("range(len(self.labels)):", "range(info.id, len(self.labels), info.num_workers):"),
    ],
)  # fmt: skip
def stream_read_by_every_worker(lab):
    """Two workers of an iterable data set both read all of it: each sample comes twice per epoch."""

    class Stream(IterableDataset):
        def __init__(self, images, labels):
            self.images, self.labels = images, labels

        def __iter__(self):
            for i in range(len(self.labels)):  # <- here
                yield self.images[i], self.labels[i], i

    x, y, xt, yt = digits(flat=True)
    loader = DataLoader(Stream(x, y), batch_size=64, num_workers=2)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(3):
        seen = []
        for xb, yb, rows in loader:
            seen += rows.tolist()
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item(), len(seen), "samples")
    lab.score(len(set(seen)) / len(seen))


@sick(
    family="loading", kind="statistic", cause="loader-bound", place=("batch", "loader"), by=300,
    metric="seconds share", works=0.6, margin=0.25,
    fix=[
        swap("return prepare(self.images[i]), self.labels[i]", "return self.images[i], self.labels[i]"),
        swap(
            "self.images, self.labels = images, labels",
            "self.images, self.labels = [prepare(image) for image in images], labels",
        ),
    ],
)  # fmt: skip
def images_prepared_again_and_again(lab):
    """Each image is prepared anew whenever it is drawn, in the process that trains: most of the time is waiting."""

    def prepare(image):
        time.sleep(0.0005)  # as long as to open and decode a small file
        return image / 16

    class Digits(Dataset):
        def __init__(self, images, labels):
            self.images, self.labels = images, labels

        def __len__(self):
            return len(self.labels)

        def __getitem__(self, i):
            return prepare(self.images[i]), self.labels[i]  # <- here

    x, y, xt, yt = digits()
    loader = DataLoader(Digits(x[:512] * 16, y[:512]), batch_size=32, shuffle=True)
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2048, 10),
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    lab.watch(net, optimizer, loss=criterion, batch=next(iter(loader)))
    began, busy = time.perf_counter(), 0.0
    for epoch in range(4):
        for xb, yb in loader:
            got = time.perf_counter()
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
            busy += time.perf_counter() - got
        print(epoch, loss.item())
    lab.score(1 - busy / (time.perf_counter() - began))


@sick(
    family="loading", kind="statistic", cause=("sampler-wrong", "classes-imbalanced"), place="batch",
    metric="balanced accuracy", works=0.9, margin=0.1,
    fix=[swap("x, y = x[:700], y[:700]", "x, y = x, y")],
)  # fmt: skip
def only_the_head_of_a_sorted_file(lab):
    """The first 700 rows of a file that is sorted by class hold half of the classes."""
    x, y, xt, yt = digits(flat=True)
    order = y.argsort()
    x, y = x[order], y[order]
    x, y = x[:700], y[:700]  # <- here
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(8):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(balanced_accuracy(predict(net, xt).argmax(1), yt))


@sick(
    family="loading", kind="invariant", cause="same-batch-always", place=("batch", "model"),
    metric="r2", works=0.9, margin=0.03,
    fix=[drop("torch.manual_seed(42)")],
)  # fmt: skip
def seed_set_in_the_loop(lab):
    """The seed is set inside the loop: the same rows are drawn at every step."""
    x, y, xt, yt = line()
    net = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 1))
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:16], y[:16]))
    for step in range(300):
        torch.manual_seed(42)  # <- here
        rows = torch.randint(0, len(x), (16,))
        optimizer.zero_grad()
        loss = criterion(net(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(step, loss.item())
    lab.score(r2(net, xt, yt))
