"""Where two watched trainings part: small real trainings, laid side by side by `nb.diff`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import nbops as nb
from nbops.core.display import mimebundle
from nbops.core.errors import CorruptData, InvalidInput
from nbops.core.records import Artifact, Run
from nbops.store.traces import MEDIA_TYPE, SIGNALS, Traces, pack, unpack
from nbops.tracking.comparing.aligning import Alignment, align

Made = Callable[[], nn.Sequential]


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 1))


def train(
    name: str, *, make: Made = plain, seed: int = 0, lr_from_20: float = 0.1, steps: int = 30, every: int | None = 1,
    watched: bool = True,
) -> None:  # fmt: skip
    """Train on the same batches whatever the seed of the weights is."""
    torch.manual_seed(seed)
    net = make()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    batches = torch.Generator().manual_seed(7)
    watch = nb.watch(net, sample_every=every, live=False) if watched else None
    with nb.run(name):
        for step in range(steps):
            if step == 20:
                optimizer.param_groups[0]["lr"] = lr_from_20
            x = torch.randn(16, 6, generator=batches)
            optimizer.zero_grad()
            (net(x) - x.sum(1, keepdim=True).sin()).square().mean().backward()
            optimizer.step()
    if watch is not None:
        watch.close()


def compared(a: str, b: str, **options: Any) -> Alignment:
    (found,) = nb.diff(a, b, **options).layers
    return found


def test_the_same_seed_agrees_bit_for_bit(workspace: Any) -> None:
    train("one")
    train("two")
    found = compared("one", "two")
    assert found.is_same
    assert found.is_equal
    assert (found.partings, found.notes, len(found.steps), found.last_alike) == ((), (), 30, 29)
    assert found.layers == ("0", "1", "2", "3", "4")
    assert found.lines() == [
        "The two trainings agree bit for bit in all numbers that were kept of 30 steps and 5 layers."
    ]


def test_another_rate_from_step_20_on_parts_there_by_its_updates(workspace: Any) -> None:
    train("one")
    train("two", lr_from_20=0.05)
    difference = nb.diff("one", "two")
    (found,) = difference.layers
    assert not difference.is_same
    first = found.partings[0]
    assert (first.step, first.layer, first.signal) == (20, "0", "update ratio")
    assert first.difference == pytest.approx(0.5, rel=1e-4)
    assert (found.last_alike, found.last_equal) == (19, 19)
    assert np.nansum(found.differences[:, :20]) == 0
    lines = found.lines()
    said = "The two trainings agree until step 19. First to part is layer 0 at step 20 (update ratio "
    assert lines[0].startswith(said)
    assert lines[1].startswith("Then layer 2 at step 20 (update ratio ")
    assert lines[-1] == "The learning rate differs at step 20: 0.1 against 0.05."
    text, markup = (mimebundle(difference)[kind] for kind in ("text/plain", "text/html"))
    assert lines[0] in " ".join(text.split())
    assert 'aria-label="Relative difference of layers over steps"' in markup
    assert "data:image/png;base64," in markup
    assert "<script" not in markup


def test_a_changed_layer_parts_at_once_and_is_named(workspace: Any) -> None:
    def smooth() -> nn.Sequential:
        return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 1))

    train("one")
    train("two", make=smooth)
    found = compared("one", "two")
    first = found.partings[0]
    assert (first.step, first.layer, first.signal, found.last_alike) == (0, "3", "activation rms", None)
    assert found.lines()[0].startswith("First to part is layer 3 at step 0 (activation rms ")
    assert "3 is a ReLU in the first run and a Tanh in the second." in found.notes


def test_another_seed_parts_at_the_first_layer_of_step_0(workspace: Any) -> None:
    train("one")
    train("two", seed=1)
    found = compared("one", "two")
    assert [(p.step, p.layer, p.signal) for p in found.partings[:3]] == [
        (0, "0", "activation rms"), (0, "1", "activation rms"), (0, "2", "activation rms"),
    ]  # fmt: skip
    assert [p.layer for p in found.partings] == ["0", "1", "2", "3", "4"]
    assert found.first == 0


def test_layers_with_other_names_are_aligned_by_their_order_and_one_more_is_named(workspace: Any) -> None:
    def longer() -> nn.Sequential:
        inner = plain()
        return nn.Sequential(inner[0], nn.Identity(), *inner[1:])

    train("one")
    train("two", make=longer)
    found = compared("one", "two")
    assert found.is_equal
    assert found.layers == ("0", "1", "2", "3", "4")
    assert found.notes == (
        "Layers are aligned by their order: 1 of the first run is 2 of the second, and 3 more.",
        "Only the second run has 1 (Identity).",
    )


def test_a_tolerance_decides_what_counts(workspace: Any) -> None:
    train("one")
    train("two", lr_from_20=0.1 * (1 + 1e-5))
    loose, tight = compared("one", "two"), compared("one", "two", tolerance=1e-7)
    assert (loose.is_same, loose.is_equal, loose.last_equal) == (True, False, 19)
    assert loose.lines()[0].startswith("The two trainings agree within 0.1 % up to step 29; at most ")
    assert loose.lines()[1] == "They are equal bit for bit until step 19."
    assert tight.partings[0].step == 20
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(InvalidInput, match="a tolerance of"):
            nb.diff("one", "two", tolerance=bad)


def test_of_runs_that_measured_other_steps_the_common_ones_are_compared(workspace: Any) -> None:
    train("one", steps=60, every=2)
    train("two", steps=90, every=3)
    found = compared("one", "two")
    assert found.is_equal
    assert set(range(32)) <= set(found.steps.tolist())  # gradients are known at each step
    assert {36, 40, 48} <= set(found.steps.tolist())
    assert found.steps.max() < 60
    assert "steps are compared" in found.notes[-1]


def test_without_a_common_step_nothing_is_said_to_be_alike() -> None:
    def traces(step: int) -> Traces:
        return Traces("net", ("a",), ("Linear",), np.array([step]), np.ones((1, 1, len(SIGNALS))), np.ones(1))

    found = align(traces(1), traces(2))
    assert (found.is_same, found.is_equal) == (False, False)
    assert found.lines()[0].startswith("No step was kept of both runs")


def test_what_is_not_finite_in_one_run_parts_and_in_both_does_not() -> None:
    values = np.ones((3, 2, len(SIGNALS)))
    other = values.copy()
    values[1, 1, 2] = other[1, 1, 2] = math.inf
    other[2, 0, 2] = math.inf
    values[2, 1, 2] = math.nan  # not measured in one of them: nothing to compare
    other[2, 1, 2] = 5.0
    at, rates = np.arange(3), np.ones(3)
    found = align(
        Traces("net", ("a", "b"), ("", ""), at, values, rates), Traces("net", ("a", "b"), ("", ""), at, other, rates)
    )
    assert [(p.step, p.layer, p.b) for p in found.partings] == [(2, "a", math.inf)]


def test_runs_that_were_not_watched_have_no_layers_and_a_broken_file_is_left_out(workspace: Any) -> None:
    train("one")
    train("two", watched=False)
    assert nb.diff("one", "two").layers == ()
    broken = next(run for run in workspace.store.find(Run) if run.name == "two")
    workspace.save_artifact(b"nonsense", name="watch/Sequential.npz", media_type=MEDIA_TYPE, parent=broken.id)
    assert nb.diff("one", "two").layers == ()
    with pytest.raises(CorruptData, match="cannot be read"):
        unpack(b"nonsense")


def test_two_models_of_a_run_are_compared_by_the_names_of_their_watches(workspace: Any) -> None:
    for name, seed in (("one", 0), ("two", 1)):
        torch.manual_seed(0)
        left = nn.Linear(4, 4)
        torch.manual_seed(seed)
        right = nn.Linear(4, 4)
        both = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (left, right)]
        x = torch.ones(8, 4)
        with nb.run(name), nb.watch(left, name="left", live=False), nb.watch(right, name="right", live=False):
            for _ in range(3):
                for net, optimizer in zip((left, right), both, strict=True):
                    optimizer.zero_grad()
                    (net(x) ** 2).mean().backward()
                    optimizer.step()
    found = {one.name: one.is_same for one in nb.diff("one", "two").layers}
    assert found == {"left": True, "right": False}
    text = mimebundle(nb.diff("one", "two"))["text/plain"]
    assert "layers of left" in text
    assert "layers of right" in text


def test_a_model_that_is_gone_before_its_run_ends_is_kept_too(workspace: Any) -> None:
    def inside() -> None:
        torch.manual_seed(0)
        net = nn.Linear(4, 1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        nb.watch(net, live=False)
        for _ in range(4):
            optimizer.zero_grad()
            net(torch.ones(8, 4)).square().mean().backward()
            optimizer.step()

    for name in ("one", "two"):
        with nb.run(name):
            inside()
    assert compared("one", "two").is_equal
    assert len([one for one in workspace.store.find(Artifact) if one.media_type == MEDIA_TYPE]) == 2


def test_a_file_comes_back_as_it_was() -> None:
    values = np.random.default_rng(0).normal(size=(5, 3, len(SIGNALS)))
    values[0, 0, 0] = math.nan
    names = ("a", "b.ü", "c")
    one = Traces("net", names, ("Linear", "", "ReLU"), np.arange(5) * 7, values, np.full(5, 0.1))
    two = unpack(pack(one))
    assert (two.name, two.layers, two.kinds) == (one.name, one.layers, one.kinds)
    assert np.array_equal(two.values, values, equal_nan=True)
    assert np.array_equal(two.steps, one.steps)
    assert pack(one) == pack(two)


def test_a_watched_run_that_is_repeated_has_the_same_results(workspace: Any) -> None:
    train("one", every=2)
    train("two", every=3)
    assert nb.diff("one", "two").differing == []
