"""Healthy programs of many kinds: no error, no warning."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

import nbops as nb
from nbops.debugging.preflight.report import PreflightReport

Program = Callable[[], PreflightReport]
PROGRAMS: list[Program] = []


def program(make: Program) -> Program:
    PROGRAMS.append(make)
    return make


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), 1e-3)


def labels(count: int = 16, among: int = 10) -> Tensor:
    return torch.arange(count) % among


def mlp(out: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(), nn.Linear(32, out))


# ---- images ----------------------------------------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self, width: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(width, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.norm2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.shortcut = nn.Identity() if stride == 1 and width == out else nn.Conv2d(width, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norm1(self.conv1(x)), inplace=True)
        out = self.norm2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out, inplace=True)


@program
def residual_network() -> PreflightReport:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 1, 1), Residual(8, 8), Residual(8, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 10),
    )  # fmt: skip
    nn.init.zeros_(net[1].norm2.weight)  # a block that starts as the identity
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    return nb.preflight(net, (torch.randn(16, 3, 16, 16), labels()), loss=loss, optimizer=optimizer)


@program
def vision_transformer() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(3, 32, 4, 4)
            self.start, self.places = nn.Parameter(torch.zeros(1, 1, 32)), nn.Parameter(torch.zeros(1, 17, 32))
            layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True, activation="gelu")
            self.body, self.norm = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), nn.LayerNorm(32)
            self.head = nn.Linear(32, 10)
            nn.init.zeros_(self.head.weight)

        def forward(self, x: Tensor) -> Tensor:
            x = self.patch(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.start.expand(x.size(0), -1, -1), x], 1) + self.places
            return self.head(self.norm(self.body(x)[:, 0]))

    net = Net()
    return nb.preflight(
        net, (torch.randn(8, 3, 16, 16), labels(8)), loss=nn.CrossEntropyLoss(), optimizer=adam(net)
    )  # fmt: skip


@program
def segmentation() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.mid = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
            self.up, self.head = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(16, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            fine = F.relu(self.down(x))
            coarse = F.relu(self.mid(F.max_pool2d(fine, 2)))
            return self.head(torch.cat([fine, self.up(coarse)], 1))

    net, target = Net(), torch.randint(0, 4, (4, 16, 16))
    target[0, :4] = 255
    loss = nn.CrossEntropyLoss(ignore_index=255)
    return nb.preflight(net, (torch.rand(4, 3, 16, 16), target), loss=loss, optimizer=adam(net))


@program
def dice_of_masks() -> PreflightReport:
    def dice(output: Tensor, target: Tensor) -> Tensor:
        p = torch.sigmoid(output)
        both = (p * target).sum((1, 2, 3))
        share = (2 * both + 1) / (p.sum((1, 2, 3)) + target.sum((1, 2, 3)) + 1)
        return (1 - share).mean() + F.binary_cross_entropy_with_logits(output, target)

    net = nn.Conv2d(1, 1, 3, padding=1)
    return nb.preflight(net, (torch.rand(4, 1, 8, 8), (torch.rand(4, 1, 8, 8) > 0.5).float()), loss=dice)


@program
def lazy_layers() -> PreflightReport:
    net = nn.Sequential(nn.LazyConv2d(8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))
    return nb.preflight(net, (torch.randn(8, 1, 12, 12), labels(8)), loss=nn.CrossEntropyLoss())


@program
def frozen_body_in_evaluation_mode() -> PreflightReport:
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).requires_grad_(False).eval()
    net = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    batch = torch.randn(16, 3, 12, 12), labels()
    return nb.preflight(net, batch, loss=nn.CrossEntropyLoss(), optimizer=adam(net[3]))


# ---- sequences -------------------------------------------------------------------------------------------------------


class Packed(nn.Module):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 16, padding_idx=0)
        self.rnn = kind(16, 32, 2, batch_first=True, bidirectional=True, dropout=0.2)
        self.head = nn.Linear(64, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embed(x), lengths.cpu(), batch_first=True, enforce_sorted=False
        )  # fmt: skip
        state = self.rnn(packed)[1]
        state = state[0] if isinstance(state, tuple) else state
        return self.head(torch.cat([state[-2], state[-1]], 1))


@program
def packed_lstm() -> PreflightReport:
    x, lengths = torch.randint(1, 100, (16, 20)), torch.randint(3, 21, (16,))
    x[torch.arange(20)[None] >= lengths[:, None]] = 0
    net = Packed(nn.LSTM)
    return nb.preflight(net, (x, lengths, labels(16, 2)), loss=nn.CrossEntropyLoss(), optimizer=adam(net))


@program
def packed_gru_with_nested_inputs() -> PreflightReport:
    inputs = torch.randint(1, 100, (16, 20)), torch.randint(3, 21, (16,))
    return nb.preflight(Packed(nn.GRU), (inputs, labels(16, 2)), loss=nn.CrossEntropyLoss())


@program
def state_that_is_detached() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.GRU(6, 16, batch_first=True), nn.Linear(16, 3)
            self.state: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            if self.state is None or self.state.size(1) != x.size(0):
                self.state = torch.zeros(1, x.size(0), 16)
            out, state = self.rnn(x, self.state)
            self.state = state.detach()
            return self.head(out[:, -1])

    return nb.preflight(Net(), (torch.randn(8, 30, 6), labels(8, 3)), loss=nn.CrossEntropyLoss())


@program
def encoder_with_a_padding_mask() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(100, 32, padding_idx=0), nn.Linear(32, 4)
            self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 1)

        def forward(self, x: Tensor) -> Tensor:
            mask = x == 0
            h = self.embed(x) + torch.linspace(0, 1, x.shape[1])[:, None]
            out = self.body(h, src_key_padding_mask=mask).masked_fill(mask.unsqueeze(-1), 0)
            return self.head(out.sum(1) / (~mask).sum(1, keepdim=True))

    x, net = torch.randint(1, 100, (8, 20)), Net()
    x[:4, 10:] = 0
    return nb.preflight(net, (x, labels(8, 4)), loss=nn.CrossEntropyLoss(), optimizer=adam(net))


@program
def attention_over_the_words_from_one_query() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.query = nn.Embedding(30, 16), nn.Parameter(torch.randn(1, 1, 16))
            self.attend, self.head = nn.MultiheadAttention(16, 2, batch_first=True), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.embed(x)
            return self.head(self.attend(self.query.expand(len(x), -1, -1), h, h)[0][:, 0])

    return nb.preflight(Net(), (torch.randint(0, 30, (8, 12)), labels(8, 4)), loss=nn.CrossEntropyLoss())


@program
def words_with_time_first() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.rnn, self.out = nn.Embedding(30, 16), nn.GRU(16, 16), nn.Linear(16, 30)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.rnn(self.embed(x))[0]).flatten(0, 1)

    rows = torch.randint(0, 30, (12, 8))
    loss = nn.CrossEntropyLoss()
    return nb.preflight(Net(), (rows[:-1], rows[1:]), loss=lambda out, y: loss(out, y.flatten()))


@program
def layer_with_the_spread_of_its_batch() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 8, 3), nn.Linear(8 * 36, 1)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(self.conv(x))
            return self.head((h * h.std(0).mean()).flatten(1))

    return nb.preflight(Net(), (torch.randn(8, 1, 8, 8), torch.rand(8, 1)), loss=nn.BCEWithLogitsLoss())


@program
def loss_that_shifts_the_tokens_itself() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.rnn = nn.Embedding(30, 16), nn.GRU(16, 16, batch_first=True)
            self.out = nn.Linear(16, 30)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.rnn(self.embed(x))[0])

    def loss(scores: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(scores[:, :-1].transpose(1, 2), y[:, 1:])

    x = torch.randint(0, 30, (8, 12))
    return nb.preflight(Net(), (x, x.clone()), loss=loss)


@program
def language_model_with_its_own_loss() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(64, 32), nn.Embedding(32, 32)
            self.qkv, self.norm, self.head = nn.Linear(32, 96), nn.LayerNorm(32), nn.Linear(32, 64, bias=False)
            self.head.weight = self.words.weight
            self.register_buffer("mask", torch.tril(torch.ones(32, 32)))

        def forward(self, ids: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
            n, length = ids.shape
            x = self.words(ids) + self.places(torch.arange(length, device=ids.device))
            q, k, v = (part.view(n, length, 4, 8).transpose(1, 2) for part in self.qkv(x).split(32, dim=2))
            scores = (q @ k.transpose(-2, -1) / 8**0.5).masked_fill(self.mask[:length, :length] == 0, float("-inf"))
            x = x + (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, -1)
            logits = self.head(self.norm(x))
            loss = None if targets is None else F.cross_entropy(logits.flatten(0, 1), targets.flatten())
            return logits, loss

    net, ids = Net(), torch.randint(0, 64, (8, 17))
    return nb.preflight(net, (ids[:, :-1], ids[:, 1:]), optimizer=adam(net))


@program
def translation() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.source, self.target = nn.Embedding(50, 16), nn.Embedding(60, 16)
            self.body, self.head = nn.Transformer(16, 2, 1, 1, 32, batch_first=True), nn.Linear(16, 60)

        def forward(self, source: Tensor, target: Tensor) -> Tensor:
            mask = self.body.generate_square_subsequent_mask(target.size(1))
            return self.head(self.body(self.source(source), self.target(target), tgt_mask=mask))

    def forward(net: Any, batch: Any) -> Tensor:
        out = net(batch["source"], batch["target"][:, :-1])
        return F.cross_entropy(out.flatten(0, 1), batch["target"][:, 1:].flatten(), ignore_index=0)

    batch = {"source": torch.randint(1, 50, (8, 10)), "target": torch.randint(1, 60, (8, 12))}
    return nb.preflight(Net(), batch, forward=forward)


@program
def connectionist_classification() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.GRU(13, 16, batch_first=True), nn.Linear(16, 20)

        def forward(self, x: Tensor) -> Tensor:
            return F.log_softmax(self.head(self.rnn(x)[0]), -1).transpose(0, 1)

    loss = nn.CTCLoss(zero_infinity=True)
    batch = torch.randn(4, 50, 13), torch.randint(1, 20, (4, 8)), torch.full((4,), 50), torch.full((4,), 8)
    return nb.preflight(Net(), batch, forward=lambda net, b: loss(net(b[0]), b[1], b[2], b[3]))


@program
def forecasting() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.LSTM(1, 16, batch_first=True), nn.Linear(16, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0][:, -1])

    windows = torch.linspace(0, 20, 116).sin().unfold(0, 16, 1)
    return nb.preflight(Net(), (windows[:, :-1].unsqueeze(-1), windows[:, -1:]), loss=nn.MSELoss())


# ---- what is learned -------------------------------------------------------------------------------------------------


@program
def autoencoder() -> PreflightReport:
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 64), nn.Sigmoid(), nn.Unflatten(1, (8, 8))
    )
    loader = DataLoader(TensorDataset(torch.rand(50, 8, 8)), batch_size=16, shuffle=True)
    return nb.preflight(net, loader, loss=nn.BCELoss(), optimizer=adam(net))


@program
def variational_autoencoder() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.mean, self.spread = nn.Linear(64, 32), nn.Linear(32, 8), nn.Linear(32, 8)
            self.decoder = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 64), nn.Sigmoid())

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            hidden = F.relu(self.body(x.flatten(1)))
            mean, spread = self.mean(hidden), self.spread(hidden)
            return self.decoder(mean + torch.randn_like(mean) * (spread / 2).exp()), mean, spread

    def loss(made: Tensor, x: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
        apart = -0.5 * torch.sum(1 + spread - mean.pow(2) - spread.exp())
        return F.binary_cross_entropy(made, x.flatten(1), reduction="sum") + apart

    return nb.preflight(Net(), torch.rand(16, 8, 8), loss=loss)


@program
def generator() -> PreflightReport:
    maker = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 64), nn.Tanh())
    judge = nn.Sequential(nn.Linear(64, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
    return nb.preflight(
        maker, torch.randn(16, 16), optimizer=torch.optim.Adam(maker.parameters(), 2e-4, betas=(0.5, 0.999)),
        loss=lambda fake, _: F.binary_cross_entropy_with_logits(judge(fake), torch.ones(len(fake), 1)),
    )  # fmt: skip


@program
def discriminator() -> PreflightReport:
    judge = nn.Sequential(nn.Linear(64, 32), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Linear(32, 1), nn.Sigmoid())
    return nb.preflight(judge, (torch.randn(16, 64), torch.ones(16, 1)), loss=nn.BCELoss(), optimizer=adam(judge))


@program
def triplets() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 8))

        def forward(self, anchor: Tensor, near: Tensor, far: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return self.body(anchor), self.body(near), self.body(far)

    loss = nn.TripletMarginLoss()
    return nb.preflight(Net(), [torch.randn(16, 20) for _ in range(3)], forward=lambda net, b: loss(*net(*b)))


@program
def contrast_with_a_slow_copy() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.guess = nn.Linear(20, 8), nn.Linear(8, 8)
            self.slow = copy.deepcopy(self.body)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            with torch.no_grad():
                aim = self.slow(b)
            return 2 - 2 * F.cosine_similarity(self.guess(self.body(a)), aim, dim=-1).mean()

    net = Net()
    optimizer = torch.optim.Adam([*net.body.parameters(), *net.guess.parameters()])
    return nb.preflight(net, (torch.randn(16, 20), torch.randn(16, 20)), optimizer=optimizer)


@program
def q_learning() -> PreflightReport:
    net, slow = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2)), nn.Linear(4, 2)

    def forward(net: Any, batch: Any) -> Tensor:
        state, action, reward, following = batch
        with torch.no_grad():
            aim = reward + 0.99 * slow(following).max(1).values
        return F.smooth_l1_loss(net(state).gather(1, action.unsqueeze(1)).squeeze(1), aim)

    batch = torch.randn(16, 4), torch.randint(0, 2, (16,)), torch.randn(16), torch.randn(16, 4)
    return nb.preflight(net, batch, forward=forward, optimizer=adam(net))


@program
def denoising() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.time, self.body, self.head = nn.Embedding(100, 8), nn.Conv2d(1, 8, 3, 1, 1), nn.Conv2d(8, 1, 3, 1, 1)
            nn.init.zeros_(self.head.weight)

        def forward(self, x: Tensor, time: Tensor) -> Tensor:
            return self.head(F.silu(self.body(x) + self.time(time)[:, :, None, None]))

    kept = torch.linspace(0.99, 0.01, 100)

    def forward(net: Any, x: Tensor) -> Tensor:
        time, noise = torch.randint(0, 100, (len(x),)), torch.randn_like(x)
        a = kept[time].view(-1, 1, 1, 1)
        return F.mse_loss(net(a.sqrt() * x + (1 - a).sqrt() * noise, time), noise)

    return nb.preflight(Net(), torch.randn(8, 1, 8, 8), forward=forward)


@program
def several_labels() -> PreflightReport:
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.full((5,), 3.0))
    return nb.preflight(mlp(5), (torch.randn(16, 20), (torch.rand(16, 5) > 0.7).float()), loss=loss)


@program
def weighted_classes() -> PreflightReport:
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
    return nb.preflight(mlp(), (torch.randn(16, 20), labels(16, 3)), loss=loss)


@program
def soft_labels() -> PreflightReport:
    batch = torch.randn(16, 20), torch.randn(16, 3).softmax(1)
    return nb.preflight(mlp(), batch, loss=nn.CrossEntropyLoss())


@program
def logarithms_of_probabilities() -> PreflightReport:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.LogSoftmax(1))
    return nb.preflight(net, (torch.rand(16, 1, 8, 8), labels()), loss=F.nll_loss)


@program
def regression_with_its_spread() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.mean, self.spread = nn.Linear(3, 16), nn.Linear(16, 1), nn.Linear(16, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            hidden = torch.tanh(self.body(x))
            return self.mean(hidden), F.softplus(self.spread(hidden)) + 1e-6

    loss = nn.GaussianNLLLoss()
    batch = torch.randn(16, 3), torch.randn(16, 1) * 500
    return nb.preflight(Net(), batch, loss=lambda out, y: loss(out[0], y, out[1]))


# ---- how it is put together ------------------------------------------------------------------------------------------


@program
def bag_of_words() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bag, self.head = nn.EmbeddingBag(100, 16, sparse=True), nn.Linear(16, 4)

        def forward(self, words: Tensor, offsets: Tensor) -> Tensor:
            return self.head(self.bag(words, offsets))

    net = Net()
    batch = torch.randint(0, 100, (60,)), torch.arange(0, 60, 6), labels(10, 4)
    return nb.preflight(net, batch, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD(net.parameters(), 1.0))


@program
def mapping_of_inputs() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.body, self.head = nn.Embedding(50, 8), nn.Linear(5, 8), nn.Linear(16, 1)

        def forward(self, kinds: Tensor, sizes: Tensor) -> Tensor:
            return self.head(torch.cat([self.embed(kinds).mean(1), self.body(sizes)], 1)).squeeze(1)

    batch = {"kinds": torch.randint(0, 50, (16, 3)), "sizes": torch.randn(16, 5), "target": torch.randn(16)}
    return nb.preflight(Net(), batch, loss=nn.MSELoss())


@program
def output_object_with_a_loss() -> PreflightReport:
    class Output(dict[str, Any]):
        __getattr__ = dict.get

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(50, 8), nn.Linear(8, 3)

        def forward(self, input_ids: Tensor, attention_mask: Any = None, labels: Any = None) -> Output:
            logits = self.head((self.embed(input_ids) * attention_mask.unsqueeze(-1)).mean(1))
            return Output(loss=None if labels is None else F.cross_entropy(logits, labels), logits=logits)

    ids = torch.randint(0, 50, (8, 6))
    return nb.preflight(Net(), {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels(8, 3)})


@program
def graph_network() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(12, 16), nn.Linear(16, 3)

        def spread(self, x: Tensor, edges: Tensor) -> Tensor:
            source, target = edges
            return torch.zeros_like(x).index_add_(0, target, x[source])

        def forward(self, x: Tensor, edges: Tensor) -> Tensor:
            return self.head(self.spread(F.relu(self.body(x)), edges))

    batch = torch.randn(30, 12), torch.randint(0, 30, (2, 90)), labels(30, 3)
    return nb.preflight(Net(), batch, loss=nn.CrossEntropyLoss())


@program
def graph_in_an_object() -> PreflightReport:
    class Graph:
        def __init__(self) -> None:
            self.x, self.edges, self.y = torch.randn(30, 12), torch.randint(0, 30, (2, 90)), labels(30, 3)
            self.train_mask = torch.arange(30) < 20

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(12, 3)

        def forward(self, graph: Any) -> Tensor:
            near = torch.zeros(30, 30)
            near[graph.edges[0], graph.edges[1]] = 1
            return self.head(near @ graph.x)

    def loss(out: Tensor, graph: Any) -> Tensor:
        return F.cross_entropy(out[graph.train_mask], graph.y[graph.train_mask])

    return nb.preflight(Net(), Graph(), loss=loss)


@program
def experts_chosen_by_value() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.head = nn.Linear(20, 3), nn.Linear(8, 3)
            self.experts = nn.ModuleList(nn.Linear(20, 8) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            weight = self.gate(x).softmax(-1)
            chosen, out = weight.argmax(1), torch.zeros(len(x), 8)
            for i, expert in enumerate(self.experts):
                rows = (chosen == i).nonzero().squeeze(1)
                if len(rows):
                    out[rows] = expert(x[rows]) * weight[rows, i : i + 1]
            return self.head(out)

    return nb.preflight(Net(), (torch.randn(32, 20), labels(32, 3)), loss=nn.CrossEntropyLoss())


@program
def low_rank_adapters() -> PreflightReport:
    class Adapter(nn.Module):
        def __init__(self, layer: nn.Linear) -> None:
            super().__init__()
            self.layer = layer.requires_grad_(False)
            self.a = nn.Parameter(torch.randn(4, layer.in_features) * 0.01)
            self.b = nn.Parameter(torch.zeros(layer.out_features, 4))

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) + x @ self.a.T @ self.b.T

    net = nn.Sequential(Adapter(nn.Linear(20, 32)), nn.ReLU(), nn.Linear(32, 3).requires_grad_(False))
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], 1e-3)
    return nb.preflight(net, (torch.randn(16, 20), labels(16, 3)), loss=nn.CrossEntropyLoss(), optimizer=optimizer)


@program
def loss_with_weights_of_its_own() -> PreflightReport:
    class Margin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.centres = nn.Parameter(torch.randn(5, 8))

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return F.cross_entropy(30 * F.linear(F.normalize(x), F.normalize(self.centres)), y)

    net, loss = nn.Linear(20, 8), Margin()
    optimizer = torch.optim.SGD([*net.parameters(), *loss.parameters()], 0.1)
    return nb.preflight(net, (torch.randn(16, 20), labels(16, 5)), loss=loss, optimizer=optimizer)


@program
def checkpoints_and_parametrizations() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(20, 32)), nn.ReLU())
            self.head = nn.utils.parametrizations.spectral_norm(nn.Linear(32, 3))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(checkpoint(self.body, x, use_reentrant=False))

    return nb.preflight(Net(), (torch.randn(16, 20), labels(16, 3)), loss=nn.CrossEntropyLoss())


# ---- precision, compilation, loaders ---------------------------------------------------------------------------------


@program
def autocast() -> PreflightReport:
    loss = nn.CrossEntropyLoss()

    def forward(net: Any, batch: Any) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return loss(net(batch[0]), batch[1])

    return nb.preflight(mlp(), (torch.randn(16, 20), labels(16, 3)), forward=forward)


@program
def bfloat16() -> PreflightReport:
    net = nn.Sequential(nn.Linear(20, 32), nn.LayerNorm(32), nn.Linear(32, 3)).bfloat16()
    return nb.preflight(net, (torch.randn(16, 20).bfloat16(), labels(16, 3)), loss=nn.CrossEntropyLoss())


@program
def float64_with_a_closure() -> PreflightReport:
    net = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 1)).double()
    batch = torch.randn(16, 20).double(), torch.randn(16, 1).double()
    return nb.preflight(net, batch, loss=nn.MSELoss(), optimizer=torch.optim.LBFGS(net.parameters()))


@program
def compiled() -> PreflightReport:
    net = torch.compile(mlp(), backend="eager")
    return nb.preflight(net, (torch.randn(16, 20), labels(16, 3)), loss=nn.CrossEntropyLoss(), optimizer=adam(net))


@program
def loader_with_workers() -> PreflightReport:
    loader = DataLoader(TensorDataset(torch.randn(100, 20), labels(100, 3)), batch_size=32, shuffle=True, num_workers=2)
    return nb.preflight(mlp(), loader, loss=nn.CrossEntropyLoss(), optimizer=lambda p: torch.optim.Adam(p, 1e-3))


@program
def overfitting() -> PreflightReport:
    net = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 3))
    batch = torch.randn(16, 20), labels(16, 3)
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    return nb.preflight(net, batch, loss=nn.CrossEntropyLoss(), optimizer=optimizer, overfit=True)


@program
def images_in_a_list() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 4)

        def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> Any:
            out = self.head(self.body(torch.stack(images)).mean((2, 3)))
            if not self.training:
                return out
            return {"box": sum(F.l1_loss(out[i], t["boxes"].mean(0)) for i, t in enumerate(targets))}

    batch = [torch.rand(3, 16, 16) for _ in range(4)], [{"boxes": torch.rand(3, 4)} for _ in range(4)]
    return nb.preflight(Net(), batch, forward=lambda net, b: sum(net(*b).values()))


@program
def derivative_in_the_loss() -> PreflightReport:
    def forward(net: Any, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_(True)
        u = net(x)
        slope = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
        return (slope + u).pow(2).mean()

    return nb.preflight(
        nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1)), torch.rand(32, 1), forward=forward
    )


@program
def complex_weights() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.head = nn.Parameter(torch.randn(17, dtype=torch.cfloat)), nn.Linear(32, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.fft.irfft(torch.fft.rfft(x) * self.weight, n=32))

    return nb.preflight(Net(), (torch.randn(8, 32), labels(8, 3)), loss=nn.CrossEntropyLoss())


@program
def nearest_of_a_code_book() -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.codes, self.decoder = nn.Linear(20, 8), nn.Embedding(32, 8), nn.Linear(8, 20)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            z = self.encoder(x)
            code = self.codes(torch.cdist(z, self.codes.weight).argmin(1))
            apart = F.mse_loss(code, z.detach()) + 0.25 * F.mse_loss(code.detach(), z)
            return self.decoder(z + (code - z).detach()), apart

    net = Net()
    return nb.preflight(
        net, torch.randn(32, 20), loss=lambda out, x: F.mse_loss(out[0], x) + out[1], optimizer=adam(net)
    )  # fmt: skip


@program
def term_of_the_loss_in_the_output() -> PreflightReport:
    """The loop adds a reconstruction to it, which nobody told: the decoder is not said to get no gradient."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = nn.Linear(20, 8), nn.Linear(8, 20)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            code = self.encoder(x)
            return self.decoder(code), code.square().mean()

    net = Net()
    return nb.preflight(net, (torch.randn(32, 20),), optimizer=adam(net))


