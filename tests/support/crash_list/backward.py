"""Graphs that are cut, gradients that are not finite."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crash_list.base import classify, program
from nbops.debugging.preflight.report import PreflightReport


@program("loss-not-scalar", "loss", "mean()")
def loss_for_each_sample(sick: bool) -> PreflightReport:
    return classify(
        nn.Linear(20, 10), torch.randn(8, 20), loss=nn.CrossEntropyLoss(reduction="none" if sick else "mean")
    )


@program("in-place-change", "Net", "x = x +")
def in_place_after_sigmoid(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.sigmoid(self.fc(x))
            if sick:
                x += 1  # here
            return x * 3

    return classify(Net(), torch.randn(8, 20))


@program("loss-without-gradient", "Net", "detach")
def output_that_is_detached(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = self.fc(x)
            return x.detach() if sick else x  # here

    return classify(Net(), torch.randn(8, 20))


@program("loss-without-gradient", "Net", "no_grad")
def forward_under_no_grad(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 10)

        def forward(self, x: Tensor) -> Tensor:
            with torch.set_grad_enabled(not sick):
                x = torch.relu(x)  # here
                return self.fc(x)

    return classify(Net(), torch.randn(8, 20))


@program("loss-without-gradient", "loss", "argmax")
def loss_on_argmax(sick: bool) -> PreflightReport:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        if sick:
            return F.mse_loss(output.argmax(1).float(), target.float())  # here
        return F.cross_entropy(output, target)

    return classify(nn.Linear(20, 10), torch.randn(8, 20), loss=loss)


@program("loss-without-gradient", "loss", "item|plain")
def loss_made_anew(sick: bool) -> PreflightReport:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        value = F.cross_entropy(output, target)
        return torch.tensor(value.item()) if sick else value  # here

    return classify(nn.Linear(20, 10), torch.randn(8, 20), loss=loss)


@program("no-gradient", "encoder", "detach", status="warning")
def encoder_that_is_cut_off(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Linear(20, 16)
            self.head = nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = self.encoder(x)
            x = x.detach() if sick else x  # here
            return self.head(torch.relu(x))

    net = Net()
    return classify(net, torch.randn(8, 20), optimizer=torch.optim.SGD(net.parameters(), 0.1))


@program("unused-layer", "hidden", "hidden", status="hint")
def layer_that_is_forgotten(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 16)
            self.hidden = nn.Linear(16, 16)  # here
            self.head = nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.fc(x))
            return self.head(x if sick else torch.relu(self.hidden(x)))

    return classify(Net(), torch.randn(8, 20))


@program("non-finite-start", "norm", "0")
def logarithm_of_zero(sick: bool) -> PreflightReport:
    class Log(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.log(x if sick else x + 1)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = Log()  # here
            self.head = nn.Linear(20, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(x))

    return classify(Net(), torch.rand(8, 20).round())


@program("constant-output", "head", "")
def output_that_ignores_the_input(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start = nn.Parameter(torch.randn(16))
            self.body = nn.Linear(20, 16)
            self.head = nn.Linear(16, 10)  # here

        def forward(self, x: Tensor) -> Tensor:
            hidden = torch.relu(self.body(x))
            hidden = self.start.expand_as(hidden) if sick else hidden + self.start
            return self.head(hidden)

    return classify(Net(), torch.randn(8, 20))


@program("in-place-change", "Net", "no_grad")
def weight_that_is_written_to(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(20, 10))

        def forward(self, x: Tensor) -> Tensor:
            if sick:
                self.weight += 0.1  # here
            return x @ self.weight

    return classify(Net(), torch.randn(8, 20))
