"""Modules that are called in the wrong way, or return nothing."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nbops as nb
from crash_list.base import classify, labels, program
from nbops.debugging.preflight.report import PreflightReport


@program("wrong-call", "head", "Unpack|x, _")
def tuple_of_an_lstm(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(6, 16, batch_first=True)
            self.head = nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            out = self.rnn(x)
            out = out if sick else out[0][:, -1]
            return self.head(out)  # here

    return classify(Net(), torch.randn(8, 30, 6))


@program("wrong-call", "1", "Unpack|module")
def lstm_in_sequential(sick: bool) -> PreflightReport:
    class Last(nn.Module):
        def forward(self, x: tuple[Tensor, Any]) -> Tensor:
            return x[0][:, -1]

    parts: list[nn.Module] = [nn.LSTM(6, 16, batch_first=True)]
    if not sick:
        parts.append(Last())
    return classify(nn.Sequential(*parts, nn.Linear(16, 10)), torch.randn(8, 30, 6))


@program("wrong-call", "encoder", "return")
def part_without_return(sick: bool) -> PreflightReport:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 32)

        def forward(self, x: Tensor) -> Any:  # here
            x = F.relu(self.fc(x))
            return None if sick else x

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = Encoder()
            self.head = nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.encoder(x))

    return classify(Net(), torch.randn(8, 20))


@program("wrong-call", "Net", "return")
def model_without_return(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 10)

        def forward(self, x: Tensor) -> Any:  # here
            x = self.fc(x)
            return None if sick else x

    return classify(Net(), torch.randn(8, 20))


@program("wrong-call", "Net", "forward")
def misspelt_forward(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 10)

        def foward(self, x: Tensor) -> Tensor:  # here
            return self.fc(x)

    if not sick:
        Net.forward = Net.foward
    return classify(Net(), torch.randn(8, 20))


@program("wrong-call", "layers", "for layer in")
def list_that_is_called(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = [nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 10)]
            self.layers = nn.ModuleList(layers) if sick else nn.Sequential(*layers)

        def forward(self, x: Tensor) -> Tensor:
            return self.layers(x)  # here

    return classify(Net(), torch.randn(8, 20))


@program("wrong-call", "Net", "fc2")
def misspelt_attribute(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = nn.Linear(20, 32)
            self.fc2 = nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.fc1(x))
            return self.fc_2(x) if sick else self.fc2(x)  # here

    return classify(Net(), torch.randn(8, 20))


@program("wrong-call", None, "forward=")
def forward_that_takes_more(sick: bool) -> PreflightReport:
    class Net(nn.Module):  # here
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 10)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return self.fc(x * mask)

    x = torch.randn(8, 20)
    batch = (x, labels()) if sick else (x, torch.ones(8, 20), labels())
    return nb.preflight(Net(), batch, loss=nn.CrossEntropyLoss())


@program("wrong-call", "Net", "shape|axes")
def unpacking_of_a_shape(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 10)

        def forward(self, x: Tensor) -> Tensor:
            if sick:
                n, length, width = x.shape  # here
                x = x.view(n * length, width)
            return self.fc(x)

    return classify(Net(), torch.randn(8, 20))


@program("error-in-forward", "Net", "")
def name_that_is_not_there(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 10)

        def forward(self, x: Tensor) -> Tensor:
            out = self.fc(x)
            return outt if sick else out  # type: ignore[name-defined]  # noqa: F821  # here

    return classify(Net(), torch.randn(8, 20))


@program("error-in-forward", "Net", "")
def key_that_is_not_in_the_batch(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 10)

        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            return self.fc(batch["inputs" if sick else "x"] * batch["w"])  # here

    batch = {"x": torch.randn(8, 20), "w": torch.ones(8, 20), "y": labels()}
    return nb.preflight(Net(), batch, loss=nn.CrossEntropyLoss())


@program("wrong-call", "Net", "def forward(self, x)")
def forward_without_self(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 10)

        if sick:

            def forward(x: Tensor) -> Tensor:  # type: ignore[misc]  # here
                return x
        else:

            def forward(self, x: Tensor) -> Tensor:
                return self.fc(x)

    return classify(Net(), torch.randn(8, 20))


@program("wrong-call", "fc", "as_tensor")
def array_in_place_of_a_tensor(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 10)

        def forward(self, x: Any) -> Tensor:
            return self.fc(x)  # here

    x = torch.randn(8, 20)
    return classify(Net(), x.numpy() if sick else x)
