"""Models and optimizers that are put together wrongly."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crash_list.base import classify, program, words
from nbops.debugging.preflight.report import PreflightReport


@program("unregistered-module", "layers", "ModuleList")
def layers_in_a_list(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = [nn.Linear(20, 20) for _ in range(3)]
            self.layers = layers if sick else nn.ModuleList(layers)  # here
            self.head = nn.Linear(20, 10)

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = torch.relu(layer(x))
            return self.head(x)

    return classify(Net(), torch.randn(8, 20))


@program("unregistered-module", "heads", "ModuleDict")
def layers_in_a_dict(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(20, 20)
            heads = {"a": nn.Linear(20, 10)}
            self.heads = heads if sick else nn.ModuleDict(heads)  # here

        def forward(self, x: Tensor) -> Tensor:
            return self.heads["a"](torch.relu(self.body(x)))

    return classify(Net(), torch.randn(8, 20))


@program("unregistered-parameter", "scale", "nn.Parameter")
def plain_tensor_that_is_trained(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 10)
            scale = torch.ones(10, requires_grad=True)
            self.scale = scale if sick else nn.Parameter(scale)  # here

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) * self.scale

    return classify(Net(), torch.randn(8, 20))


@program("no-constructor", "Net", "__init__")
def misspelt_constructor(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def ___init___(self) -> None:  # here
            super().__init__()
            self.fc = nn.Linear(20, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x)

    net = Net()
    if not sick:
        net.___init___()
        Net.__init__ = Net.___init___
    return classify(net, torch.randn(8, 20))


@program("no-constructor", "Net", "super().__init__()")
def constructor_without_super(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:  # here
            if not sick:
                super().__init__()
                self.fc = nn.Linear(20, 10)
            self.width = 20

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x)

    return classify(Net(), torch.randn(8, 20))


@program("no-parameters", "(all)", "")
def model_without_parameters(sick: bool) -> PreflightReport:
    class Net(nn.Module):  # here
        def __init__(self) -> None:
            super().__init__()
            if not sick:
                self.scale = nn.Parameter(torch.ones(10))

        def forward(self, x: Tensor) -> Tensor:
            return x * (2 if sick else self.scale)

    return classify(Net(), torch.randn(8, 10))


@program("no-parameters", "(all)", "requires_grad_(True)")
def everything_is_frozen(sick: bool) -> PreflightReport:
    net = nn.Sequential(nn.Linear(20, 10))
    net.requires_grad_(not sick)
    return classify(net, torch.randn(8, 20))


@program("overridden-method", "Net", "fit")
def train_is_overridden(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x)

        if sick:

            def train(self, x: Tensor, y: Tensor) -> None:  # type: ignore[override]  # here
                raise AssertionError("never called")

    return classify(Net(), torch.randn(8, 20))


@program("optimizer-of-another-model", "optimizer", "optimizer again")
def optimizer_of_an_older_model(sick: bool) -> PreflightReport:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 10))

    net = build()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)  # here
    if sick:
        net = build()
    return classify(net, torch.randn(8, 20), optimizer=optimizer)


@program("parameters-not-in-optimizer", "2", "optimizer", status="warning")
def head_that_was_replaced(sick: bool) -> PreflightReport:
    net = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 5))
    if not sick:
        net[2] = nn.Linear(16, 10)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)  # here
    if sick:
        net[2] = nn.Linear(16, 10)
    return classify(net, torch.randn(8, 20), optimizer=optimizer)


@program("symmetric-weights", "0", "random", status="warning")
def constant_weights(sick: bool) -> PreflightReport:
    net = nn.Sequential(
        nn.Linear(20, 16),  # here
        nn.ReLU(),
        nn.Linear(16, 10),
    )
    if sick:
        nn.init.constant_(net[0].weight, 0.1)
    return classify(net, torch.randn(8, 20))


@program("oversized-weights", "0", "kaiming", status="warning")
def weights_of_deviation_one(sick: bool) -> PreflightReport:
    net = nn.Sequential(
        nn.Linear(400, 100),  # here
        nn.ReLU(),
        nn.Linear(100, 10),
    )
    if sick:
        nn.init.normal_(net[0].weight)
    return classify(net, torch.randn(8, 400))


@program("non-finite-parameter", "0", "nitialise")
def weights_that_are_nan(sick: bool) -> PreflightReport:
    net = nn.Sequential(
        nn.Linear(20, 16),  # here
        nn.ReLU(),
        nn.Linear(16, 10),
    )
    if sick:
        net[0].weight.data[0, 0] = float("nan")
    return classify(net, torch.randn(8, 20))


@program("broken-tie", "head.weight", "Tie", status="warning")
def weights_that_were_tied(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(50, 16)
            self.head = nn.Linear(16, 50, bias=False)  # here
            self.head.weight = nn.Parameter(self.embed.weight.detach().clone()) if sick else self.embed.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.embed(x)).transpose(1, 2)

    return classify(Net(), words(), words())
