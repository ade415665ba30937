"""Losses that cannot compare, or compare the wrong things."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nbops as nb
from crash_list.base import classify, labels, program, regress, words
from nbops.debugging.preflight.report import PreflightReport


@program("target-mismatch", "loss", "argmax(1)")
def one_hot_labels(sick: bool) -> PreflightReport:
    y = labels()
    return classify(nn.Linear(20, 10), torch.randn(8, 20), F.one_hot(y, 10) if sick else y)


@program("target-mismatch", "loss", "squeeze(1)")
def labels_with_an_axis_of_one(sick: bool) -> PreflightReport:
    y = labels()
    return classify(nn.Linear(20, 10), torch.randn(8, 20), y.unsqueeze(1) if sick else y)


@program("dtype-mismatch", "loss", ".long()")
def labels_as_floats(sick: bool) -> PreflightReport:
    y = labels()
    return classify(nn.Linear(20, 10), torch.randn(8, 20), y.float() if sick else y)


@program("dtype-mismatch", "loss", ".long()")
def labels_as_int32(sick: bool) -> PreflightReport:
    y = labels()
    return classify(nn.Linear(20, 10), torch.randn(8, 20), y.int() if sick else y)


@program("target-mismatch", "loss", "flatten")
def classes_come_last(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(50, 16)
            self.head = nn.Linear(16, 50)

        def forward(self, x: Tensor) -> Tensor:
            out = self.head(self.embed(x))
            return out if sick else out.transpose(1, 2)

    return classify(Net(), words(), words())


@program("target-mismatch", "loss", "batch_first|axis")
def recurrent_output_of_the_wrong_axis(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(6, 16, batch_first=not sick)
            self.head = nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            out = self.rnn(x)[0]
            return self.head(out[-1] if sick else out[:, -1])

    return classify(Net(), torch.randn(8, 30, 6))


@program("target-mismatch", "loss", "unsqueeze(-1)")
def binary_targets_of_another_shape(sick: bool) -> PreflightReport:
    y = (torch.arange(8) % 2).float()
    return nb.preflight(
        nn.Linear(20, 1), (torch.randn(8, 20), y if sick else y.unsqueeze(1)), loss=nn.BCEWithLogitsLoss()
    )


@program("dtype-mismatch", "loss", ".float()")
def binary_targets_as_whole_numbers(sick: bool) -> PreflightReport:
    y = (torch.arange(8) % 2).unsqueeze(1)
    return nb.preflight(nn.Linear(20, 1), (torch.randn(8, 20), y if sick else y.float()), loss=nn.BCEWithLogitsLoss())


@program("broadcast-loss", "loss", "squeeze(-1)")
def broadcast_in_squared_error(sick: bool) -> PreflightReport:
    model = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 1))
    y = torch.randn(8)
    return regress(model, torch.randn(8, 20), y if sick else y.unsqueeze(1))


@program("broadcast-loss", "loss", "squeeze(-1)")
def broadcast_in_a_loss_of_ones_own(sick: bool) -> PreflightReport:
    def squared(output: Tensor, target: Tensor) -> Tensor:
        return ((output - target) ** 2).mean()  # here

    y = torch.randn(8)
    return nb.preflight(nn.Linear(20, 1), (torch.randn(8, 20), y if sick else y.unsqueeze(1)), loss=squared)


@program("double-activation", "3", "Remove softmax")
def softmax_before_cross_entropy(sick: bool) -> PreflightReport:
    model = nn.Sequential(
        nn.Linear(20, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
        nn.Softmax(dim=1) if sick else nn.Identity(),  # here
    )
    return classify(model, torch.randn(8, 20))


@program("double-activation", "1", "Remove sigmoid")
def sigmoid_before_logits(sick: bool) -> PreflightReport:
    model = nn.Sequential(
        nn.Linear(20, 1),
        nn.Sigmoid() if sick else nn.Identity(),  # here
    )
    y = (torch.arange(8) % 2).float().unsqueeze(1)
    return nb.preflight(model, (torch.randn(8, 20), y), loss=nn.BCEWithLogitsLoss())


@program("double-activation", "1", "Remove sigmoid")
def sigmoid_before_cross_entropy(sick: bool) -> PreflightReport:
    model = nn.Sequential(
        nn.Linear(20, 10),
        nn.Sigmoid() if sick else nn.Identity(),  # here
    )
    return classify(model, torch.randn(8, 20))


@program("double-activation", "1", "Remove relu", status="warning")
def relu_before_cross_entropy(sick: bool) -> PreflightReport:
    model = nn.Sequential(
        nn.Linear(20, 10),
        nn.ReLU() if sick else nn.Identity(),  # here
    )
    return classify(model, torch.randn(8, 20))


@program("missing-activation", "fc", "CrossEntropyLoss")
def logits_into_nll(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 10)  # here

        def forward(self, x: Tensor) -> Tensor:
            x = self.fc(x)
            return x if sick else F.log_softmax(x, 1)

    return classify(Net(), torch.randn(8, 20), loss=nn.NLLLoss())


@program("missing-activation", "1", "log_softmax|CrossEntropyLoss")
def probabilities_into_nll(sick: bool) -> PreflightReport:
    model = nn.Sequential(
        nn.Linear(20, 10),
        nn.Softmax(1) if sick else nn.LogSoftmax(1),  # here
    )
    return classify(model, torch.randn(8, 20), loss=nn.NLLLoss())


@program("missing-activation", "loss", "BCEWithLogitsLoss")
def logits_into_bce(sick: bool) -> PreflightReport:
    y = (torch.arange(8) % 2).float().unsqueeze(1)
    head = nn.Linear(20, 1)
    return nb.preflight(head if sick else nn.Sequential(head, nn.Sigmoid()), (torch.randn(8, 20), y), loss=nn.BCELoss())


@program("one-unit-output", "Linear", "BCEWithLogitsLoss")
def cross_entropy_of_one_class(sick: bool) -> PreflightReport:
    y = torch.zeros(8, dtype=torch.long) if sick else torch.arange(8) % 2
    return classify(nn.Linear(20, 1 if sick else 2), torch.randn(8, 20), y)


@program("softmax-axis", "1", "dim=-1")
def softmax_over_one_value(sick: bool) -> PreflightReport:
    model = nn.Sequential(
        nn.Linear(20, 1 if sick else 3),
        nn.Softmax(dim=1),  # here
    )
    return regress(model, torch.randn(8, 20), torch.rand(8, 1 if sick else 3))


@program("softmax-axis", "Net", "dim=-1")
def softmax_over_a_leading_axis(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.fc(x).unsqueeze(0)
            x = F.softmax(x) if sick else F.softmax(x, dim=-1)  # here
            return x.squeeze(0)

    return regress(Net(), torch.randn(8, 20), torch.rand(8, 3))


@program("softmax-axis", "1", "dim=-1")
def softmax_over_the_samples(sick: bool) -> PreflightReport:
    model = nn.Sequential(
        nn.Linear(20, 3),
        nn.Softmax(dim=0 if sick else 1),  # here
    )
    return regress(model, torch.randn(8, 20), torch.rand(8, 3))


@program("unreachable-target", "3", "")
def relu_on_negative_targets(sick: bool) -> PreflightReport:
    model = nn.Sequential(
        nn.Linear(20, 16),
        nn.ReLU(),
        nn.Linear(16, 1),
        nn.ReLU() if sick else nn.Identity(),  # here
    )
    return regress(model, torch.randn(8, 20), torch.linspace(-2, 2, 8).unsqueeze(1))


@program("unreachable-target", "1", "scale")
def sigmoid_on_large_targets(sick: bool) -> PreflightReport:
    model = nn.Sequential(
        nn.Linear(20, 1),
        nn.Sigmoid(),  # here
    )
    y = torch.linspace(0, 1, 8).unsqueeze(1)
    return regress(model, torch.randn(8, 20), y * 50 if sick else y)


@program("unreachable-target", "target", "0 and 1")
def signs_into_binary_cross_entropy(sick: bool) -> PreflightReport:
    y = (torch.arange(8) % 2).float().unsqueeze(1)
    return nb.preflight(nn.Linear(20, 1), (torch.randn(8, 20), y * 2 - 1 if sick else y), loss=nn.BCEWithLogitsLoss())


@program("swapped-loss-arguments", "loss", "loss(output, target)")
def swapped_binary_cross_entropy(sick: bool) -> PreflightReport:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        if sick:
            return F.binary_cross_entropy_with_logits(target, output)  # here
        return F.binary_cross_entropy_with_logits(output, target)

    y = (torch.arange(8) % 2).float().unsqueeze(1)
    model = nn.Sequential(nn.Linear(20, 1), nn.Sigmoid()) if sick else nn.Linear(20, 1)
    return nb.preflight(model, (torch.randn(8, 20), y), loss=loss)


@program("class-weights", "loss", "10")
def class_weights_of_another_number(sick: bool) -> PreflightReport:
    return classify(
        nn.Linear(20, 10), torch.randn(8, 20), loss=nn.CrossEntropyLoss(weight=torch.ones(9 if sick else 10))
    )


@program("illegal-loss-setting", "loss", "CrossEntropyLoss()")
def loss_without_brackets(sick: bool) -> PreflightReport:
    return classify(nn.Linear(20, 10), torch.randn(8, 20), loss=nn.CrossEntropyLoss if sick else nn.CrossEntropyLoss())


@program("target-mismatch", "loss", "one output|CrossEntropyLoss")
def binary_loss_of_two_outputs(sick: bool) -> PreflightReport:
    y = (torch.arange(8) % 2).float()
    model = nn.Linear(20, 2) if sick else nn.Sequential(nn.Linear(20, 1), nn.Flatten(0))
    return nb.preflight(model, (torch.randn(8, 20), y), loss=nn.BCEWithLogitsLoss())


@program("target-mismatch", "loss", "argmax(1)")
def one_hot_floats_into_nll(sick: bool) -> PreflightReport:
    y = labels()
    model = nn.Sequential(nn.Linear(20, 10), nn.LogSoftmax(1))
    return nb.preflight(model, (torch.randn(8, 20), F.one_hot(y, 10).float() if sick else y), loss=nn.NLLLoss())
