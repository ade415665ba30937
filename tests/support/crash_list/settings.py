"""Settings that are not legal, and the checks that no other program needs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nbops as nb
from crash_list.base import classify, labels, program
from nbops.debugging.preflight.report import PreflightReport


@program("illegal-layer-setting", "1", "below 1|share", status="warning")
def dropout_of_everything(sick: bool) -> PreflightReport:
    model = nn.Sequential(
        nn.Linear(20, 16),
        nn.Dropout(1.0 if sick else 0.1),  # here
        nn.Linear(16, 10),
    )
    return classify(model, torch.randn(8, 20))


@program("illegal-layer-setting", "0", "stride")
def stride_of_zero(sick: bool) -> PreflightReport:
    model = nn.Sequential(
        nn.Conv1d(4, 8, 3),  # here
        nn.Flatten(),
        nn.LazyLinear(10),
    )
    if sick:
        model[0].stride = (0,)
    return classify(model, torch.randn(8, 4, 20))


@program("illegal-loss-setting", "loss", "above 0|0 or more")
def class_weights_below_zero(sick: bool) -> PreflightReport:
    weight = torch.ones(10)
    weight[3] = -1 if sick else 1
    criterion = nn.CrossEntropyLoss(weight=weight)  # here
    return classify(nn.Linear(20, 10), torch.randn(8, 20), loss=criterion)


@program("illegal-optimizer-setting", "optimizer", "learning rate")
def learning_rate_of_zero(sick: bool) -> PreflightReport:
    model = nn.Linear(20, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0 if sick else 0.1)  # here
    return classify(model, torch.randn(8, 20), optimizer=optimizer)


@program("illegal-optimizer-setting", "optimizer", "lr=1e-3", status="warning")
def learning_rate_of_ten_under_adam(sick: bool) -> PreflightReport:
    model = nn.Linear(20, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=10.0 if sick else 1e-3)  # here
    return classify(model, torch.randn(8, 20), optimizer=optimizer)


@program("illegal-schedule", "scheduler", "above 1|gamma")
def schedule_that_grows(sick: bool) -> PreflightReport:
    model = nn.Linear(20, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10, gamma=10 if sick else 0.1)  # here
    return classify(model, torch.randn(8, 20), optimizer=optimizer, scheduler=scheduler)


@program("illegal-schedule", "scheduler", "again")
def schedule_of_another_optimizer(sick: bool) -> PreflightReport:
    model = nn.Linear(20, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)  # here
    if sick:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return classify(model, torch.randn(8, 20), optimizer=optimizer, scheduler=scheduler)


@program("constructor-error", "MultiheadAttention", "divisor")
def heads_that_do_not_divide(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(32, 5 if sick else 4, batch_first=True)  # here
            self.head = nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.attention(x, x, x)[0].mean(1))

    return classify(Net, torch.randn(8, 6, 32))


@program("shadowed-module", "half", "name")
def layer_called_like_a_method(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 10)
            if sick:
                self.half = nn.Linear(20, 20)  # type: ignore[assignment]  # here
            else:
                self.middle = nn.Linear(20, 20)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x if sick else self.middle(x))

    return classify(Net(), torch.randn(8, 20))


@program("odd-optimizer-parameters", "optimizer", "once", status="warning")
def parameters_in_two_optimizers(sick: bool) -> PreflightReport:
    net = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 10))
    one = torch.optim.SGD(net.parameters() if sick else net[0].parameters(), 0.1)  # here
    return classify(net, torch.randn(8, 20), optimizer=[one, torch.optim.SGD(net[2].parameters(), 0.1)])


@program("empty-batch", "batch", "data set")
def batch_of_no_samples(sick: bool) -> PreflightReport:
    x = torch.randn(0 if sick else 8, 20)  # here
    return classify(nn.Linear(20, 10), x, labels(len(x)))


class _Uneven(torch.utils.data.Dataset[tuple[Tensor, int]]):
    def __init__(self, sick: bool) -> None:
        self.sick = sick

    def __len__(self) -> int:
        return 32

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return torch.randn(20 + (row if self.sick else 0)), row % 10


@program("loading-error", "batch", "collate_fn")
def samples_of_different_sizes(sick: bool) -> PreflightReport:
    loader = torch.utils.data.DataLoader(_Uneven(sick), batch_size=16)
    return nb.preflight(nn.Linear(20, 10), loader, loss=nn.CrossEntropyLoss())


@program("image-layout", "batch", "permute(0, 3, 1, 2)", status="warning")
def rows_taken_for_channels(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(16, 8, (3, 1))
            self.head = nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).mean((2, 3)))

    x = torch.randn(8, 16, 16, 3 if sick else 16)  # here
    return classify(Net(), x)


@program("zero-gradient", "(all)", "clamped")
def loss_at_its_bound(sick: bool) -> PreflightReport:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        error = F.mse_loss(output, target)
        return error.clamp(min=1000) if sick else error

    return nb.preflight(nn.Linear(20, 1), (torch.randn(8, 20), torch.randn(8, 1)), loss=loss)


@program("random-evaluation", "Net", "self.training", status="hint")
def noise_in_evaluation(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 10)

        def forward(self, x: Tensor) -> Tensor:
            if sick or self.training:
                x = x + torch.randn_like(x)  # here
            return self.fc(x)

    return classify(Net(), torch.randn(8, 20))


@program("resting-mode", "1", "train()", status="hint")
def model_in_evaluation_mode(sick: bool) -> PreflightReport:
    model = nn.Sequential(
        nn.Linear(20, 16),
        nn.BatchNorm1d(16),  # here
        nn.Linear(16, 10),
    )
    return classify(model.train(not sick), torch.randn(8, 20))


@program("error-in-backward", None, "")
def backward_that_raises(sick: bool) -> PreflightReport:
    class Half(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x / 2

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            if sick:
                raise ValueError("no gradient here")  # here
            return grad / 2

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 10)

        def forward(self, x: Tensor) -> Tensor:
            return Half.apply(self.fc(x))

    return classify(Net(), torch.randn(8, 20))


@program("overfit-one-batch", "(all)", "learning rate", status="warning")
def learning_rate_that_is_far_too_small(sick: bool) -> PreflightReport:
    model = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-7 if sick else 0.5)
    return classify(model, torch.randn(8, 20), optimizer=optimizer, overfit=True)
