"""Sequences and language, all in order."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from zoo.data import accuracy, batches, characters, digits, order_task, predict, r2, ragged, wave, windows, words
from zoo.program import healthy


@healthy(family="sequences", metric="accuracy", works=0.9)
def packed_words(lab):
    """Padded sequences are packed, so that the padding is never read."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(12, 16, padding_idx=0)
            self.rnn = nn.LSTM(16, 32, batch_first=True)
            self.head = nn.Linear(32, 4)

        def forward(self, tokens, lengths):
            packed = pack_padded_sequence(self.embed(tokens), lengths, batch_first=True, enforce_sorted=False)
            return self.head(self.rnn(packed)[1][0][-1])

    x, lengths, y = ragged()
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, loss=F.cross_entropy)
    for epoch in range(6):
        for xb, lb, yb in batches(x[:1000], lengths[:1000], y[:1000]):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb, lb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(lambda t: net(t, lengths[1000:]), x[1000:], y[1000:]))


@healthy(family="sequences", metric="r2", works=0.85)
def recurrent_forecast(lab):
    """A GRU reads 24 values and predicts the next."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(1, 24, batch_first=True)
            self.head = nn.Linear(24, 1)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    x, y, xt, yt = wave()
    net = Net()
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(8):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(net, xt, yt))


@healthy(family="sequences", metric="accuracy", works=0.84)
def rows_of_an_image(lab):
    """An image is read row by row by a bidirectional LSTM."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(8, 24, batch_first=True, bidirectional=True)
            self.head = nn.Linear(48, 10)

        def forward(self, x):
            return self.head(self.rnn(x.squeeze(1))[0].mean(1))

    x, y, xt, yt = digits()
    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], y[:64]))
    for epoch in range(8):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@healthy(family="sequences", metric="accuracy", works=0.85)
def which_word_came_first(lab):
    """A transformer with learned positions; the loss is flat for a while before it falls."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(8, 32)
            self.place = nn.Parameter(0.5 * torch.randn(10, 32))
            self.layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
            self.head = nn.Linear(32, 2)

        def forward(self, tokens):
            return self.head(self.layer(self.embed(tokens) + self.place).mean(1))

    x, y, xt, yt = order_task()
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:64], y[:64]))
    for epoch in range(15):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, xt, yt))


@healthy(family="sequences", metric="loss", works=2.8)
def causal_language_model(lab):
    """A small GPT on English text: tied weights, causal mask, weight groups, a long warm-up with a flat loss."""

    class Gpt(nn.Module):
        def __init__(self, vocabulary):
            super().__init__()
            self.embed = nn.Embedding(vocabulary, 48)
            self.place = nn.Embedding(24, 48)
            self.norm = nn.LayerNorm(48)
            self.qkv = nn.Linear(48, 144)
            self.mix = nn.Linear(48, 48)
            self.mlp = nn.Sequential(nn.LayerNorm(48), nn.Linear(48, 96), nn.GELU(), nn.Linear(96, 48))
            self.out = nn.Linear(48, vocabulary, bias=False)
            nn.init.normal_(self.embed.weight, std=0.1)
            self.out.weight = self.embed.weight

        def forward(self, tokens):
            n, t = tokens.shape
            h = self.embed(tokens) + self.place(torch.arange(t))
            q, k, v = (part.view(n, t, 4, 12).transpose(1, 2) for part in self.qkv(self.norm(h)).chunk(3, -1))
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(n, t, 48)
            h = h + self.mix(mixed)
            return self.out(h + self.mlp(h))

    ids, vocabulary = characters()
    net = Gpt(vocabulary)
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 100))
    lab.watch(net, optimizer)
    for step in range(220):
        xb, yb = windows(ids, 16, 24)
        loss = F.cross_entropy(net(xb).flatten(0, 1), yb.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(step, loss.item())
    xb, yb = windows(ids, 256, 24)
    lab.score(F.cross_entropy(predict(net, xb).flatten(0, 1), yb.flatten()))


@healthy(family="sequences", metric="loss", works=2.7)
def state_carried_on(lab):
    """Truncated backpropagation through time: the state goes on to the next piece, detached."""

    class Net(nn.Module):
        def __init__(self, vocabulary):
            super().__init__()
            self.embed = nn.Embedding(vocabulary, 32)
            self.rnn = nn.GRU(32, 64, batch_first=True)
            self.out = nn.Linear(64, vocabulary)

        def forward(self, tokens, state=None):
            h, state = self.rnn(self.embed(tokens), state)
            return self.out(h), state

    ids, vocabulary = characters()
    rows = ids[: len(ids) // 16 * 16].view(16, -1)
    net = Net(vocabulary)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer)
    state = None
    for step in range(200):
        at = step * 20 % (rows.shape[1] - 21)
        logits, state = net(rows[:, at : at + 20], state)
        state = state.detach()
        loss = F.cross_entropy(logits.transpose(1, 2), rows[:, at + 1 : at + 21])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        if step % 40 == 0:
            print(step, loss.item())
    xb, yb = windows(ids, 200, 20)
    lab.score(F.cross_entropy(predict(lambda t: net(t)[0].transpose(1, 2), xb), yb))


@healthy(family="sequences", metric="loss", works=0.69)
def words_and_their_neighbours(lab):
    """Skip-gram with negative samples: two embeddings with sparse gradients under SparseAdam."""

    class SkipGram(nn.Module):
        def __init__(self, vocabulary):
            super().__init__()
            self.word = nn.Embedding(vocabulary, 24, sparse=True)
            self.context = nn.Embedding(vocabulary, 24, sparse=True)
            nn.init.normal_(self.word.weight, std=0.1)
            nn.init.zeros_(self.context.weight)

        def forward(self, word, context):
            return (self.word(word)[:, None] * self.context(context)).sum(-1)

    ids, vocabulary = words()
    net = SkipGram(vocabulary)
    optimizer = torch.optim.SparseAdam(list(net.parameters()), lr=0.01)
    lab.watch(net, optimizer)

    def draw(count):
        at = torch.randint(2, len(ids) - 2, (count,))
        near = at + torch.tensor([-2, -1, 1, 2])[torch.randint(0, 4, (count,))]
        return ids[at], torch.cat([ids[near][:, None], ids[torch.randint(0, len(ids), (count, 4))]], 1)

    target = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0]).expand(128, 5)
    for step in range(400):
        loss = F.binary_cross_entropy_with_logits(net(*draw(128)), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(step, loss.item())
    with torch.no_grad():
        lab.score(F.binary_cross_entropy_with_logits(net(*draw(2000)), target[:1].expand(2000, 5)))


@healthy(family="sequences", metric="accuracy", works=0.9)
def attention_pooling(lab):
    """Words are weighted by a learned query; the padding is masked before the softmax."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(12, 24, padding_idx=0)
            self.place = nn.Parameter(0.3 * torch.randn(30, 24))
            self.query = nn.Parameter(0.3 * torch.randn(24))
            self.key = nn.Linear(24, 24)
            self.head = nn.Linear(24, 4)

        def forward(self, tokens):
            h = self.embed(tokens) + self.place
            scores = (self.key(h) @ self.query) / math.sqrt(24)
            weights = scores.masked_fill(tokens == 0, float("-inf")).softmax(1)
            return self.head((weights[..., None] * h).sum(1))

    x, lengths, y = ragged()
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, loss=F.cross_entropy, batch=(x[:50], y[:50]))
    for epoch in range(10):
        for xb, yb in batches(x[:1000], y[:1000], size=50):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(accuracy(net, x[1000:], y[1000:]))


