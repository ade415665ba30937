"""Not a problem here: what is muted is listed and stops nothing, in this notebook only, until it is taken back."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import nbops as nb
from nbops.core.errors import NotFound, TrainingStopped
from nbops.core.mutes import Mute
from nbops.core.records import Diagnosis
from nbops.debugging import muting
from nbops.debugging.findings import DebuggerWarning
from nbops.debugging.handle import Watch
from nbops.store.workspace import Workspace

Data = tuple[Tensor, Tensor]
RULE = "gradients-not-cleared"


@pytest.fixture(autouse=True)
def _read_again() -> None:
    muting.forget()


def sick(data: Data, *, steps: int = 12, on_error: str = "warn", muted: tuple[str, str | None] | None = None) -> Watch:
    """Train without clearing the gradients."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    optimizer, criterion = torch.optim.SGD(net.parameters(), 0.01), nn.CrossEntropyLoss()
    with nb.watch(net, optimizer=optimizer, loss=criterion, on_error=on_error) as watch:
        if muted:
            watch.mute(muted[0], layer=muted[1])
        for step in range(steps):
            criterion(net(data[0][step * 32 : step * 32 + 32]), data[1][step * 32 : step * 32 + 32]).backward()
            optimizer.step()
    return watch


def status(watch: Watch) -> str:
    return next(d.status for d in watch.diagnoses if d.name == RULE)


def test_what_is_not_muted_is_told_and_stops(workspace: Workspace, digits: Data) -> None:
    with pytest.warns(DebuggerWarning, match=RULE):
        assert status(sick(digits)) == "error"
    with pytest.raises(TrainingStopped, match=RULE):
        sick(digits, on_error="stop")


def test_what_is_muted_is_listed_and_stops_nothing_also_in_the_next_watch(workspace: Workspace, digits: Data) -> None:
    with warnings.catch_warnings(), nb.run("muted") as live:
        warnings.simplefilter("error", DebuggerWarning)
        watch = sick(digits, muted=(RULE, None))
        again = sick(digits, on_error="stop")
    for one in (watch, again):
        assert status(one) == "muted"
        assert one.steps == 12
        assert "Nothing is wrong so far." in str(one)
        assert "1 muted" in str(one)
        assert f"– muted  {RULE}" in str(one)
    stored = [d for d in workspace.store.find(Diagnosis) if d.parent == live.id]
    assert {d.status for d in stored if d.name == RULE} == {"muted"}
    assert [m.name for m in again.mutes] == [RULE]


def test_one_layer_is_muted_by_name_or_pattern(workspace: Workspace, digits: Data) -> None:
    with pytest.warns(DebuggerWarning, match=RULE):
        assert status(sick(digits, muted=(RULE, "encoder.*"))) == "error"
    assert status(sick(digits, muted=(RULE, "opt*"))) == "muted"


def test_muting_what_was_already_told_and_telling_it_again(workspace: Workspace, digits: Data) -> None:
    with pytest.warns(DebuggerWarning, match=RULE):
        watch = sick(digits)
    made = watch.mute(RULE)
    assert watch.mute(RULE) == made
    assert status(watch) == "muted"
    assert "muted" in str(made)
    assert f"%mlops watch-mute {RULE} --undo" in str(made)
    watch.unmute(RULE)
    assert (status(watch), watch.mutes, workspace.store.find(Mute)) == ("error", [], [])
    with pytest.warns(DebuggerWarning, match=RULE):
        sick(digits)


def test_a_finding_that_is_no_longer_muted_is_new_again(workspace: Workspace, digits: Data) -> None:
    net, criterion = nn.Sequential(nn.Linear(64, 10)), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), 0.01)

    def train() -> None:
        for _ in range(6):
            criterion(net(digits[0][:32]), digits[1][:32]).backward()
            optimizer.step()

    with nb.watch(net, optimizer=optimizer, loss=criterion, sample_every=1) as watch:
        watch.mute(RULE)
        train()
        assert status(watch) == "muted"
        watch.unmute(RULE)
        with pytest.warns(DebuggerWarning, match=RULE):
            train()
    assert [d.status for d in watch.diagnoses if d.name == RULE] == ["muted", "error"]


def test_another_notebook_is_told(workspace: Workspace, digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = workspace.path.parent
    monkeypatch.setenv("JPY_SESSION_NAME", str(folder / "a.ipynb"))
    sick(digits, muted=(RULE, None))
    assert workspace.store.find(Mute)[0].notebook == "a.ipynb"
    monkeypatch.setenv("JPY_SESSION_NAME", str(folder / "b.ipynb"))
    with pytest.warns(DebuggerWarning, match=RULE):
        assert status(sick(digits)) == "error"
    monkeypatch.setenv("JPY_SESSION_NAME", str(folder / "a.ipynb"))
    assert status(sick(digits)) == "muted"


def test_an_unknown_rule_is_refused_with_the_nearest_name(workspace: Workspace) -> None:
    with pytest.raises(NotFound) as caught:
        muting.mute("dead-unit")
    assert "dead-units" in str(caught.value.hint)
    assert workspace.store.find(Mute) == []


def test_weights_stay_whole_although_a_nan_is_muted(workspace: Workspace, digits: Data) -> None:
    net, criterion = nn.Sequential(nn.Linear(64, 10)), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    with nb.watch(net, optimizer=optimizer, loss=criterion, on_error="stop") as watch:
        watch.mute("non-finite-loss")
        watch.mute("non-finite-gradient")
        criterion(net(digits[0][:32] * float("nan")), digits[1][:32]).backward()
        optimizer.step()
    assert all(p.isfinite().all() for p in net.parameters())
    assert {d.status for d in watch.diagnoses} <= {"muted"}


def test_asking_makes_no_workspace(tmp_path: Path, digits: Data) -> None:
    with pytest.warns(DebuggerWarning, match=RULE):
        assert sick(digits).mutes == []
    assert list(tmp_path.iterdir()) == []
