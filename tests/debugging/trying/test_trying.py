"""`nb.diagnose`: real scripts whose loops are sick, run again with each patch and without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import nbops as nb
from nbops.core.display import mimebundle
from nbops.core.errors import InvalidInput
from nbops.debugging.session import last_session
from nbops.debugging.trying.records import FAILED, HELPS, SAME, WORSE, Advice, Course, Trial, judged

HEAD = """
import json, sys, warnings
import torch
from torch import nn
from torch.nn import functional as F
import nbops as nb
warnings.simplefilter("ignore")
torch.manual_seed(0)
x = torch.randn(256, 8)
y = (x[:, 0] > 0).long()
"""
MODEL = """
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
optimizer = torch.optim.SGD(model.parameters(), lr={lr})
"""
LOOP = """
watch = nb.watch(model)
for step in range(60):
    rows = torch.randint(0, 256, (32,))
    loss = F.cross_entropy(model(x[rows]), y[rows])
    {clear}
    loss.backward()
    optimizer.step()
    if {break_at} and step == {break_at}:
        raise RuntimeError("a fault of another kind")
"""
TAIL = """
before = [p.detach().clone() for p in model.parameters()]
advice = nb.diagnose(steps=40)
ranked = nb.diagnose(try_fixes=False)
same = all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
print(json.dumps({"trials": [[t.rule, t.cause, t.verdict, t.patch, len(t.course.losses)] for t in advice.trials],
                  "notes": advice.notes, "same": same, "best": advice.best.cause if advice.best else None,
                  "before": advice.before and [advice.before.losses, advice.before.found], "text": str(advice),
                  "runs": len(nb.find("runs")), "ranked": [[d.name for d in ranked.findings], ranked.before,
                                                           ranked.trials]}))
"""


def script(folder: Path, text: str) -> dict[str, Any]:
    """Run a script in a folder of its own, and return what it printed last."""
    path = folder / "train.py"
    path.write_text(textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, path.name], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "NBOPS_WORKSPACE": str(folder / ".nbops")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def loop(*, clear: str = "pass", break_at: int = 0) -> str:
    return LOOP.format(clear=clear, break_at=break_at)


def test_remedy_that_helps_is_advised_and_nothing_of_the_user_changes(tmp_path: Path) -> None:
    """Inside of a run, which the trials must not write to; what they record is none of the user's runs either."""
    inside = "\n".join(f"    {line}" for line in loop().splitlines())
    told = script(tmp_path, HEAD + MODEL.format(lr=0.3) + f"with nb.run('fit'):\n    pass\n{inside}\n" + TAIL)
    [[rule, cause, verdict, patch, steps]] = told["trials"]
    assert (rule, cause, verdict, steps) == ("gradients-not-cleared", "grads-not-cleared", HELPS, 40)
    assert "optimizer.zero_grad()" in patch
    assert told["same"]
    assert told["best"] == "grads-not-cleared"
    assert told["before"][1] == ["gradients-not-cleared"]  # found again as it is
    assert "a remedy helps" in told["text"]
    assert told["notes"] == []
    assert told["runs"] == 1
    assert told["ranked"] == [["gradients-not-cleared"], None, []]


def test_two_optimizers_are_not_compared(tmp_path: Path) -> None:
    second = "other = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)\n"
    step = "optimizer.zero_grad(set_to_none=False) if step == 99 else other.step()"
    told = script(tmp_path, HEAD + MODEL.format(lr=0.3) + second + loop(clear=step) + TAIL)
    assert told["trials"] == []
    assert "several optimizers step here" in told["notes"][0]


def test_loop_in_a_module_that_takes_no_step_by_itself(tmp_path: Path) -> None:
    made = "optimizer = torch.optim.SGD(model.parameters(), lr=0.3)\n"
    body = "\n".join(f"    {line}" for line in (made + LOOP.format(clear="pass", break_at=0)).splitlines())
    head = "import torch\nimport nbops as nb\nfrom torch.nn import functional as F\n"
    (tmp_path / "fitting.py").write_text(f"{head}\ndef fit(model, x, y):\n{body}\n    return watch\n")
    call = "from fitting import fit\nwatch = fit(model, x, y)\n"
    told = script(tmp_path, HEAD + MODEL.format(lr=0.3) + call + TAIL)
    assert told["trials"] == []
    assert "takes no step when it runs by itself" in told["notes"][0]


# ---- verdicts --------------------------------------------------------------------------------------------------------

FLAT = Course((2.0,) * 40)
FALLING = Course(tuple(2.0 - 0.04 * i for i in range(40)))
RISING = Course(tuple(2.0 + 0.04 * i for i in range(40)))
BROKEN = Course((2.0,) * 20 + (float("nan"),) * 20)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (FLAT, FALLING, HELPS),
        (FALLING, FLAT, WORSE),
        (FLAT, Course((2.0,) * 39 + (1.99,)), SAME),
        (FALLING, RISING, WORSE),
        (BROKEN, FLAT, HELPS),
        (FLAT, BROKEN, FAILED),
        (FLAT, Course(error="ValueError: no"), FAILED),
        (FLAT, Course(), FAILED),
        (Course((2.0,) * 9, error="RuntimeError: no"), FLAT, HELPS),
        # another loss: a sum became a mean, so the courses are compared, not the values
        (Course((200.0,) * 40), Course(tuple(2.0 - 0.04 * i for i in range(40))), HELPS),
        (Course(tuple(200.0 - 4 * i for i in range(40))), Course((2.0,) * 40), WORSE),
    ],
)
def test_verdict(before: Course, after: Course, verdict: str) -> None:
    found, why = judged(before, after)
    assert found == verdict
    assert why


def test_card_shows_the_curves_and_the_patch() -> None:
    trial = Trial("a-rule", "a-cause", "Do this.", "-    a()\n+    b()", FALLING, *judged(FLAT, FALLING))
    shown = mimebundle(Advice("Net", (), FLAT, (trial,), 40))
    assert "<svg" in shown["text/html"]
    for words in ("fix of a-cause", "Do this.", "b()", "helps", "as it is"):
        assert words in shown["text/html"], words


def test_card_says_that_a_few_steps_cannot_acquit() -> None:
    trial = Trial("a-rule", "a-cause", "Do this.", "-    a()\n+    b()", FLAT, *judged(FALLING, FLAT))
    assert "A few steps cannot acquit" in mimebundle(Advice("Net", (), FALLING, (trial,), 40))["text/plain"]


@pytest.mark.parametrize("given", [{"steps": 3}, {"steps": True}, {"budget_s": 0}, {"budget_s": "long"}])
def test_bad_parameters_are_named(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(given))):
        nb.diagnose(**given)


def test_last_watch_is_taken() -> None:
    from torch import nn

    model = nn.Linear(2, 2)
    with nb.watch(model, name="mine"):
        pass
    assert last_session() is not None
    found = nb.diagnose()
    assert (found.name, found.notes) == ("mine", ("nothing was found",))
    assert "nothing found" in str(found)