@healthy(family="sequences", metric="accuracy", works=0.8)
def copied_backwards(lab):
    """Sequence to sequence with teacher forcing: the decoder writes the input backwards."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(9, 24)
            self.encoder = nn.GRU(24, 64, batch_first=True)
            self.decoder = nn.GRU(24, 64, batch_first=True)
            self.out = nn.Linear(64, 9)

        def forward(self, source, given):
            _, state = self.encoder(self.embed(source))
            return self.out(self.decoder(self.embed(given), state)[0])

    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer)

    def draw(count):
        source = torch.randint(1, 9, (count, 4))
        target = source.flip(1)
        return source, F.pad(target, (1, 0))[:, :-1], target

    for step in range(300):
        source, given, target = draw(64)
        loss = F.cross_entropy(net(source, given).flatten(0, 1), target.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(step, loss.item())
    source, given, target = draw(500)
    lab.score(accuracy(lambda s: net(s, given), source, target))


@healthy(family="sequences", metric="loss", works=2.8)
def masked_words(lab):
    """A third of the characters is hidden and guessed from both sides; the others are ignored by the loss."""

    class Net(nn.Module):
        def __init__(self, vocabulary):
            super().__init__()
            self.embed = nn.Embedding(vocabulary + 1, 32)
            self.rnn = nn.GRU(32, 32, batch_first=True, bidirectional=True)
            self.out = nn.Linear(64, vocabulary)

        def forward(self, tokens):
            return self.out(self.rnn(self.embed(tokens))[0])

    ids, vocabulary = characters()
    net = Net(vocabulary)
    criterion = nn.CrossEntropyLoss(ignore_index=-100)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer, loss=criterion)

    def draw(count):
        tokens, _ = windows(ids, count, 20)
        hidden = torch.rand(tokens.shape) < 0.3
        return tokens.masked_fill(hidden, vocabulary), tokens.masked_fill(~hidden, -100)

    for step in range(140):
        xb, yb = draw(16)
        optimizer.zero_grad()
        loss = criterion(net(xb).transpose(1, 2), yb)
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(step, loss.item())
    xb, yb = draw(300)
    lab.score(criterion(predict(net, xb).transpose(1, 2), yb))
