"""Hand-written backward passes, and what the notebook's variables tell beside the batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from crash_list.base import classify, labels, program
from nbops.debugging.preflight.report import PreflightReport


class Folded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.abs()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class Squared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x.square() * weight

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return grads[0] * 2 * x * weight, (grads[0] * x.square()).sum(0)


class Halved(torch.autograd.Function):
    """Without a gradient for its weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return x * weight

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.saved_tensors[0], None


class Rounded(torch.autograd.Function):
    """A straight-through estimator: its gradient is wrong on purpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class Reversed(torch.autograd.Function):
    """The reversal of gradients of domain adaptation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return -0.5 * grads[0]


class Around(nn.Module):
    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.fc, self.head = way, nn.Linear(20, 16), nn.Linear(16, 10)
        self.weight = nn.Parameter(torch.ones(16))

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc(x)
        if self.way == "folded":
            h = Folded.apply(h)  # type: ignore[no-untyped-call]
        elif self.way == "halved":
            h = Halved.apply(h, self.weight)  # type: ignore[no-untyped-call]
        else:
            h = Reversed.apply(Rounded.apply(4 * Squared.apply(h, self.weight)))  # type: ignore[no-untyped-call]
        return self.head(h)


@program("wrong-backward", "Around", "gradcheck|backward")
def backward_pass_that_forgets_a_sign(sick: bool) -> PreflightReport:
    return classify(Around("folded" if sick else "others"), torch.randn(8, 20))


@program("wrong-backward", "Around", "each argument")
def backward_pass_that_forgets_a_weight(sick: bool) -> PreflightReport:
    return classify(Around("halved" if sick else "others"), torch.randn(8, 20))


@program("last-batch", "1", "drop_last")
def last_batch_of_a_loader_that_is_not_passed(sick: bool) -> PreflightReport:
    rows = 33 if sick else 40
    loader = DataLoader(TensorDataset(torch.randn(rows, 20), labels(rows)), batch_size=8, shuffle=True)
    model = nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.Linear(16, 10))  # here
    x, y = next(iter(loader))
    return classify(model, x, y)


@program("constant-output", "head", "Negate")
def mask_that_hides_the_words(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.query = nn.Embedding(20, 16), nn.Parameter(torch.randn(1, 1, 16))
            self.attend = nn.MultiheadAttention(16, 2, batch_first=True)
            self.head = nn.Linear(16, 10)  # here

        def forward(self, tokens: Tensor) -> Tensor:
            h, hidden = self.embed(tokens), tokens != 0 if sick else tokens == 0
            h, _ = self.attend(self.query.expand(len(h), -1, -1), h, h, key_padding_mask=hidden)
            return self.head(h[:, 0])

    tokens = torch.randint(1, 20, (16, 12))
    tokens[:, 8:] = 0
    return classify(Net(), tokens, labels(16))
