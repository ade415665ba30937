"""What watching a training costs, beside W&B, TensorBoard and anomaly detection, in one run.

One process trains one model, and the variants take turns of some steps each: two processes differ
by more than a watch costs, for where their memory happens to lie. The figure of the first row is the
median over the turns of a turn's median step over that of the turns without a watch before and after
it; that of the second the whole time of the first steps of a watch, its many looks at the beginning
included. Several processes, so that no one place in memory decides.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

GROUP = "Debugging"
PROCESSES, ROUNDS, WARM, STEPS, FIRST = 2, 5, 24, 16, 400
SETTLED = 250  # steps after which a watch looks as seldom as it does most of the time
VARIANTS = ("none", "nbops", "wandb", "wandb-10", "tensorboard-10", "anomaly")
NAMES = {
    "none": "nothing, measured alike",
    "wandb": 'wandb.watch(log="gradients")', "wandb-10": "the same, log_freq=10",
    "tensorboard-10": "TensorBoard histograms, every 10th", "anomaly": "detect_anomaly",
}  # fmt: skip

WORKER = """
import contextlib, os, statistics, sys, time, warnings
os.environ["WANDB_SILENT"] = "true"
warnings.simplefilter("ignore")
import torch
from torch import nn
from torch.nn import functional as F

torch.set_num_threads(1)
torch.manual_seed(0)
kind, folder = sys.argv[1:3]


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(1000, 128)
        layer = nn.TransformerEncoderLayer(128, 4, 256, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(128, 10)

    def forward(self, x):
        return self.head(self.body(self.embed(x)).mean(1))


if kind == "MLP":
    model = nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))
    batches = [torch.randn(128, 784) for _ in range(8)]
elif kind == "CNN":
    def block(a, b):
        return [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()]
    layers = [*block(3, 16), *block(16, 32), nn.MaxPool2d(2), *block(32, 32), *block(32, 64), nn.MaxPool2d(2)]
    model = nn.Sequential(*layers, *block(64, 64), nn.Flatten(), nn.Linear(64 * 64, 10))
    batches = [torch.randn(16, 3, 32, 32) for _ in range(8)]
else:
    model = Reader()
    batches = [torch.randint(0, 1000, (16, 48)) for _ in range(8)]
labels = [torch.randint(0, 10, (len(x),)) for x in batches]
optimizer = torch.optim.Adam(model.parameters(), 1e-4)
step = 0


def plain():
    yield None


def nbops():
    import nbops as nb
    with nb.watch(model) as watch:
        yield None
    assert not watch.errors and watch.sampled < watch.steps


def wandb_every(freq):
    import wandb
    quiet = wandb.Settings(silent=True, disable_git=True, disable_code=True)
    run = wandb.init(mode="offline", dir=folder, settings=quiet)
    wandb.watch(model, log="gradients", log_freq=freq)
    yield lambda loss: run.log({"loss": loss})
    wandb.unwatch(model)
    run.finish()


def tensorboard():
    from torch.utils.tensorboard import SummaryWriter
    writer = SummaryWriter(folder)
    def write(loss):
        if step % 10 == 0:
            for name, p in model.named_parameters():
                writer.add_histogram(name, p.grad, step)
    yield write
    writer.close()


def anomaly():
    with torch.autograd.detect_anomaly():
        yield None


VARIANTS = {"none": plain, "nbops": nbops, "wandb": lambda: wandb_every(1000), "wandb-10": lambda: wandb_every(10),
            "tensorboard-10": tensorboard, "anomaly": anomaly}
for line in sys.stdin:
    variant, warm, timed = line.split()
    with contextlib.contextmanager(VARIANTS[variant])() as write:
        took = []
        for n in range(int(warm) + int(timed)):
            began = time.perf_counter()
            optimizer.zero_grad()
            loss = F.cross_entropy(model(batches[step % 8]), labels[step % 8])
            loss.backward()
            optimizer.step()
            if write is not None:
                write(loss.item())
            step += 1
            took.append(time.perf_counter() - began)
    took = took[int(warm):]
    print(statistics.median(took), sum(took), flush=True)
"""


class Worker:
    """A process that trains one model in turns."""

    def __init__(self, kind: str, folder: Path) -> None:
        script = folder / "worker.py"
        script.write_text(WORKER)
        self.process = subprocess.Popen(
            [sys.executable, script, kind, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, cwd=folder,
        )  # fmt: skip

    def turn(self, variant: str, steps: int, *, warm: int = 4) -> tuple[float, float]:
        """Let one variant train; return the median and the sum of the seconds of its steps, without the warm ones."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{variant} {warm} {steps}\n")
        self.process.stdin.flush()
        middle, whole = map(float, self.process.stdout.readline().split())
        return middle, whole

    def leave(self) -> None:
        """End the process."""
        self.process.communicate(timeout=120)


@pytest.mark.parametrize("kind", ["MLP", "CNN", "transformer"])
def test_a_watched_step(bench: Any, kind: str, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    pytest.importorskip("tensorboard")
    ratios: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    plain: list[float] = []
    firsts: list[float] = []
    for number in range(PROCESSES):
        (folder := tmp_path / str(number)).mkdir()
        worker = Worker(kind, folder)
        worker.turn("none", STEPS, warm=WARM)
        for _ in range(ROUNDS):
            for variant in VARIANTS:
                before, _ = worker.turn("none", STEPS)
                took, _ = worker.turn(variant, STEPS, warm=SETTLED if variant == "nbops" else WARM)
                after, _ = worker.turn("none", STEPS)
                ratios[variant].append(2 * took / (before + after))
                plain.append((before + after) / 2)
        _, before = worker.turn("none", FIRST // 2)
        _, took = worker.turn("nbops", FIRST, warm=0)
        _, after = worker.turn("none", FIRST // 2)
        firsts.append(took / (before + after))
        worker.leave()
        assert worker.process.returncode == 0  # each watch looked at some steps, not at all, and had no error
    percent = {variant: 100 * (statistics.median(found) - 1) for variant, found in ratios.items()}
    step_ms = statistics.median(plain) * 1e3
    peers = {NAMES[variant]: percent[variant] for variant in VARIANTS if variant != "nbops"}
    what = f"{kind}, step of {step_ms:.1f} ms: added by watching, median step"
    bench.row(GROUP, what, ours=percent["nbops"], unit="%", peers=peers, goal="≤ 3 %")
    first = 100 * (statistics.median(firsts) - 1)
    bench.row(GROUP, f"{kind}: added to the first {FIRST} steps, all looks included", ours=first, unit="%", peers={})
