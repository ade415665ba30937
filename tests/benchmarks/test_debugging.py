"""What watching a training costs, beside W&B, TensorBoard and anomaly detection, in one run.

Each variant trains in a process of its own. The processes take turns of some steps each, so that
what else the machine does hits all alike; the figure is the median over the turns of the time
of a turn over that of the turns without a watch before and after it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

GROUP = "Debugging"
ROUNDS, STEPS = 15, 40
VARIANTS = ("none", "nbops", "wandb", "wandb-10", "tensorboard-10", "anomaly")
NAMES = {
    "wandb": 'wandb.watch(log="gradients")', "wandb-10": "the same, log_freq=10",
    "tensorboard-10": "TensorBoard histograms, every 10th", "anomaly": "detect_anomaly",
}  # fmt: skip

WORKER = """
import contextlib, json, os, sys, time, warnings
os.environ["WANDB_SILENT"] = "true"
warnings.simplefilter("ignore")
import torch
from torch import nn
from torch.nn import functional as F

torch.set_num_threads(1)
torch.manual_seed(0)
kind, variant, folder = sys.argv[1:4]


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
write, around = None, contextlib.nullcontext()
if variant == "nbops":
    import nbops as nb
    watch = nb.watch(model)
elif variant.startswith("wandb"):
    import wandb
    quiet = wandb.Settings(silent=True, disable_git=True, disable_code=True)
    run = wandb.init(mode="offline", dir=folder, settings=quiet)
    wandb.watch(model, log="gradients", **({"log_freq": 10} if variant == "wandb-10" else {}))
    write = lambda step, loss: run.log({"loss": loss})
elif variant.startswith("tensorboard"):
    from torch.utils.tensorboard import SummaryWriter
    writer = SummaryWriter(folder)
    def write(step, loss):
        if step % 10 == 0:
            for name, p in model.named_parameters():
                writer.add_histogram(name, p.grad, step)
elif variant == "anomaly":
    around = torch.autograd.detect_anomaly()

step = 0
with around:
    for line in sys.stdin:
        took = []
        for _ in range(int(line)):
            began = time.perf_counter()
            optimizer.zero_grad()
            loss = F.cross_entropy(model(batches[step % 8]), labels[step % 8])
            loss.backward()
            optimizer.step()
            if write is not None:
                write(step, loss.item())
            step += 1
            took.append(time.perf_counter() - began)
        print(json.dumps(took), flush=True)
if variant.startswith("wandb"):
    run.finish()
if variant == "nbops":
    print(json.dumps([watch.sampled, watch.steps, watch.errors, len(watch.diagnoses)]), file=sys.stderr)
"""


class Crew:
    """One process for each variant."""

    def __init__(self, kind: str, folder: Path) -> None:
        script = folder / "worker.py"
        script.write_text(WORKER)
        self.processes = {}
        for variant in VARIANTS:
            place = folder / variant
            place.mkdir()
            self.processes[variant] = subprocess.Popen(
                [sys.executable, script, kind, variant, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True, cwd=place,
            )  # fmt: skip

    def turn(self, variant: str, steps: int) -> list[float]:
        """Let one variant train and return the seconds of its steps."""
        process = self.processes[variant]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{steps}\n")
        process.stdin.flush()
        found: list[float] = json.loads(process.stdout.readline())
        return found

    def leave(self) -> None:
        """End all processes."""
        for process in self.processes.values():
            process.communicate(timeout=120)


@pytest.fixture
def crew(request: Any, tmp_path: Path) -> Iterator[Crew]:
    pytest.importorskip("wandb")
    pytest.importorskip("tensorboard")
    made = Crew(request.param, tmp_path)
    yield made
    made.leave()


@pytest.mark.parametrize("crew", ["MLP", "CNN", "transformer"], indirect=True, ids=lambda kind: kind)
def test_a_watched_step(bench: Any, crew: Crew, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.id
    for variant in VARIANTS:  # the watch's dense steps and everybody's first allocations
        crew.turn(variant, STEPS)
    ratios: dict[str, list[float]] = {variant: [] for variant in VARIANTS[1:]}
    plain: list[float] = []
    for _ in range(ROUNDS):
        for variant in VARIANTS[1:]:
            before = sum(crew.turn("none", STEPS // 2))
            took = sum(crew.turn(variant, STEPS))
            after = sum(crew.turn("none", STEPS // 2))
            ratios[variant].append(took / (before + after))
            plain.append((before + after) / STEPS)
    percent = {variant: 100 * (statistics.median(found) - 1) for variant, found in ratios.items()}
    step_ms = statistics.median(plain) * 1e3
    peers = {NAMES[variant]: percent[variant] for variant in VARIANTS[2:]}
    what = f"{kind}, step of {step_ms:.1f} ms: added by watching"
    bench.row(GROUP, what, ours=percent["nbops"], unit="%", peers=peers, goal="≤ 3 %")
