"""Operations in ``forward()`` whose shapes do not fit."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crash_list.base import classify, images, program
from nbops.debugging.preflight.report import PreflightReport


@program("shape-mismatch", "Net", "flatten(1)")
def view_of_other_size(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 8, 3)
            self.fc = nn.Linear(256 if sick else 8 * 15 * 15, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.conv(x))
            x = x.view(-1, 256 if sick else 8 * 15 * 15)  # here
            return self.fc(x)

    return classify(Net(), images(8, 1, 17))


@program("shape-mismatch", "Net", "flatten(1)")
def view_that_mixes_samples(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 8, 3)
            self.fc = nn.Linear(256 if sick else 8 * 16 * 16, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.conv(x))
            x = x.view(-1, 256 if sick else 8 * 16 * 16)  # here
            return self.fc(x)

    return classify(Net(), images(8, 1, 18))


@program("shape-mismatch", "Net", "x.size(0)")
def batch_size_in_view(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(784, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = x.view(32, 784) if sick else x.view(x.size(0), 784)  # here
            return self.fc(x)

    return classify(Net(), images(8))


@program("shape-mismatch", "Net", "reshape")
def view_of_a_transposed_tensor(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(60, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = x.transpose(1, 2)
            x = x.view(x.size(0), -1) if sick else x.reshape(x.size(0), -1)  # here
            return self.fc(x)

    return classify(Net(), torch.randn(8, 10, 6))


@program("shape-mismatch", "Net", "dim=1")
def cat_along_the_wrong_axis(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(20, 8), nn.Linear(20, 12)
            self.head = nn.Linear(20, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.cat([self.a(x), self.b(x)], dim=0 if sick else 1)  # here
            return self.head(x)

    return classify(Net(), torch.randn(8, 20))


@program("shape-mismatch", "Net", "size|padding")
def cat_of_maps_of_other_size(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 5, padding=1 if sick else 2)
            self.head = nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.cat([self.a(x), self.b(x)], 1)  # here
            return self.head(x.mean((2, 3)))

    return classify(Net(), images(8, 3, 16))


@program("shape-mismatch", "Net", "transpose(-1, -2)")
def product_without_transpose(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = nn.Linear(6, 16), nn.Linear(6, 16), nn.Linear(6, 16)
            self.head = nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            k = self.k(x) if sick else self.k(x).transpose(-1, -2)
            scores = self.q(x) @ k  # here
            return self.head((scores.softmax(-1) @ self.v(x)).mean(1))

    return classify(Net(), torch.randn(8, 30, 6))


@program("shape-mismatch", "Net", "1 × 1")
def shortcut_of_other_channels(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 3, padding=1)
            self.conv = nn.Conv2d(16, 32 if sick else 16, 3, padding=1)
            self.head = nn.Linear(32 if sick else 16, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            x = x + self.conv(x)  # here
            return self.head(x.mean((2, 3)))

    return classify(Net(), images(8, 3, 16))


@program("shape-mismatch", "encoder", "size")
def shortcut_of_other_size_in_a_part(sick: bool) -> PreflightReport:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=0 if sick else 1)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.conv(x)  # here

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = Encoder()
            self.head = nn.Linear(3, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.encoder(x).mean((2, 3)))

    return classify(Net(), images(8, 3, 16))


@program("shape-mismatch", "Net", "")
def axis_that_is_not_there(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = x.mean(2) if sick else x.mean(1)  # here
            return self.fc(x)

    return classify(Net(), torch.randn(8, 20) if sick else torch.randn(8, 5, 20))


@program("shape-mismatch", "Net", "")
def permute_of_other_axes(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = x.permute(0, 2, 1) if sick else x  # here
            return self.fc(x)

    return classify(Net(), torch.randn(8, 20))
