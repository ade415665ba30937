"""What `nb.preflight` leaves as it was, what it returns, stores and shows, and what it refuses."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import nbops as nb
from nbops.core.display import mimebundle
from nbops.core.errors import CheckFailed, InvalidInput
from nbops.debugging.loading import last_size, one_batch
from nbops.debugging.preflight.report import PreflightReport
from nbops.verbs.grammar import Call, dispatch

if TYPE_CHECKING:
    from nbops.store.workspace import Workspace

BATCH = torch.randn(8, 20), torch.arange(8) % 3


def net(width: int = 16) -> nn.Sequential:
    return nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.Dropout(), nn.Linear(width, 3))


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would have us compile
        return torch.jit.script(nn.ReLU())


def look(model: Any, batch: Any = BATCH, **more: Any) -> PreflightReport:
    return nb.preflight(model, batch, **{"loss": nn.CrossEntropyLoss(), **more})


# ---- nothing changes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overfit", [False, True])
@pytest.mark.parametrize("width", [16, 99])
def test_nothing_of_the_user_changes(width: int, overfit: bool) -> None:
    model = net(width)
    model[1].eval()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    model[0](BATCH[0]).sum().backward()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    gradient = model[0].weight.grad.clone()
    random = torch.get_rng_state(), np.random.get_state()[1].copy()
    hooks = [dict(m._forward_hooks) for m in model.modules()]
    look(model, optimizer=optimizer, overfit=overfit)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(model[0].weight.grad, gradient)
    assert model[3].weight.grad is None
    assert optimizer.state == {}
    assert [m.training for m in model.modules()] == [True, True, False, True, True]
    assert torch.equal(torch.get_rng_state(), random[0])
    assert (np.random.get_state()[1] == random[1]).all()
    assert [dict(m._forward_hooks) for m in model.modules()] == hooks


# ---- the batch -------------------------------------------------------------------------------------------------------


def test_the_first_batch_of_a_loader_leaves_its_generator() -> None:
    generator = torch.Generator().manual_seed(3)
    loader = DataLoader(TensorDataset(*BATCH), batch_size=4, shuffle=True, generator=generator, num_workers=2)
    before = generator.get_state()
    x, _ = one_batch(loader)
    assert x.shape == (4, 20)
    assert torch.equal(generator.get_state(), before)


class Batches:
    """A loader of one's own, which holds its tensors."""

    def __init__(self) -> None:
        self.x, self.y = BATCH

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.x[:2], self.y[:2]


def test_anything_that_gives_batches_is_a_loader() -> None:
    assert one_batch(Batches())[0].shape == (2, 20)
    assert one_batch([BATCH, BATCH]) is BATCH
    assert one_batch([{"x": BATCH[0]}, {"x": BATCH[0]}]) == {"x": BATCH[0]}


@pytest.mark.parametrize("batch", [BATCH, list(BATCH), {"x": BATCH[0]}, BATCH[0], [BATCH[0], (BATCH[0], BATCH[1])]])
def test_a_batch_is_no_loader(batch: Any) -> None:
    assert one_batch(batch) is batch


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        ((row for row in [BATCH]), "an iterator would lose its first batch"),
        (iter([BATCH]), "an iterator would lose its first batch"),
        (TensorDataset(*BATCH), "is a data set"),
        (DataLoader(TensorDataset(*BATCH), batch_size=16, drop_last=True), "gives no batch"),
    ],
)
def test_what_is_no_batch_is_refused(batch: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        one_batch(batch)


def test_the_last_batch_of_an_epoch_is_known() -> None:
    data = TensorDataset(*BATCH)
    assert last_size(DataLoader(data, batch_size=3)) == 2
    assert last_size(DataLoader(data, batch_size=4)) is None
    assert last_size(DataLoader(data, batch_size=3, drop_last=True)) is None


class Broken(Dataset[Tensor]):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, row: int) -> Tensor:
        return BATCH[0][row / 2]  # type: ignore[index]  # here


def test_a_data_set_that_raises_is_found_at_its_line() -> None:
    report = look(net(), DataLoader(Broken(), batch_size=4))
    (found,) = report.errors
    assert found.name == "loading-error"
    assert found.code.endswith("# here")


# ---- the report ------------------------------------------------------------------------------------------------------


def test_stages_fail_fast() -> None:
    stages = {stage.name: stage.verdict for stage in look(net(99)).stages}
    assert stages == {
        "structure": "pass", "settings": "pass", "batch": "pass", "forward": "fail",
        "dependencies": "skipped", "loss": "skipped", "backward": "skipped", "last batch": "skipped",
        "evaluation": "skipped",
    }  # fmt: skip


def test_several_crashes_are_told_at_once() -> None:
    model = nn.Sequential(nn.Linear(20, 16), nn.Linear(8, 32), nn.ReLU(), nn.Linear(30, 3))
    assert [d.layer for d in look(model).errors] == ["1", "3"]


