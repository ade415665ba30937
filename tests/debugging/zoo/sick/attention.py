"""Faults of attention and of models that predict the next item."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from zoo.data import accuracy, batches, characters, digits, order_task, predict, ragged, windows
from zoo.program import sick, swap


@sick(
    family="sequences", kind="invariant", cause="positions-missing", place=("model", "encoder*", "embed"), by=50,
    metric="accuracy", works=0.9, margin=0.3,
    fix=[
        swap("h = self.embed(tokens)", "h = self.embed(tokens) + self.places"),
        swap(
            "self.embed = nn.Embedding(8, 32)",
            "self.embed, self.places = nn.Embedding(8, 32), nn.Parameter(torch.randn(10, 32))",
        ),
    ],
)  # fmt: skip
def no_positions(lab):
    """A transformer without positions cannot tell which word came first."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(8, 32)
            layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
            self.head = nn.Linear(32, 2)

        def forward(self, tokens):
            h = self.embed(tokens)  # <- here
            return self.head(self.encoder(h).mean(1))

    x, y, xt, yt = order_task()
    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:50], y[:50]))
    for epoch in range(15):
        for xb, yb in batches(x, y, size=50):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="sequences", kind="invariant", cause="causal-mask-missing", place=("model", "block*", "loss"), by=50,
    metric="loss", works=2.6, margin=0.6,
    fix=[
        swap("self.block(h)", "self.block(h, src_mask=mask, is_causal=True)"),
        swap(
            "h = self.embed(tokens) + self.places",
            "h, mask = self.embed(tokens) + self.places, nn.Transformer.generate_square_subsequent_mask(16)",
        ),
    ],
)  # fmt: skip
def no_causal_mask(lab):
    """A language model sees the characters that it is to predict; when it writes, they are not there."""

    class LM(nn.Module):
        def __init__(self, vocabulary):
            super().__init__()
            self.embed = nn.Embedding(vocabulary, 32)
            self.places = nn.Parameter(0.1 * torch.randn(16, 32))
            self.block = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
            self.out = nn.Linear(32, vocabulary)

        def forward(self, tokens):
            h = self.embed(tokens) + self.places
            return self.out(self.block(h))  # <- here

    ids, vocabulary = characters()
    net = LM(vocabulary)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=windows(ids, 32, 16))
    for step in range(400):
        xb, yb = windows(ids, 32, 16)
        optimizer.zero_grad()
        loss = criterion(net(xb).transpose(1, 2), yb)
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(step, loss.item())
    xb, yb = windows(ids, 256, 16)
    xb[:, 9:] = 0  # not written yet
    lab.score(F.cross_entropy(predict(net, xb)[:, 8], yb[:, 8]))


@sick(
    family="sequences", kind="statistic", cause="attention-not-scaled", place=("attention", "model"), by=300,
    metric="accuracy", works=0.8, margin=0.15,
    fix=[swap("scores = q @ k.transpose(1, 2)", "scores = q @ k.transpose(1, 2) / q.shape[-1]")],
)  # fmt: skip
def scores_not_divided(lab):
    """Attention scores of large vectors are not divided: the softmax picks one place and has no gradient."""

    class Attention(nn.Module):
        def __init__(self, size):
            super().__init__()
            self.qkv = nn.Linear(size, 3 * size)
            nn.init.normal_(self.qkv.weight, std=0.2)

        def forward(self, x):
            q, k, v = self.qkv(x).chunk(3, dim=-1)
            scores = q @ k.transpose(1, 2)  # <- here
            return scores.softmax(-1) @ v

    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Linear(8, 128)
            self.places = nn.Parameter(torch.randn(8, 128))
            self.attention = Attention(128)
            self.head = nn.Linear(128, 10)

        def forward(self, x):
            h = self.embed(x.view(-1, 8, 8)) + self.places
            return self.head(self.attention(h).mean(1))

    x, y, xt, yt = digits(flat=True)
    net = Rows()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(12):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@sick(
    family="sequences", kind="statistic", cause="mask-inverted", place=("attend", "model"), by=200,
    metric="accuracy", works=0.9, margin=0.3,
    fix=[swap("key_padding_mask=tokens != 0", "key_padding_mask=tokens == 0")],
)  # fmt: skip
def words_masked_instead_of_padding(lab):
    """key_padding_mask is True where to look away, not where to look."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(12, 24)
            self.query = nn.Parameter(torch.randn(1, 1, 24))
            self.attend = nn.MultiheadAttention(24, 2, batch_first=True)
            self.head = nn.Linear(24, 4)

        def forward(self, tokens):
            h = self.embed(tokens)
            query = self.query.expand(len(h), -1, -1)
            h, _ = self.attend(query, h, h, key_padding_mask=tokens != 0)  # <- here
            return self.head(h[:, 0])

    tokens, _, y = ragged()
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
    family="sequences", kind="invariant", cause="targets-not-shifted", place=("loss", "batch"), by=50,
    metric="accuracy", works=0.25, margin=0.2,
    fix=[
        swap("xb, _ = windows(ids, 32, 20)\n    yb = xb", "xb, yb = windows(ids, 32, 20)"),
        swap("16, 20), ids[:320].view", "16, 20), ids[1:321].view"),
    ],
)  # fmt: skip
def predicts_what_it_sees(lab):
    """The target of a language model is its input, not shifted: it learns to copy."""

    class LM(nn.Module):
        def __init__(self, vocabulary):
            super().__init__()
            self.embed = nn.Embedding(vocabulary, 32)
            self.rnn = nn.GRU(32, 64, batch_first=True)
            self.out = nn.Linear(64, vocabulary)

        def forward(self, tokens):
            return self.out(self.rnn(self.embed(tokens))[0])

    ids, vocabulary = characters()
    net = LM(vocabulary)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, batch=(ids[:320].view(16, 20), ids[:320].view(16, 20)))
    for step in range(250):
        xb, _ = windows(ids, 32, 20)
        yb = xb  # <- here
        optimizer.zero_grad()
        loss = F.cross_entropy(net(xb).transpose(1, 2), yb)
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(step, loss.item())
    xb, yb = windows(ids, 256, 20)
    lab.score((predict(net, xb).argmax(-1) == yb).float().mean())


@sick(
    family="sequences", kind="invariant", cause="batch-axis-mixed", place=("model", "head", "embed"), by=20,
    metric="accuracy", works=0.9, margin=0.2,
    fix=[swap("x.view(8, len(x), 8)", "x.view(len(x), 8, 8).transpose(0, 1)")],
)  # fmt: skip
def view_where_transpose_is_meant(lab):
    """``view`` reorders nothing: rows of different images get into one sequence."""

    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(8, 32)
            self.head = nn.Linear(32, 10)

        def forward(self, x):
            rows = x.view(8, len(x), 8)  # <- here
            return self.head(self.rnn(rows)[0][-1])

    x, y, xt, yt = digits(flat=True)
    net = Rows()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(8):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))
