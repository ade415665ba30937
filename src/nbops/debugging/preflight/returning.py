"""What a crashed backward pass means."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from nbops.debugging.preflight.explaining import Explanation
from nbops.debugging.preflight.passes import Crash, Pass
from nbops.debugging.preflight.repairs import Repair
from nbops.debugging.preflight.speaking import first_line, made
from nbops.debugging.preflight.subject import Subject
from nbops.debugging.specs import spec


def explain_backward(subject: Subject, crash: Crash, done: Pass) -> Explanation:
    """Return what an error of the backward pass means."""
    text = str(crash.error)
    if "scalar outputs" in text:
        shape = spec(done.loss)
        fix = Repair(
            "the loss keeps one value for each sample (reduction='none')",
            "Take its mean: loss.mean().backward().",
            "loss.mean().backward()",
            0.9,
            name="wrong-call",
        )
        found = made(
            subject,
            crash,
            "loss-not-scalar",
            f"backward() needs one number, and the loss is {shape}",
            fix,
            expected="a loss []",
            got=shape,
            why="Only a single number has a gradient in every weight.",
        )
        return _placed(found, subject.definitions.of_variable(subject.loss), "loss")
    if "inplace operation" in text or "in-place" in text:
        return _in_place(subject, crash, done, text)
    found = made(
        subject,
        crash,
        "error-in-backward",
        f"backward() raised {type(crash.error).__name__}: {first_line(crash.error)}",
        expected="a backward pass that returns",
        got=spec(done.loss),
    )
    return found


def _placed(found: Explanation, place: Any, layer: str) -> Explanation:
    return replace(found, place=place or found.place, layer=layer)


def _in_place(subject: Subject, crash: Crash, done: Pass, text: str) -> Explanation:
    """Find the line that changed a tensor of which backward needs the values: by the operation that had made it."""
    maker = re.search(r"output \d+ of (\w+)", text)
    wanted = maker[1] if maker else ""
    events = [e for e in done.observer.events if e.kind == "in-place" and e.place is not None]
    fitting = [e for e in events if wanted and e.details["grad_fn"] == wanted] or events
    event = fitting[0] if fitting else None
    name = event.name if event is not None else "an in-place operation"
    fix = Repair(
        f"{name} overwrites values that backward() needs",
        "Write the operation so that it makes a new tensor: x = x + y.",
        "x = x + y",
        0.9,
        name="inplace-breaks-backward",
    )
    found = made(
        subject,
        crash,
        "in-place-change",
        f"{name} changed a tensor that the backward pass needs" + (f" (made by {wanted})" if wanted else ""),
        fix,
        expected="a tensor that stays as it was made",
        got=first_line(crash.error),
        why="Some operations keep their output to compute their gradient from it.",
    )
    layer = subject.called(event.layer) if event is not None else found.layer
    return _placed(found, event.place if event is not None else None, layer)
