"""Mixed types and devices, indices out of range."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crash_list.base import classify, labels, program, words
from nbops.debugging.preflight.report import PreflightReport


@program("dtype-mismatch", "0", ".float()")
def float64_input(sick: bool) -> PreflightReport:
    model = nn.Sequential(
        nn.Linear(20, 10),  # here
    )
    x = torch.randn(8, 20)
    return classify(model, x.double() if sick else x)


@program("dtype-mismatch", "conv", "255")
def bytes_of_images(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 8, 3)  # here
            self.head = nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).mean((2, 3)))

    x = torch.randint(0, 256, (8, 1, 16, 16), dtype=torch.uint8)
    return classify(Net(), x if sick else x.float() / 255)


@program("dtype-mismatch", "0", ".float()")
def whole_numbers_into_linear(sick: bool) -> PreflightReport:
    model = nn.Sequential(
        nn.Linear(20, 10),  # here
    )
    x = torch.randint(0, 5, (8, 20))
    return classify(model, x if sick else x.float())


@program("dtype-mismatch", "embed", ".long()")
def floats_into_embedding(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(50, 8)  # here
            self.head = nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.embed(x).mean(1))

    return classify(Net(), words().float() if sick else words())


@program("dtype-mismatch", "Net", "float")
def float64_made_in_forward(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 10)

        def forward(self, x: Tensor) -> Tensor:
            basis = torch.ones(10, 10, dtype=torch.float64 if sick else torch.float32)
            return self.fc(x) @ basis  # here

    return classify(Net(), torch.randn(8, 20))


@program("index-out-of-range", "embed", "100")
def index_beyond_the_table(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(10 if sick else 100, 8)  # here
            self.head = nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.embed(x).mean(1))

    x = words()
    x[2, 3] = 99
    return classify(Net(), x)


@program("index-out-of-range", "embed", "count from 1")
def indices_from_one(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(50, 8)  # here
            self.head = nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.embed(x).mean(1))

    x = words()
    x[0, 0] = 49
    return classify(Net(), x + 1 if sick else x)


@program("index-out-of-range", "positions", "13")
def sequence_longer_than_its_positions(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(50, 8)
            self.positions = nn.Embedding(8 if sick else 16, 8)  # here
            self.head = nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = self.embed(x) + self.positions(torch.arange(x.size(1)))
            return self.head(x.mean(1))

    return classify(Net(), words(8, 13))


@program("index-out-of-range", "loss", "10")
def label_beyond_the_classes(sick: bool) -> PreflightReport:
    model = nn.Linear(20, 9 if sick else 10)
    return classify(model, torch.randn(16, 20), labels(16))


@program("index-out-of-range", "loss", "target - 1")
def labels_from_one(sick: bool) -> PreflightReport:
    y = labels(20)
    return classify(nn.Linear(20, 10), torch.randn(20, 20), y + 1 if sick else y)


@program("index-out-of-range", "loss", "ignore_index=-1")
def negative_labels(sick: bool) -> PreflightReport:
    y = labels(20)
    if sick:
        y[3] = -1
    return classify(nn.Linear(20, 10), torch.randn(20, 20), y)


@program("device-mismatch", "Net", "device")
def tensor_on_another_device(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 10)

        def forward(self, x: Tensor) -> Tensor:
            scale = torch.ones(10, device="meta" if sick else x.device)
            return self.fc(x) * scale  # here

    return classify(Net(), torch.randn(8, 20))