@program
def batch_of_pairs() -> PreflightReport:
    """Two views of each sample, one half behind the other: a last batch is even too."""
    net = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 8))

    def contrast(z: Tensor, _: Tensor) -> Tensor:
        z = F.normalize(z, dim=1)
        near = (z @ z.T / 0.5).fill_diagonal_(-1e9)
        return F.cross_entropy(near, torch.arange(len(z)).roll(len(z) // 2))

    views = torch.randn(32, 20)
    return nb.preflight(net, (torch.cat([views, views + 0.1]), torch.arange(64)), loss=contrast, optimizer=adam(net))


@program
def tags_of_padded_words() -> PreflightReport:
    """The target is padded with -100, the words with 0."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(12, 16, padding_idx=0)
            self.head = nn.Linear(16, 3)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            return self.head(self.embed(x)) * (torch.arange(x.shape[1]) < lengths[:, None])[..., None]

    words, tags, lengths = torch.randint(1, 12, (30, 14)), torch.randint(0, 3, (30, 14)), torch.randint(3, 15, (30,))
    behind = torch.arange(14) >= lengths[:, None]
    net = Net()
    return nb.preflight(
        net, ((words.masked_fill(behind, 0), lengths), tags.masked_fill(behind, -100)), optimizer=adam(net),
        loss=lambda out, y: F.cross_entropy(out.flatten(0, 1), y.flatten(), ignore_index=-100),
    )  # fmt: skip


@pytest.mark.parametrize("make", PROGRAMS, ids=lambda make: make.__name__)
def test_healthy_program_is_left_alone(make: Program) -> None:
    torch.manual_seed(0)
    report = make()
    assert [d for d in report.findings if d.status != "hint"] == [], report
    assert report.is_ok
    assert [stage for stage in report.stages if stage.verdict == "error"] == []