def test_a_bad_report_raises() -> None:
    assert look(net()).raise_if_bad().is_ok
    with pytest.raises(CheckFailed, match="shape-mismatch at '3'"):
        look(net(99)).raise_if_bad()


def test_findings_are_stored_with_the_open_run(workspace: Workspace) -> None:
    with nb.run("checked") as run:
        (found,) = look(net(99)).errors
    (kept,) = nb.find("diagnosis")
    assert (kept.id, kept.parent, kept.phase, kept.step) == (found.id, run.id, "preflight", -1)


def test_findings_are_not_stored_without_a_run(workspace: Workspace) -> None:
    look(net(99))
    assert len(nb.find("diagnosis")) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"model": 3}, "cannot look at a int"),
        ({"model": lambda: 3}, "made a int"),
        ({"model": nn.Sequential(torch.nn.Linear(20, 3), scripted())}, "scripted model"),
        ({"loss": 3}, "loss is a int"),
        ({"forward": 3}, "forward is a int"),
        ({"optimizer": 3}, "optimizer is a int"),
        ({"budget_s": 0}, "budget_s is 0"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(arguments: dict[str, Any], says: str) -> None:
    given = {"model": net(), "batch": BATCH, **arguments}
    with pytest.raises((InvalidInput, TypeError), match=says):
        nb.preflight(**given)


def test_the_card_shows_the_line_and_what_to_write() -> None:
    model = nn.Sequential(
        nn.Linear(20, 16),
        nn.Linear(99, 3),
    )
    bundle = mimebundle(look(model))
    for text in (bundle["text/plain"], bundle["text/html"]):
        assert "1 error" in text
        assert "nn.Linear(16, 3)" in text
        assert "test_preflight.py, line" in text
        assert "in_features=16" in text
    assert "ready to train" in mimebundle(look(net()))["text/plain"]
    assert len(bundle["text/html"].encode()) <= 20_000


def test_the_verb_takes_a_loader_or_tensors() -> None:
    variables = {
        "net": net(), "x": BATCH[0], "y": BATCH[1], "ce": nn.CrossEntropyLoss(),
        "loader": DataLoader(TensorDataset(*BATCH), batch_size=4),
    }  # fmt: skip
    variables["opt"] = torch.optim.SGD(variables["net"].parameters(), 0.1)
    for words in (["net", "x", "y"], ["net", "loader"]):
        report = dispatch(["preflight", *words, "--loss", "ce", "--optimizer", "opt"], Call(namespace=variables))
        assert isinstance(report, PreflightReport)
        assert report.is_ok


# ---- search spaces ---------------------------------------------------------------------------------------------------


def attention(heads: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(20, width), nn.Unflatten(1, (1, width)), nn.TransformerEncoderLayer(width, heads, batch_first=True),
        nn.Flatten(), nn.Linear(width, 3),
    )  # fmt: skip


def test_a_space_names_its_invalid_points_and_why() -> None:
    space = {"heads": [2, 3], "width": [16, 24], "lr": [1e-3, -1.0]}
    report = nb.preflight_space(
        attention, space, batch=BATCH, loss=nn.CrossEntropyLoss(),
        optimizer=lambda parameters, lr: torch.optim.Adam(parameters, lr),
    )  # fmt: skip
    assert report.total == report.looked_at == 8
    assert [(p["heads"], p["width"], p["lr"]) for p in report.valid] == [(2, 16, 1e-3), (2, 24, 1e-3), (3, 24, 1e-3)]
    assert report.invalid_share == 5 / 8
    where = {reason.layer: reason.where for reason in report.reasons}
    assert where == {"optimizer": "lr=-1.0", "MultiheadAttention": "heads=3, width=16"}
    text = mimebundle(report)["text/plain"]
    assert "62% cannot be trained" in text
    assert "lr=-1.0" in text


def test_a_space_knows_what_fits_into_memory() -> None:
    report = nb.preflight_space(
        lambda width: nn.Sequential(nn.Linear(20, width), nn.Linear(width, 3)), {"width": [16, 4_000_000], "size": [4]},
        batch=lambda size: (BATCH[0][:size], BATCH[1][:size]), loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.AdamW, device_gb=1,
    )  # fmt: skip
    assert [point["width"] for point in report.valid] == [16]
    (reason,) = report.reasons
    assert (reason.check, reason.where) == ("out-of-memory", "width=4000000")


def test_memory_of_a_space_needs_a_batch() -> None:
    with pytest.raises(InvalidInput, match="without a batch"):
        nb.preflight_space(lambda width: nn.Linear(width, 2), {"width": [3]}, device_gb=1)


def test_a_large_space_is_sampled_evenly() -> None:
    space = {"width": list(range(1, 41)), "heads": list(range(1, 11))}
    report = nb.preflight_space(lambda width, heads: nn.Linear(width, heads), space, most=40)
    assert (report.total, report.looked_at) == (400, 40)
    assert {p["heads"] for p in report.valid} == set(range(1, 11))
    assert len({p["width"] for p in report.valid}) > 30


@pytest.mark.parametrize(("space", "says"), [({"width": []}, "no point"), ({"other": [1]}, "nothing takes other")])
def test_a_space_that_says_nothing_is_refused(space: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        nb.preflight_space(lambda width=3: nn.Linear(width, 2), space)


# ---- in a notebook ---------------------------------------------------------------------------------------------------


def test_a_finding_names_the_line_of_a_script(tmp_path: Path) -> None:
    """The class stands in another file than the call."""
    file = tmp_path / "networks.py"
    file.write_text(
        "from torch import nn\n\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.fc = nn.Linear(9, 3)\n\n    def forward(self, x):\n        return self.fc(x)\n"
    )
    scope: dict[str, Any] = {"__name__": "networks"}
    exec(compile(file.read_text(), str(file), "exec"), scope)  # noqa: S102
    (found,) = look(scope["Net"]()).errors
    assert (found.line, found.code, found.evidence["file"]) == (6, "self.fc = nn.Linear(9, 3)", "networks.py")


class Rows(nn.Module):
    """Reads the samples of a batch as time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(5, width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def test_dependencies_change_copies_only() -> None:
    x, model = torch.randn(8, 7, 5), Rows(8)
    before, random = x.clone(), torch.get_rng_state()
    report = look(model, (x, torch.arange(8)))
    assert [(d.name, d.causes[0].name) for d in report.findings] == [("samples-mixed", "axes-swapped")]
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), random)


def test_dependencies_are_left_out_where_a_pass_takes_too_long() -> None:
    report = look(Rows(4096), (torch.randn(8, 7, 5), torch.arange(8)), budget_s=0.01)
    stage = next(stage for stage in report.stages if stage.name == "dependencies")
    assert (stage.verdict, "takes too long" in stage.note) == ("pass", True)


# ---- losses and shapes that the user wrote ---------------------------------------------------------------------------


def soft_loss(output: Tensor, target: Tensor) -> Tensor:
    return -torch.log_softmax(output, 1)[torch.arange(len(target)), target].mean()


@pytest.mark.parametrize("ends_with_softmax", [True, False])
def test_a_softmax_before_the_softmax_of_a_loss_of_the_users(ends_with_softmax: bool) -> None:
    layers = [nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 3), *([nn.Softmax(1)] if ends_with_softmax else [])]
    found = [f for f in look(nn.Sequential(*layers), loss=soft_loss).findings if f.name == "double-activation"]
    assert [(f.status, f.causes[0].name) for f in found] == [("error", "double-softmax")] * ends_with_softmax


class Fixed(nn.Module):
    """Attention with a mask of one length: fewer samples fail where it takes them for the time."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(9, 16), nn.Linear(16, 9)
        self.attend = nn.MultiheadAttention(16, 2, batch_first=batch_first)

    def forward(self, tokens: Tensor) -> Tensor:
        h, mask = self.embed(tokens), torch.ones(12, 12, dtype=torch.bool).triu(1)
        return self.head(h + self.attend(h, h, h, attn_mask=mask, need_weights=False)[0])


@pytest.mark.parametrize("batch_first", [True, False])
def test_samples_that_are_mixed_where_the_size_of_the_batch_is_written_in_forward(batch_first: bool) -> None:
    tokens = torch.randint(0, 9, (12, 13), generator=torch.Generator().manual_seed(0))
    batch = tokens[:, :-1], tokens[:, 1:]
    model = Fixed(batch_first=batch_first)
    report = look(model, batch, loss=lambda scores, target: nn.functional.cross_entropy(scores.mT, target))
    assert [f.name for f in report.findings if f.name == "samples-mixed"] == ["samples-mixed"] * (not batch_first)


@pytest.mark.parametrize("is_drawn", [True, False])
def test_two_factors_that_both_start_at_zero(is_drawn: bool) -> None:
    model = nn.Sequential(nn.Linear(20, 4, bias=False), nn.Linear(4, 3, bias=False))
    for layer in model[is_drawn:]:
        nn.init.zeros_(layer.weight)
    found = [f for f in look(model).findings if f.name == "zero-gradient"]
    assert [f.causes[0].name for f in found] == [] if is_drawn else ["constant-init"]


@pytest.mark.parametrize(("deviation", "is_found"), [(1.0, True), (0.125, False)])
def test_weights_of_deviation_one_are_too_large(deviation: float, is_found: bool) -> None:
    model = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3))
    nn.init.normal_(model[2].weight, 0, deviation)
    found = [f.layer for f in look(model).findings if f.name == "oversized-weights"]
    assert found == ["2"] * is_found


@pytest.mark.parametrize(("bias", "cause"), [(-10.0, ["dead-relu"]), (0.0, [])])
def test_units_that_a_bias_holds_off_make_an_output_constant(bias: float, cause: list[str]) -> None:
    model = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    nn.init.constant_(model[2].bias, bias)
    found = [f for f in look(model).findings if f.name == "constant-output"]
    assert [f.causes[0].name for f in found] == cause
