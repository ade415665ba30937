"""Twelve small models of every usual make, with a batch and a loss each; and the peak that the CPU's allocator saw."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.profiler import profile

Case = tuple[nn.Module, tuple[Any, ...], Callable[[Any, Any], Tensor]]
CE = nn.CrossEntropyLoss()


def images(n: int = 8, size: int = 32, classes: int = 10) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 3, size, size), torch.randint(0, classes, (n,))


def per_token(output: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(output.flatten(0, 1), target.flatten())


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for _ in range(2):
            parts += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        self.inner = nn.Sequential(*parts[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.inner(x))


class Bottleneck(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 4
        self.inner = nn.Sequential(
            nn.Conv2d(width, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU(),
            nn.Conv2d(half, half, 3, padding=1, bias=False), nn.BatchNorm2d(half), nn.ReLU(),
            nn.Conv2d(half, width, 1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.inner(x))


class Decoder(nn.Module):
    def __init__(self, vocabulary: int = 1000, width: int = 128, layers: int = 3, length: int = 64) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(torch.zeros(length, width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 4 * width, batch_first=True, dropout=0.0) for _ in range(layers)
        )
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.places
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.head(x)
        return out


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.embed = nn.Embedding(500, 64)
        self.cells = kind(64, 128, 2, batch_first=True)
        self.head = nn.Linear(128, 500)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.cells(self.embed(tokens))[0])
        return out


class UNet(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU())
        self.inner = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(),
                                   nn.Upsample(scale_factor=2))  # fmt: skip
        self.up = nn.Conv2d(3 * width, 10, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down(x)
        out: Tensor = self.up(torch.cat([first, self.inner(first)], 1))
        return out.mean((2, 3))


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(784, 256), nn.GELU(), nn.Linear(256, 32))
        self.decode = nn.Sequential(nn.Linear(32, 256), nn.GELU(), nn.Linear(256, 784), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.decode(self.encode(x))
        return out


def _tokens(n: int = 4, length: int = 64, vocabulary: int = 1000) -> tuple[Tensor, Tensor]:
    return torch.randint(0, vocabulary, (n, length)), torch.randint(0, vocabulary, (n, length))


def perceptron() -> Case:
    net = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))
    return net, (torch.randn(64, 256), torch.randint(0, 10, (64,))), CE


def wide() -> Case:
    blocks = [nn.Sequential(nn.Linear(512, 512), nn.LayerNorm(512), nn.GELU(), nn.Dropout(0.1)) for _ in range(4)]
    return nn.Sequential(*blocks, nn.Linear(512, 10)), (torch.randn(128, 512), torch.randint(0, 10, (128,))), CE


def plain_convolutions() -> Case:
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64 * 8 * 8, 10),
    )  # fmt: skip
    return net, images(16), CE


def residual() -> Case:
    blocks = [Residual(32) for _ in range(3)]
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)
    )
    return net, images(), CE


def bottlenecks() -> Case:
    blocks = [Bottleneck(64) for _ in range(3)]
    net = nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    )
    return net, images(8, 64), CE


def separable() -> Case:
    def block(width: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(width, width, 3, padding=1, groups=width), nn.Conv2d(width, width, 1), nn.SiLU())

    net = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), block(32), block(32), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(32, 10))  # fmt: skip
    return net, images(8, 64), CE


def unet() -> Case:
    return UNet(), images(4, 48), CE


def decoder() -> Case:
    return Decoder(), _tokens(), per_token


def encoder() -> Case:
    net = nn.Sequential(nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, dropout=0.1), 3),
                        nn.Flatten(), nn.Linear(64 * 32, 5))  # fmt: skip
    return net, (torch.randn(8, 32, 64), torch.randint(0, 5, (8,))), CE


def lstm() -> Case:
    return Recurrent(nn.LSTM), _tokens(8, 32, 500), per_token


def gru() -> Case:
    return Recurrent(nn.GRU), _tokens(8, 32, 500), per_token


def autoencoder() -> Case:
    x = torch.rand(64, 784)
    return Autoencoder(), (x, x.clone()), nn.MSELoss()


MODELS: dict[str, Callable[[], Case]] = {
    made.__name__: made
    for made in (perceptron, wide, plain_convolutions, residual, bottlenecks, separable, unet, decoder, encoder, lstm,
                 gru, autoencoder)
}  # fmt: skip
OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.01),
    "momentum": lambda model: torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), lr=1e-3),
}


def real_peak(
    made: Callable[[], Case], optimizer: str, *, autocast: bool, change: Callable[[nn.Module], None] | None
) -> int:
    """Return the most bytes that torch's CPU allocator had given out at once while two steps were built and taken."""
    gc.collect()  # what an earlier case left would be freed in between
    with profile(profile_memory=True, use_kineto=True) as profiled:
        model, (x, y), loss = made()
        if change is not None:
            change(model)
        taking = OPTIMIZERS[optimizer](model)
        for _ in range(2):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                output = model(x)
                value = loss(output, y)
            value.backward()
            taking.step()
            taking.zero_grad()
            del value
    events = [event for event in profiled.kineto_results.events() if event.name() == "[memory]"]
    total = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        peak = max(peak, total)
    return peak
