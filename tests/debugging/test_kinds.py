"""Trainings of other kinds: no finding, and the signals are right. Mixed precision, optimizers, processes, graphs."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nbops as nb
from nbops.debugging.views import StepView
from nbops.debugging.watch import Watch

Data = tuple[Tensor, Tensor]


def healthy(watch: Watch) -> StepView:
    watch.close()
    assert watch.diagnoses == []
    assert watch.errors == []
    assert watch.view is not None
    return watch.view


def batch_of(data: Data, size: int = 32) -> Data:
    rows = torch.randint(0, len(data[0]), (size,))
    return data[0][rows], data[1][rows]


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def test_mixed_precision_with_accumulation_and_a_skipped_step(digits: Data) -> None:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    watch = nb.watch(model)
    for step in range(30):
        total = 0.0
        for _ in range(2):
            x, y = batch_of(digits)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.cross_entropy(model(x), y) / 2
            scaler.scale(loss).backward()
            total += loss.item()
        if step == 9:
            model[0].weight.grad[0, 0] = torch.inf  # type: ignore[union-attr, index]
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if step == 15:
            break
    view = healthy(watch)
    assert view.stepper is not None
    assert (view.stepper.skipped, view.stepper.skipped_in_a_row, view.stepper.scale) == (1, 0, 2.0**9)
    assert view.loss == pytest.approx(total, rel=1e-3)
    assert (view.backwards, view.is_cleared) == (2, True)
    assert watch.steps == 15
    assert view.grad_norm is not None
    assert view.grad_norm < 1.01


def test_each_optimizer_of_a_model_has_its_own_numbers(digits: Data) -> None:
    model = mlp()
    body, head = torch.optim.SGD(model[0].parameters(), 0.1), torch.optim.Adam(model[2].parameters(), 1e-3)
    watch = nb.watch(model)
    for _ in range(12):
        x, y = batch_of(digits)
        body.zero_grad()
        head.zero_grad()
        F.cross_entropy(model(x), y).backward()
        body.step()
        head.step()
    view = healthy(watch)
    assert view.optimizer == "Adam"
    assert view.stepper is not None
    assert (view.stepper.held, view.stepper.trainable_share) == (2, pytest.approx(330 / 2410))
    assert watch.stats["0"]["update_ratio"] > 0
    assert watch.stats["2"]["update_ratio"] > 0


def test_sparse_embedding(digits: Data) -> None:
    model = nn.Sequential(nn.EmbeddingBag(1000, 16, sparse=True), nn.Linear(16, 10))
    table, dense = torch.optim.SparseAdam(list(model[0].parameters()), 0.01), torch.optim.Adam(model[1].parameters())
    watch = nb.watch(model)
    for _ in range(25):
        x, y = batch_of(digits)
        table.zero_grad()
        dense.zero_grad()
        F.cross_entropy(model((x * 900).long()), y).backward()
        table.step()
        dense.step()
    view = healthy(watch)
    assert view.batch is not None
    assert view.batch.inputs is not None
    assert view.batch.inputs.is_integer
    assert watch.stats["0"]["grad_norm"] > 0
    assert view.is_cleared is True


def test_adapter_on_a_frozen_model(digits: Data) -> None:
    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen = nn.Linear(64, 256).requires_grad_(False)
            self.down, self.up = nn.Linear(64, 2, bias=False), nn.Linear(2, 256, bias=False)
            nn.init.zeros_(self.up.weight)
            self.head = nn.Linear(256, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(self.frozen(x) + self.up(self.down(x))))  # type: ignore[no-any-return]

    model = Adapted()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3)
    watch = nb.watch(model)
    for _ in range(40):
        x, y = batch_of(digits)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    view = healthy(watch)
    assert view.model is not None
    assert view.stepper is not None
    assert view.model.trainable_share < 0.2
    assert view.stepper.trainable_share == 1.0
    assert view.model.frozen_changed == ()
    assert view.layers["frozen"].trainable_share == 0


def test_optimizer_that_holds_only_a_part(digits: Data) -> None:
    model = mlp()
    model.load_state_dict(mlp().state_dict())  # as if it had been learned
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model[2].parameters(), 0.1)
    watch = nb.watch(model)
    for _ in range(25):
        x, y = batch_of(digits)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    view = healthy(watch)
    assert view.loss is not None
    assert view.is_cleared is True


def test_closure_of_lbfgs(digits: Data) -> None:
    model = mlp()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
    x, y = digits[0][:100], digits[1][:100]
    losses: list[float] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        losses.append(loss.item())
        return loss

    watch = nb.watch(model)
    for _ in range(8):
        optimizer.step(closure)
    view = healthy(watch)
    assert watch.steps == 8
    assert view.loss in [pytest.approx(one, rel=1e-5) for one in losses]
    assert losses[-1] < losses[0]


def test_compiled_model_has_its_losses(digits: Data) -> None:
    torch.compiler.reset()
    model = mlp()
    compiled: Any = torch.compile(model, backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.warns(UserWarning, match="layer outputs are not seen"):
        watch = nb.watch(compiled)
    for _ in range(5):
        x, y = batch_of(digits)
        optimizer.zero_grad()
        loss = F.cross_entropy(compiled(x), y)
        loss.backward()
        optimizer.step()
    view = healthy(watch)
    assert view.loss == pytest.approx(loss.item(), rel=1e-5)
    assert (view.backwards, view.forwards, view.is_cleared) == (1, 1, True)
    assert view.batch is not None
    assert view.batch.loss_name == "cross_entropy"
    torch.compiler.reset()


def test_checkpointed_model(digits: Data) -> None:
    from torch.utils.checkpoint import checkpoint

    class Saved(nn.Module):
        def __init__(self, *, reentrant: bool) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(64, 32), nn.Linear(32, 10)
            self.reentrant = reentrant

        def forward(self, x: Tensor) -> Tensor:
            hidden = checkpoint(lambda v: torch.relu(self.body(v)), x, use_reentrant=self.reentrant)
            return self.head(hidden)  # type: ignore[no-any-return]

    for reentrant in (True, False):
        model = Saved(reentrant=reentrant)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        watch = nb.watch(model)
        for _ in range(6):
            x, y = batch_of(digits)
            optimizer.zero_grad()
            F.cross_entropy(model(x.clone().requires_grad_()), y).backward()
            optimizer.step()
        view = healthy(watch)
        assert view.backwards == 1
        assert view.evaluation is None


def test_target_network_and_gradient_penalty(digits: Data) -> None:
    """Reinforcement learning's copy of the model, and a backward pass through a gradient."""
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 1))
    target = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    watch = nb.watch(model)
    for _ in range(25):
        x, _ = batch_of(digits)
        x = x.clone().requires_grad_()
        optimizer.zero_grad()
        with torch.no_grad():
            goal = target(x)
        out = model(x)
        [slope] = torch.autograd.grad(out.sum(), x, create_graph=True)
        (F.mse_loss(out, goal) + slope.square().sum(1).mean()).backward()
        optimizer.step()
        for mine, theirs in zip(target.parameters(), model.parameters(), strict=True):
            mine.data.lerp_(theirs.data, 0.05)
    assert healthy(watch).backwards == 1


