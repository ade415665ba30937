"""`nb.memory`: close to the real allocator, cheap, harmless, and clear about what would need less."""

from __future__ import annotations

import copy
from functools import partial
from itertools import product
from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nbops as nb
from nbops.core.errors import InvalidInput, NotFound
from nbops.debugging.memory.options import blocks_of, checkpointed
from tests.debugging.memory.models import MODELS, OPTIMIZERS, real_peak

memory = partial(nb.memory, budget_s=600)  # no test depends on how fast the machine is
HOWS = ("fp32", "bf16", "checkpointing")
# Every model, optimizer and kind of precision is met; all 108 combinations are measured by `make bench`.
SOME = [(name, list(OPTIMIZERS)[i % 3], HOWS[(i + i // 3) % 3]) for i, name in enumerate(MODELS)]


def error_of(name: str, optimizer: str, how: str) -> float:
    """Return by how much the estimate is off, as a share of the real peak."""
    made, change = MODELS[name], checkpointed if how == "checkpointing" else None
    torch.manual_seed(0)
    real = real_peak(made, optimizer, autocast=how == "bf16", change=change)
    model, batch, loss = made()
    if change is not None:
        change(model)
    precision = "bf16-autocast" if how == "bf16" else "fp32"
    report = memory(
        model, batch, loss=loss, optimizer=OPTIMIZERS[optimizer](model), device="cpu", precision=precision,
        what_if=False, batch_sizes=[],
    )  # fmt: skip
    assert report.notes == ()  # nothing had to be run with real tensors
    return abs(report.estimate.allocated - real) / real


@pytest.fixture
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # scratch space of some operations grows with the number of threads
    yield
    torch.set_num_threads(before)


def can_run(name: str, how: str) -> bool:
    """Return whether this processor can run a case: oneDNN has no bfloat16 LSTM for those without AVX-512."""
    return not (name == "lstm" and how == "bf16") or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def test_estimates_are_within_two_per_cent_of_the_real_peak(one_thread: None) -> None:
    errors = {case: error_of(*case) for case in SOME if can_run(case[0], case[2])}
    assert {case: error for case, error in errors.items() if error > 0.02} == {}
    assert median(errors.values()) <= 0.01


def test_every_kind_of_model_optimizer_and_precision_is_among_those() -> None:
    assert {o for _, o, _ in SOME} == set(OPTIMIZERS)
    assert {h for _, _, h in SOME} == set(HOWS)
    assert len({(o, h) for _, o, h in SOME}) == len(list(product(OPTIMIZERS, HOWS)))


@pytest.fixture
def small() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    model = nn.Sequential(nn.Linear(40, 64), nn.Dropout(), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
    return model, (torch.randn(32, 40), torch.randint(0, 10, (32,)))


def test_model_optimizer_and_random_states_stay_as_they_were(small: Any) -> None:
    model, batch = small
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
    optimizer.step()
    model.eval()
    before, random = copy.deepcopy((model.state_dict(), optimizer.state_dict())), torch.get_rng_state()
    grads = [p.grad for p in model.parameters()]
    memory(model, batch, loss=nn.CrossEntropyLoss(), optimizer=optimizer, device_gb=8)
    for now, then in zip((model.state_dict(), optimizer.state_dict()), before, strict=True):
        torch.testing.assert_close(now, then, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random)
    assert not model.training
    assert all(p.grad is grad for p, grad in zip(model.parameters(), grads, strict=True))


def test_parts_are_those_that_can_be_counted_by_hand(small: Any) -> None:
    model, batch = small
    report = memory(model, batch, loss=nn.CrossEntropyLoss(), optimizer="adamw", device="cpu", what_if=False)
    weights = 4 * sum(p.numel() for p in model.parameters())
    parts = report.estimate.peak.parts
    assert parts["parameters"] == weights
    assert parts["optimizer state"] == 2 * weights + 4 * len(list(model.parameters()))  # a count of steps each
    assert parts["batch"] == 32 * 40 * 4 + 32 * 8
    assert sum(parts.values()) == report.estimate.allocated
    assert report.parameters == report.trainable == weights // 4


def test_a_batch_never_needs_memory_to_be_estimated() -> None:
    model = nn.Sequential(nn.Linear(1 << 12, 1 << 12), nn.ReLU(), nn.Linear(1 << 12, 1 << 12))
    batch = (torch.empty(4, 1 << 12), torch.empty(4, 1 << 12))
    report = memory(model, batch, loss=nn.MSELoss(), batch_sizes=[1 << 26], what_if=False)
    assert report.by_batch[-1].allocated > 1 << 40  # a TiB


def test_the_largest_batch_fits_and_a_larger_one_does_not(small: Any) -> None:
    model, batch = small
    loss = nn.CrossEntropyLoss()
    largest = memory(model, batch, loss=loss, device="cpu", device_gb=0.02, what_if=False).largest_batch
    assert largest is not None
    sizes = [largest, largest + largest // 12]
    fits, not_fits = memory(model, batch, loss=loss, device="cpu", batch_sizes=sizes, what_if=False).by_batch[1:]
    assert fits.allocated <= 0.02e9 * 0.97 < not_fits.allocated
    report = memory(model, batch, loss=loss, device="cpu", device_gb=0.00001, what_if=False)
    assert report.largest_batch == 0
    assert report.fits is False


def test_lower_precision_other_optimizers_checkpoints_and_accumulation_are_tried() -> None:
    model, batch, loss = MODELS["decoder"]()
    report = memory(model, batch, loss=loss, optimizer="adamw", device="cpu")
    given = report.estimate.allocated
    options = {one.name: one for one in report.options}
    weights = 4 * report.parameters
    for name in ("sgd", "momentum", "adamw-8bit", "bf16 autocast", "bf16 weights", "checkpointed blocks"):
        assert options[name].allocated < given, name
    assert given - options["sgd"].allocated == pytest.approx(2 * weights, rel=0.02)
    assert options["momentum"].allocated - options["sgd"].allocated == pytest.approx(weights, rel=0.02)
    states = {name: options[name].peak.parts["optimizer state"] for name in ("adamw", "adamw-8bit")}
    assert states["adamw-8bit"] < 0.3 * states["adamw"]
    assert options["checkpointed blocks"].peak.parts["activations"] < report.estimate.peak.parts["activations"]
    assert any(name.startswith("accumulate 2") for name in options)


def test_blocks_are_found_where_a_model_repeats_itself() -> None:
    assert len(blocks_of(MODELS["decoder"]()[0])) == 3
    assert blocks_of(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))) == []


def test_frozen_layers_keep_neither_gradients_nor_state(small: Any) -> None:
    model, batch = small
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    report = memory(model, batch, loss=nn.CrossEntropyLoss(), optimizer="adamw", device="cpu", what_if=False)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert report.trainable == trainable
    assert report.estimate.peak.parts["optimizer state"] == 8 * trainable + 4 * 4


class Deciding(nn.Module):
    """Looks at values on its way: fake tensors cannot run it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x)
        return found if found.sum().item() > 0 else -found


def test_control_flow_by_values_is_measured_with_real_tensors_and_said_to_be() -> None:
    model, batch = Deciding(), (torch.randn(8, 16), torch.randn(8, 16))
    before = copy.deepcopy(model.state_dict())
    report = memory(model, batch, loss=nn.MSELoss(), device="cpu")
    assert "Measured with real tensors" in report.notes[0]
    by_hand = 4 * (16 * 16 + 16)
    assert report.estimate.peak.parts["parameters"] == by_hand
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_models_that_return_their_loss_need_none(small: Any) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(40, 10)

        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            out = self.layer(x)
            return {"loss": nn.functional.cross_entropy(out, labels), "logits": out}

    _, (x, y) = small
    named = memory(Own(), {"x": x, "labels": y}, device="cpu", what_if=False)
    own = memory(Own(), (x, y), forward=lambda m, b: m(*b)["loss"], device="cpu", what_if=False)
    assert named.estimate.peak.parts["parameters"] == own.estimate.peak.parts["parameters"] == 4 * 410


def test_parameters_that_the_loss_does_not_reach_have_no_state() -> None:
    model = nn.ModuleDict({"used": nn.Linear(8, 8), "unused": nn.Linear(64, 64)})
    report = memory(
        model, (torch.randn(4, 8),), forward=lambda m, b: m["used"](b[0]).sum(), optimizer="adamw", device="cpu",
        what_if=False,
    )  # fmt: skip
    assert report.estimate.peak.parts["optimizer state"] == 8 * 72 + 8


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"model": "net"}, "a str is no model"),
        ({"batch": 3}, "the batch holds no tensor"),
        ({"precision": "fp23"}, "'fp23' is none of"),
        ({"device": "cudo"}, "Did you mean 'cuda'"),
        ({"optimizer": 3}, "optimizer is a int"),
        ({"batch": (torch.zeros(4, 41), torch.zeros(4))}, "the step cannot run: RuntimeError: mat1 and mat2 shapes"),
        ({"batch": (torch.zeros(4, 40),)}, "the batch has no target"),
    ],
)
def test_what_cannot_be_estimated_is_named(small: Any, arguments: dict[str, Any], says: str) -> None:
    model, batch = small
    given = {"model": model, "batch": batch, "loss": nn.CrossEntropyLoss(), **arguments}
    with pytest.raises(InvalidInput, match=says):
        memory(given.pop("model"), given.pop("batch"), **given)


def test_an_unknown_optimizer_is_answered_with_the_nearest(small: Any) -> None:
    with pytest.raises(NotFound, match="no optimizer 'adamx'\nDid you mean 'adam'"):
        memory(*small, loss=nn.CrossEntropyLoss(), optimizer="adamx")


def test_the_answer_is_a_card_a_chart_and_words(small: Any) -> None:
    report = memory(*small, loss=nn.CrossEntropyLoss(), device_gb=1)
    shown = report._repr_mimebundle_()
    assert "memory of Sequential" in shown["text/plain"]
    assert "fits" in shown["text/plain"]
    assert "<svg" in shown["text/html"]
    assert len(shown["text/html"].encode()) <= 20_000
    chart = report.chart._repr_mimebundle_()["application/vnd.plotly.v1+json"]
    assert {trace["name"] for trace in chart["data"]} >= {"parameters", "activations", "allocator and CUDA"}
    assert chart["layout"]["barmode"] == "stack"
    over = memory(*small, loss=nn.CrossEntropyLoss(), device_gb=0.1)
    assert "does not fit" in str(over)
    assert "too much" in str(over)


def test_a_loader_stands_for_its_first_batch(small: Any) -> None:
    model, (x, y) = small
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8, shuffle=True)
    state = torch.get_rng_state()
    report = memory(model, loader, loss=nn.CrossEntropyLoss(), device="cpu", what_if=False)
    assert report.estimate.batch == 8
    assert report.estimate == memory(model, (x[:8], y[:8]), loss=nn.CrossEntropyLoss(), device="cpu",
                                     what_if=False).estimate  # fmt: skip
    assert torch.equal(torch.get_rng_state(), state)
