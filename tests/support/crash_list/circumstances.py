"""Smaller batches, second steps, evaluation, and the data."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nbops as nb
from crash_list.base import classify, images, labels, program, words
from nbops.debugging.preflight.report import PreflightReport


@program("last-batch", "Net", "x.size(0)", status="warning")
def batch_size_that_fits_by_chance(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(784, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = x.view(8, 784) if sick else x.view(x.size(0), 784)  # here
            return self.fc(x)

    return classify(Net(), images(8))


@program("last-batch", "1", "drop_last=True")
def last_batch_of_one_sample(sick: bool) -> PreflightReport:
    model = nn.Sequential(
        nn.Linear(20, 16),
        nn.BatchNorm1d(16),  # here
        nn.ReLU(),
        nn.Linear(16, 10),
    )
    data = torch.utils.data.TensorDataset(torch.randn(33 if sick else 34, 20), labels(33 if sick else 34))
    return nb.preflight(model, torch.utils.data.DataLoader(data, batch_size=8), loss=nn.CrossEntropyLoss())


@program("second-step", "state", "detach()")
def state_with_its_graph(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(6, 16, batch_first=True)
            self.head = nn.Linear(16, 10)
            self.state: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            out, state = self.rnn(x, self.state)
            self.state = state if sick else state.detach()  # here
            return self.head(out[:, -1])

    net = Net()
    return classify(net, torch.randn(8, 30, 6), last_batch=(torch.randn(8, 30, 6), labels()))


@program("dropout-in-evaluation", "Net", "training=self.training")
def functional_dropout(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 16)
            self.head = nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.fc(x))
            x = F.dropout(x, 0.5) if sick else F.dropout(x, 0.5, training=self.training)  # here
            return self.head(x)

    return classify(Net(), torch.randn(8, 20))


@program("evaluation", "aux", "in_features|16")
def error_in_evaluation_only(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 16)
            self.aux = nn.Linear(8 if sick else 16, 10)  # here
            self.head = nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.fc(x))
            return self.head(x) if self.training else self.aux(x) + self.head(x)

    return classify(Net(), torch.randn(8, 20))


@program("non-finite-batch", "batch", "nan_to_num")
def gaps_in_the_data(sick: bool) -> PreflightReport:
    x = torch.randn(8, 20)
    if sick:
        x[3, 4] = float("nan")
    return classify(nn.Linear(20, 10), x)


@program("unscaled-input", "batch", "255", status="warning")
def images_up_to_255(sick: bool) -> PreflightReport:
    x = torch.randint(0, 256, (8, 1, 16, 16)).float()
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
    return classify(model, x if sick else x / 255)


@program("constant-input", "batch", "", status="warning")
def samples_that_are_all_alike(sick: bool) -> PreflightReport:
    x = torch.randn(8, 20)
    return classify(nn.Linear(20, 10), x[:1].expand(8, 20) if sick else x)


@program("one-class-batch", "target", "huffle", status="warning")
def labels_of_one_class(sick: bool) -> PreflightReport:
    y = labels(16)
    return classify(nn.Linear(20, 10), torch.randn(16, 20), torch.full_like(y, 3) if sick else y)


@program("one-class-batch", "target", "mask")
def labels_that_are_all_ignored(sick: bool) -> PreflightReport:
    y = labels()
    return classify(nn.Linear(20, 10), torch.randn(8, 20), torch.full_like(y, -100) if sick else y)


@program("padded-batch", "batch", "pad", status="warning")
def sequences_of_padding(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(50, 8, padding_idx=0)
            self.head = nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.embed(x).mean(1))

    x = words(8, 40).clamp(min=1)
    if sick:
        x[:, 2:] = 0
    return classify(Net(), x)


@program("duplicate-samples", "batch", "sampler", status="warning")
def samples_that_are_copies(sick: bool) -> PreflightReport:
    x = torch.randn(16, 20)
    return classify(nn.Linear(20, 10), x[torch.arange(16) % 4] if sick else x, labels(16))


@program("illegal-optimizer-setting", "embed", "SparseAdam|sparse")
def sparse_gradients_under_adam(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(50, 8, sparse=sick)  # here
            self.head = nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.embed(x).mean(1))

    net = Net()
    return classify(net, words(), optimizer=torch.optim.Adam(net.parameters()))