WORKER = """
import json, sys, warnings
import torch, torch.distributed as dist
from torch import nn
from torch.nn import functional as F
import nbops as nb

rank, port, spoil, only_first = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "1", sys.argv[4] == "1"
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
wrapped = nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
torch.manual_seed(rank)
watch = None
if not (only_first and rank):
    watch = nb.watch(wrapped, sample_every=1)
for step in range(12):
    x, y = torch.randn(8, 16), torch.randint(0, 4, (8,))
    optimizer.zero_grad()
    F.cross_entropy(wrapped(x), y).backward()
    optimizer.step()
    if spoil and rank == 1:
        with torch.no_grad():
            model[2].bias[0] += 1
    dist.barrier()
if watch is not None:
    watch.close()
    view = watch.view
    ranks = view.ranks
    print(json.dumps({"errors": watch.errors, "found": [d.name for d in watch.diagnoses], "steps": watch.steps,
                      "ranks": None if ranks is None else [ranks.ranks, ranks.step, list(ranks.differing)],
                      "loss": view.loss, "cleared": view.is_cleared, "batch": list(view.batch.inputs.sizes)}))
dist.destroy_process_group()
"""


def two_processes(folder: Path, *, spoil: bool = False, only_first: bool = False) -> list[dict[str, Any]]:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = folder / "worker.py"
    script.write_text(WORKER)
    running = [
        subprocess.Popen(
            [sys.executable, script, str(rank), str(port), str(int(spoil)), str(int(only_first))],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    found = []
    for one in running:
        out, err = one.communicate(timeout=240)
        assert one.returncode == 0, err
        found += [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [False, True])
def test_two_processes_are_compared(tmp_path: Path, spoil: bool) -> None:
    found = two_processes(tmp_path, spoil=spoil)
    assert len(found) == 2
    for one in found:
        assert one["errors"] == []
        assert one["found"] == (["replicas-differ"] if spoil else [])
        assert (one["steps"], one["cleared"], one["batch"]) == (12, True, [8, 16])
        count, step, differing = one["ranks"]
        assert (count, step) == (2, 8)
        assert differing == (["2.bias"] if spoil else [])


@pytest.mark.slow
def test_a_watch_in_one_process_waits_for_nobody(tmp_path: Path) -> None:
    [found] = two_processes(tmp_path, only_first=True)
    assert (found["steps"], found["ranks"], found["errors"]) == (12, None, [])


@pytest.mark.gpu
def test_unsampled_steps_do_not_wait_for_the_device(digits: Data) -> None:
    model = mlp().cuda()
    x, y = digits[0][:256].cuda(), digits[1][:256].cuda()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    with nb.watch(model, sample_every=100) as watch:
        step()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(50):
                step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert watch.errors == []
        assert (watch.steps, watch.sampled) == (51, 1)
