"""Faults of embeddings, recurrent networks and attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from zoo.data import accuracy, batches, characters, predict, r2, ragged, wave, windows
from zoo.program import sick, swap


@sick(
    family="sequences", kind="invariant", cause="padding-idx-is-a-word", place=("embed",), by=50,
    metric="accuracy", works=0.95, margin=0.15,
    fix=[swap("nn.Embedding(12, 8, padding_idx=1)", "nn.Embedding(12, 8, padding_idx=0)")],
)  # fmt: skip
def a_word_that_is_padding(lab):
    """padding_idx names a word that matters: its vector stays zero."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(12, 8, padding_idx=1)  # <- here
            self.head = nn.Linear(8, 4, bias=False)

        def forward(self, tokens):
            return self.head(self.embed(tokens[:, :1]).sum(1))

    tokens, _, y = ragged()
    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    lab.watch(net, optimizer, loss=criterion, batch=(tokens[:32], y[:32]))
    for epoch in range(6):
        for xb, yb in batches(tokens[:1000], y[:1000], size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    recall = [accuracy(net, tokens[1000:][y[1000:] == c], y[1000:][y[1000:] == c]) for c in range(4)]
    lab.score(
        min(*recall[1:], 1 - abs(recall[0] - predict(net, tokens[1000:][y[1000:] == 0]).softmax(1)[:, 0].mean().item()))
    )


@sick(
    family="sequences", kind="invariant", cause="frozen-by-accident", place=("embed",),
    metric="loss", works=2.6, margin=0.3,
    fix=[swap("nn.Embedding.from_pretrained(vectors)", "nn.Embedding.from_pretrained(vectors, freeze=False)")],
)  # fmt: skip
def from_pretrained_freezes(lab):
    """from_pretrained freezes by default; here the vectors are only two numbers per character, and random."""

    class Net(nn.Module):
        def __init__(self, vectors):
            super().__init__()
            self.embed = nn.Embedding.from_pretrained(vectors)  # <- here
            self.rnn = nn.GRU(vectors.shape[1], 64, batch_first=True)
            self.out = nn.Linear(64, len(vectors))

        def forward(self, tokens):
            return self.out(self.rnn(self.embed(tokens))[0])

    ids, vocabulary = characters()
    net = Net(0.05 * torch.randn(vocabulary, 8))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, loss=criterion, batch=windows(ids, 32, 20))
    for step in range(200):
        xb, yb = windows(ids, 32, 20)
        optimizer.zero_grad()
        loss = criterion(net(xb).transpose(1, 2), yb)
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(step, loss.item())
    with torch.no_grad():
        xb, yb = windows(ids, 256, 20)
        lab.score(criterion(net(xb).transpose(1, 2), yb))


@sick(
    family="sequences", kind="statistic", cause="init-too-large", place=("embed", "out", "model"), by=100,
    metric="loss", works=3.2, margin=0.5,
    fix=[swap("nn.init.normal_(self.embed.weight, std=10.0)", "nn.init.normal_(self.embed.weight, std=0.05)")],
)  # fmt: skip
def tied_and_large(lab):
    """A large embedding is also the output layer: the first losses are in the hundreds."""

    class Net(nn.Module):
        def __init__(self, vocabulary):
            super().__init__()
            self.embed = nn.Embedding(vocabulary, 48)
            nn.init.normal_(self.embed.weight, std=10.0)  # <- here
            self.rnn = nn.GRU(48, 48, batch_first=True)
            self.out = nn.Linear(48, vocabulary, bias=False)
            self.out.weight = self.embed.weight

        def forward(self, tokens):
            return self.out(self.rnn(self.embed(tokens))[0])

    ids, vocabulary = characters()
    net = Net(vocabulary)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, batch=windows(ids, 32, 20))
    for step in range(200):
        xb, yb = windows(ids, 32, 20)
        optimizer.zero_grad()
        loss = F.cross_entropy(net(xb).transpose(1, 2), yb)
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(step, loss.item())
    lab.score(loss)


@sick(
    family="sequences", kind="invariant", cause=("axes-swapped", "batch-axis-mixed"), place=("rnn", "model"), by=20,
    metric="r2", works=0.95, margin=0.04,
    fix=[swap("nn.LSTM(1, 32)", "nn.LSTM(1, 32, batch_first=True)")],
)  # fmt: skip
def batch_read_as_time(lab):
    """An LSTM without batch_first takes the samples of a batch for one sequence."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(1, 32)  # <- here
            self.head = nn.Linear(32, 1)

        def forward(self, x):
            h, _ = self.rnn(x)
            return self.head(h[:, -1])

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
    family="sequences", kind="statistic", cause="padding-read", place=("rnn", "model", "batch"),
    metric="accuracy", works=0.9, margin=0.2,
    fix=[swap("h[:, -1]", "h[torch.arange(len(tokens)), (tokens > 0).sum(1) - 1]")],
)  # fmt: skip
def last_state_of_the_padding(lab):
    """The last state is read after many steps of padding, when the word that counts is long forgotten."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(12, 16)
            self.rnn = nn.RNN(16, 24, batch_first=True)
            self.head = nn.Linear(24, 4)

        def forward(self, tokens):
            h, _ = self.rnn(self.embed(tokens))
            return self.head(h[:, -1])  # <- here

    tokens, _, y = ragged(longest=60)
    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(tokens[:32], y[:32]))
    for epoch in range(10):
        for xb, yb in batches(tokens[:1000], y[:1000], size=32):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, tokens[1000:], y[1000:]))


@sick(
    family="sequences", kind="statistic", cause=("inputs-not-scaled", "saturated-activation"), place=("batch", "rnn"),
    metric="r2", works=0.8, margin=0.2,
    fix=[swap("x * 300 + 20_000, xt * 300 + 20_000", "x, xt")],
)  # fmt: skip
def prices_into_gates(lab):
    """Raw prices in the ten thousands saturate every gate of an LSTM."""
    x, y, xt, yt = wave()
    x, xt = x * 300 + 20_000, xt * 300 + 20_000  # <- here
    rnn, head = nn.LSTM(1, 32, batch_first=True), nn.Linear(32, 1)
    net = nn.ModuleDict({"rnn": rnn, "head": head})
    net.forward = lambda x: head(rnn(x)[0][:, -1])
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=F.mse_loss, batch=(x[:32], y[:32]))
    for epoch in range(8):
        for xb, yb in batches(x, y, size=32):
            optimizer.zero_grad()
            loss = F.mse_loss(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(net, xt, yt))
