"""Layers whose sizes do not fit what they are given."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crash_list.base import classify, images, labels, program, words
from nbops.debugging.preflight.report import PreflightReport


@program("shape-mismatch", "fc", "6272")
def linear_after_flatten(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 32, 3, padding=1)
            self.pool = nn.MaxPool2d(2)
            self.fc = nn.Linear(512 if sick else 6272, 10)  # here

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.pool(F.relu(self.conv(x))).flatten(1))

    return classify(Net(), images())


@program("shape-mismatch", "pool", "14")
def pool_of_260_on_a_map_of_222(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)
            self.pool = nn.AvgPool2d(260 if sick else 14)  # here
            self.fc = nn.Linear(1800, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = self.pool(F.relu(self.conv(x)))
            return self.fc(x.view(-1, 1800))

    return classify(Net(), images(4, 3, 224), labels(4))


@program("shape-mismatch", "2", "in_features=64")
def second_linear_in_sequential(sick: bool) -> PreflightReport:
    model = nn.Sequential(
        nn.Linear(20, 64),
        nn.ReLU(),
        nn.Linear(32 if sick else 64, 10),  # here
    )
    return classify(model, torch.randn(8, 20))


@program("shape-mismatch", "0", "in_features=20")
def first_linear_has_other_features(sick: bool) -> PreflightReport:
    model = nn.Sequential(
        nn.Linear(10 if sick else 20, 64),  # here
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    return classify(model, torch.randn(8, 20))


@program("shape-mismatch", "fc1", "flatten")
def images_not_flattened(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = nn.Linear(784, 32)  # here
            self.fc2 = nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            if not sick:
                x = x.flatten(1)
            return self.fc2(F.relu(self.fc1(x)))

    return classify(Net(), images())


@program("shape-mismatch", "conv1", "in_channels=3")
def convolution_takes_other_channels(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1 if sick else 3, 8, 3)  # here
            self.head = nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv1(x).mean((2, 3)))

    return classify(Net(), images(8, 3, 16))


@program("shape-mismatch", "conv2", "in_channels=16")
def second_convolution_takes_other_channels(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 16, 3)
            self.conv2 = nn.Conv2d(8 if sick else 16, 8, 3)  # here
            self.head = nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv2(self.conv1(x)).mean((2, 3)))

    return classify(Net(), images(8, 3, 16))


@program("shape-mismatch", "conv", "permute(0, 3, 1, 2)")
def channels_come_last(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)  # here
            self.head = nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).mean((2, 3)))

    return classify(Net(), torch.randn(8, 16, 16, 3) if sick else images(8, 3, 16))


@program("shape-mismatch", "conv", "unsqueeze(1)")
def channel_axis_is_missing(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 8, 3)  # here
            self.head = nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).mean((2, 3)))

    return classify(Net(), torch.randn(8, 16, 16) if sick else images(8, 1, 16))


@program("shape-mismatch", "conv", "view(-1, 1, 28, 28)")
def images_are_flat(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 8, 3)  # here
            self.head = nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).mean((2, 3)))

    return classify(Net(), torch.randn(8, 784) if sick else images())


@program("shape-mismatch", "conv", "transpose|in_channels=30")
def sequence_axis_of_conv1d(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(6, 8, 3)  # here
            self.head = nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).mean(2))

    return classify(Net(), torch.randn(8, 30, 6) if sick else torch.randn(8, 6, 30))


@program("shape-mismatch", "features.6", "padding|kernel_size")
def kernel_larger_than_its_map(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(1, 8, 3),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(8, 8, 3),
                nn.ReLU(),
                nn.MaxPool2d(4),
                nn.Conv2d(8, 8, 5, padding=0 if sick else 2),  # here
            )
            self.head = nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.features(x).mean((2, 3)))

    return classify(Net(), images(8, 1, 28))


@program("shape-mismatch", "norm", "num_features=16")
def batchnorm_of_other_width(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 16, 3)
            self.norm = nn.BatchNorm2d(8 if sick else 16)  # here
            self.head = nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(self.conv(x)).mean((2, 3)))

    return classify(Net(), images(8, 3, 16))


@program("shape-mismatch", "norm", "BatchNorm2d")
def batchnorm_of_other_axes(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 16, 3)
            self.norm = nn.BatchNorm1d(16) if sick else nn.BatchNorm2d(16)  # here
            self.head = nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(self.conv(x)).mean((2, 3)))

    return classify(Net(), images(8, 3, 16))


@program("shape-mismatch", "norm", "normalized_shape=32")
def layernorm_of_other_width(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(20, 32)
            self.norm = nn.LayerNorm(64 if sick else 32)  # here
            self.head = nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(self.embed(x)))

    return classify(Net(), torch.randn(8, 20))


@program("shape-mismatch", "norm", "num_channels=12")
def groupnorm_of_other_width(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 12, 3)
            self.norm = nn.GroupNorm(4, 16 if sick else 12)  # here
            self.head = nn.Linear(12, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(self.conv(x)).mean((2, 3)))

    return classify(Net(), images(8, 3, 16))


@program("shape-mismatch", "rnn", "input_size=6")
def recurrent_layer_of_other_width(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(8 if sick else 6, 16, batch_first=True)  # here
            self.head = nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0][:, -1])

    return classify(Net(), torch.randn(8, 30, 6))


@program("shape-mismatch", "rnn", "state|batch")
def state_of_another_batch_size(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(6, 16, batch_first=True)  # here
            self.head = nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            h0 = torch.zeros(1, 32 if sick else x.size(0), 16)
            return self.head(self.rnn(x, h0)[0][:, -1])

    return classify(Net(), torch.randn(8, 30, 6))


@program("shape-mismatch", "attention", "embed_dim")
def attention_of_other_width(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(6, 32)
            self.attention = nn.MultiheadAttention(64 if sick else 32, 4, batch_first=True)  # here
            self.head = nn.Linear(64 if sick else 32, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = self.embed(x)
            return self.head(self.attention(x, x, x)[0].mean(1))

    return classify(Net(), torch.randn(8, 30, 6))


@program("shape-mismatch", "blocks.1.fc", "in_features=32")
def second_block_of_a_list(sick: bool) -> PreflightReport:
    class Block(nn.Module):
        def __init__(self, width: int, out: int) -> None:
            super().__init__()
            self.fc = nn.Linear(width, out)  # here

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.fc(x))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([Block(20, 32), Block(16 if sick else 32, 32)])
            self.head = nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                x = block(x)
            return self.head(x)

    return classify(Net(), torch.randn(8, 20))


@program("shape-mismatch", "shuffle", "out_channels")
def pixel_shuffle_of_odd_channels(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 10 if sick else 12, 3)
            self.shuffle = nn.PixelShuffle(2)  # here

        def forward(self, x: Tensor) -> Tensor:
            return self.shuffle(self.conv(x)).mean((2, 3))

    return classify(Net(), images(8, 3, 16), labels(8, 3))


@program("shape-mismatch", "encoder", "d_model=24|embedding_dim=32")
def transformer_of_other_width(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(50, 24 if sick else 32)
            self.encoder = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)  # here
            self.head = nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            h = self.embed(x) + torch.linspace(0, 1, x.shape[1])[:, None]
            return self.head(self.encoder(h).mean(1))

    return classify(Net(), words())


@program("shape-mismatch", "cell", "input_size=6")
def cell_of_other_width(sick: bool) -> PreflightReport:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(5 if sick else 6, 16)  # here
            self.head = nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            state = torch.zeros(x.size(0), 16)
            for step in x.unbind(1):
                state = self.cell(step, state)
            return self.head(state)

    return classify(Net(), torch.randn(8, 7, 6))
