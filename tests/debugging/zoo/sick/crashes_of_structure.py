"""More programs that end in an error: of structure, autograd and the order of axes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from zoo.data import accuracy, batches, characters, digits, r2, ragged, wave
from zoo.program import after, sick, swap


@sick(
    family="crash", kind="crash", cause="output-not-tensor", place=("head", "rnn"),
    metric="r2", works=0.9, raises="TypeError: linear\\(\\): argument 'input'",
    fix=[swap("x = self.rnn(x)\n", "x = self.rnn(x)[0][:, -1]\n")],
)  # fmt: skip
def tuple_of_a_recurrent_layer(lab):
    """An LSTM returns its outputs and its state; both go into the linear layer."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(1, 32, batch_first=True)
            self.head = nn.Linear(32, 1)

        def forward(self, x):
            x = self.rnn(x)
            return self.head(x)  # <- here

    x, y, xt, yt = wave()
    net = Net()
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:32], y[:32]))
    for epoch in range(8):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(net, xt, yt))


@sick(
    family="crash", kind="crash", cause="nothing-requires-grad", place=("model", "loss", "optimizer"),
    metric="accuracy", works=0.9, raises="RuntimeError: element 0 of tensors does not require grad",
    fix=[swap("with torch.no_grad():", "with torch.enable_grad():")],
)  # fmt: skip
def training_without_gradients(lab):
    """The forward pass of training stands in a no_grad block."""
    x, y, xt, yt = digits(flat=True)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(6):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            with torch.no_grad():
                output = net(xb)  # <- here
            loss = criterion(output, yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="crash", kind="crash", cause="inplace-breaks-backward", place=("model", "fc1", "fc2"),
    metric="accuracy", works=0.9, raises="RuntimeError: one of the variables needed for gradient computation",
    fix=[swap("h += self.fc2(h)", "h = h + self.fc2(h)")],
)  # fmt: skip
def residual_in_place(lab):
    """``+=`` overwrites an output that the backward pass needs."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1 = nn.Linear(64, 48)
            self.fc2 = nn.Linear(48, 48)
            self.out = nn.Linear(48, 10)

        def forward(self, x):
            h = torch.sigmoid(self.fc1(x))
            h += self.fc2(h)  # <- here
            return self.out(h)

    x, y, xt, yt = digits(flat=True)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(8):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="crash", kind="crash", cause="graph-kept", place=("rnn", "model", "loss"), by=1,
    metric="loss", works=2.9, raises="RuntimeError: Trying to backward through the graph a second time",
    fix=[after("output, state = net(xb, state)", "state = state.detach()")],
)  # fmt: skip
def state_not_detached(lab):
    """The hidden state of the last batch still hangs on the graph of the last batch."""

    class Net(nn.Module):
        def __init__(self, vocabulary):
            super().__init__()
            self.embed = nn.Embedding(vocabulary, 24)
            self.rnn = nn.GRU(24, 48, batch_first=True)
            self.out = nn.Linear(48, vocabulary)

        def forward(self, tokens, state=None):
            h, state = self.rnn(self.embed(tokens), state)
            return self.out(h), state

    ids, vocabulary = characters()
    columns = ids[: 32 * 461].view(32, 461)
    net = Net(vocabulary)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, batch=(columns[:, :20], columns[:, 1:21]))
    for epoch in range(4):
        state = None
        for i in range(0, 440, 20):
            xb, yb = columns[:, i : i + 20], columns[:, i + 1 : i + 21]
            output, state = net(xb, state)
            loss = F.cross_entropy(output.flatten(0, 1), yb.flatten())
            optimizer.zero_grad()
            loss.backward()  # <- here
            optimizer.step()
        print(epoch, loss.item())
    lab.score(loss)


@sick(
    family="crash", kind="crash", cause="sparse-gradient-unsupported", place=("optimizer", "embed"),
    metric="accuracy", works=0.9, raises="RuntimeError: Adam does not support sparse gradients",
    fix=[swap("nn.Embedding(12, 16, padding_idx=0, sparse=True)", "nn.Embedding(12, 16, padding_idx=0)")],
)  # fmt: skip
def sparse_gradients_for_adam(lab):
    """A sparse embedding under dense Adam."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(12, 16, padding_idx=0, sparse=True)  # <- here
            self.head = nn.Linear(16, 4)

        def forward(self, tokens):
            return self.head(self.embed(tokens).sum(1))

    tokens, _, y = ragged()
    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)  # <- here
    lab.watch(net, optimizer, loss=criterion, batch=(tokens[:32], y[:32]))
    for epoch in range(8):
        for xb, yb in batches(tokens[:1000], y[:1000], size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, tokens[1000:], y[1000:]))


@sick(
    family="crash", kind="crash", cause=("batch-axis-mixed", "shape-mismatch"), place=("model", "loss"),
    metric="accuracy", works=0.9, raises="ValueError: Expected input batch_size",
    fix=[swap("x.view(-1, 288)", "x.flatten(1)"), swap("nn.Linear(288, 10)", "nn.Linear(576, 10)")],
)  # fmt: skip
def batch_twice_as_long(lab):
    """``view(-1, 288)`` of maps of 576 values makes two samples of each."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 16, 3)
            self.fc = nn.Linear(288, 10)

        def forward(self, x):
            x = F.relu(self.conv(x))
            x = x.view(-1, 288)  # <- here
            return self.fc(x)

    x, y, xt, yt = digits()
    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
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
    family="crash", kind="crash", cause="axes-swapped", place=("conv1", "batch"),
    metric="accuracy", works=0.9, raises="RuntimeError: Given groups=1, weight of size",
    fix=[swap("images, xt = images.expand(-1, 8, 8, 3), xt.permute(0, 2, 3, 1).expand(-1, 8, 8, 3)",
              "images, xt = x.expand(-1, 3, 8, 8), xt.expand(-1, 3, 8, 8)")],
)  # fmt: skip
def channels_last_images(lab):
    """Images come with the channels behind, as image files have them."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 16, 3)
            self.fc = nn.Linear(576, 10)

        def forward(self, x):
            return self.fc(F.relu(self.conv1(x)).flatten(1))

    x, y, xt, yt = digits()
    images = x.permute(0, 2, 3, 1)
    images, xt = images.expand(-1, 8, 8, 3), xt.permute(0, 2, 3, 1).expand(-1, 8, 8, 3)  # <- here
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(images[:64], y[:64]))
    for epoch in range(5):
        for xb, yb in batches(images, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="crash", kind="crash", cause=("shape-mismatch", "axes-swapped"), place=("encoder*", "model"),
    metric="accuracy", works=0.85, raises="(RuntimeError|AssertionError): .*mask",
    fix=[swap("src_key_padding_mask=mask.T", "src_key_padding_mask=mask")],
)  # fmt: skip
def mask_of_another_shape(lab):
    """The padding mask of a transformer is transposed."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(12, 24)
            self.encoder = nn.TransformerEncoderLayer(24, 4, 48, dropout=0.0, batch_first=True)
            self.head = nn.Linear(24, 4)

        def forward(self, tokens):
            mask = tokens == 0
            h = self.encoder(self.embed(tokens), src_key_padding_mask=mask.T)  # <- here
            return self.head(h.masked_fill(mask[..., None], 0).sum(1) / (~mask).sum(1, keepdim=True))

    tokens, _, y = ragged(longest=10)
    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(tokens[:32], y[:32]))
    for epoch in range(5):
        for xb, yb in batches(tokens[:1000], y[:1000], size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, tokens[1000:], y[1000:]))
