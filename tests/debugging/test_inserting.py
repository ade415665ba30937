"""The remedy of a finding as code to edit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import nbops as nb
from nbops.core.errors import NotFound
from nbops.core.records import Cause, Diagnosis
from nbops.debugging.findings import DebuggerWarning
from nbops.debugging.live.inserting import insert_below, remedy

CAUSES = [
    Cause(text="it is slow", fix="Be quick.", name="slow"),
    Cause(text="it is late", fix="Be early.", patch="-begin()\n+if late:\n+    hurry()", name="late"),
]


def found(*, causes: list[Cause], step: int = 1_200) -> Diagnosis:
    return Diagnosis(
        id="dg_1", created_at=0, name="dead-units", status="warning", step=step, layer="fc1", measured=None, limit=None,
        what="it is dead", why="", fix="Revive it.", confidence=0.5, causes=causes,
    )  # fmt: skip


def test_the_likeliest_cause_with_a_patch_is_taken() -> None:
    head = "# dead-units at step 1,200 in fc1: it is dead\n"
    one = found(causes=CAUSES)
    lines = "# -begin()\n# +if late:\n# +    hurry()\n"
    done = remedy([one], "dead-units", source="begin()\nend()")
    assert done == head + "# Fix: Be early.\n" + lines + "if late:\n    hurry()\nend()\n"
    assert remedy([one], "dead-units", cause="slow") == head + "# Fix: Be quick.\n"
    assert remedy([found(causes=CAUSES[:1])], "dead-units") == head + "# Fix: Be quick.\n"
    assert remedy([found(causes=[], step=-1)], "dead-units") == (
        "# dead-units before the first step in fc1: it is dead\n# Fix: Revive it.\n"
    )


@pytest.mark.parametrize("source", ["", "start()\nend()", "begin()\nbegin()"])
def test_a_patch_that_does_not_fit_is_said_to_and_stays_a_comment(source: str) -> None:
    done = remedy([found(causes=CAUSES)], "dead-units", source=source)
    assert "# The patch does not fit this code; make the change by hand:\n# -begin()" in done
    assert all(line.startswith("#") for line in done.splitlines())


def test_an_example_is_what_is_left_without_a_patch() -> None:
    causes = [CAUSES[0], Cause(text="it is late", example="hurry()", name="late")]
    assert remedy([found(causes=causes)], "dead-units").endswith("# Fix: Revive it.\nhurry()\n")


def test_what_was_not_found_is_refused() -> None:
    with pytest.raises(NotFound) as caught:
        remedy([found(causes=CAUSES)], "dead-unit")
    assert "dead-units" in str(caught.value.hint)
    with pytest.raises(NotFound, match="has no cause 'early'") as caught:
        remedy([found(causes=CAUSES)], "dead-units", cause="early")
    assert caught.value.hint == "Use one of: slow, late."


def test_a_watch_gives_the_remedy_outside_of_a_notebook_too(digits: tuple[Tensor, Tensor]) -> None:
    assert not insert_below("x = 1")
    net, criterion = nn.Linear(64, 10), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), 0.01)

    def train() -> None:
        for _ in range(8):
            criterion(net(digits[0][:32]), digits[1][:32]).backward()
            optimizer.step()

    with nb.watch(net, loss=criterion) as watch:
        with pytest.warns(DebuggerWarning, match="gradients-not-cleared"):
            train()
        assert "zero_grad()" in watch.insert("gradients-not-cleared")
