"""Programs whose output depends on what it must not depend on, or not on what it should."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import nbops as nb
from crash_list.base import classify, labels, program, words
from nbops.debugging.preflight.report import PreflightReport

SIZE, WIDTH, LENGTH = 50, 16, 12


class Tokens(nn.Module):
    """Embeds tokens and their positions."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(SIZE, WIDTH)
        self.places = nn.Parameter(torch.zeros(LENGTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return self.words(x) + self.places


def _layer(**more: bool) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(WIDTH, 2, 32, dropout=0.0, **{"batch_first": True, **more})


def _next_words() -> tuple[Tensor, Tensor]:
    rows = words(length=LENGTH + 1)
    return rows[:, :-1], rows[:, 1:]


@program("future-seen", "block", "mask=nn.Transformer")
def transformer_without_a_mask(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.block, self.out = Tokens(), _layer(), nn.Linear(WIDTH, SIZE)

        def forward(self, x: Tensor) -> Tensor:
            mask = None if sick else nn.Transformer.generate_square_subsequent_mask(LENGTH)
            h = self.block(self.embed(x), src_mask=mask)  # here
            return self.out(h).transpose(1, 2)

    x, y = _next_words()
    return classify(Net(), x, y)


@program("future-seen", "Attention", "mask")
def attention_by_hand_without_a_mask(sick: bool) -> PreflightReport:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.qkv, self.out = Tokens(), nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, SIZE)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(self.embed(x)).chunk(3, dim=-1)
            scores = q @ k.transpose(1, 2) / WIDTH**0.5
            if not sick:
                scores = scores.masked_fill(torch.ones(LENGTH, LENGTH).triu(1).bool(), float("-inf"))
            return self.out(scores.softmax(-1) @ v).transpose(1, 2)

    x, y = _next_words()
    return classify(Attention(), x, y)


@program("future-seen", "rnn", "bidirectional")
def language_model_in_both_directions(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(SIZE, WIDTH)
            self.rnn = nn.GRU(WIDTH, 8, batch_first=True, bidirectional=sick)
            self.out = nn.LazyLinear(SIZE)

        def forward(self, x: Tensor) -> Tensor:
            h, _ = self.rnn(self.embed(x))  # here
            return self.out(h).transpose(1, 2)

    x, y = _next_words()
    return classify(Net(), x, y)


@program("target-is-input", "target", "one position", status="warning")
def target_that_is_not_shifted(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(SIZE, WIDTH)
            self.rnn = nn.GRU(WIDTH, WIDTH, batch_first=True)
            self.out = nn.Linear(WIDTH, SIZE)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.rnn(self.embed(x))[0]).transpose(1, 2)

    x, later = _next_words()
    y = x.clone() if sick else later  # here
    return nb.preflight(Net(), (x, y), loss=nn.CrossEntropyLoss())


@program("samples-mixed", "rnn", "batch_first=True", status="warning")
def batch_read_as_time(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(5, WIDTH)  # here
            if not sick:
                self.rnn.batch_first = True
            self.head = nn.Linear(WIDTH, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0][:, -1])

    return classify(Net(), torch.randn(8, 7, 5))


@program("samples-mixed", "Rows", "transpose(0, 1)", status="warning")
def view_in_place_of_transpose(sick: bool) -> PreflightReport:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(6, WIDTH)
            self.head = nn.Linear(WIDTH, 10)

        def forward(self, x: Tensor) -> Tensor:
            rows = x.view(len(x), 7, 6).transpose(0, 1)
            if sick:
                rows = x.view(7, len(x), 6)  # here
            return self.head(self.rnn(rows)[0][-1])

    return classify(Rows(), torch.randn(8, 42))


@program("order-unseen", "embed", "positions", status="warning")
def transformer_without_positions(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(SIZE, WIDTH)
            self.places = nn.Parameter(torch.zeros(LENGTH, WIDTH))
            self.block, self.head = _layer(), nn.Linear(WIDTH, 10)

        def forward(self, x: Tensor) -> Tensor:
            h = self.embed(x)  # here
            return self.head(self.block(h if sick else h + self.places).mean(1))

    return classify(Net(), words(length=LENGTH), labels())
