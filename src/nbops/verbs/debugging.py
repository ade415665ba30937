"""Verbs of debugging: watch."""

from __future__ import annotations

from typing import Any

from nbops.verbs.grammar import Call, argument, verb


@verb(
    "watch",
    argument("variable", "the model: a variable of the notebook", completes="variables"),
    argument("--optimizer", "its optimizer: a variable", completes="variables", values="VARIABLE"),
    argument("--loss", "the loss module: a variable", completes="variables", values="VARIABLE"),
    argument("--on-error", "what an error does to the training", default="warn", choices=("warn", "stop")),
    argument("--name", "what to call the session; the variable's name by default"),
    examples=("%mlops watch net --optimizer opt", "%mlops watch net --optimizer opt --on-error stop"),
    is_notebook_only=True,
)
def watch(
    call: Call, *, variable: str, optimizer: str | None, loss: str | None, on_error: str, name: str | None
) -> Any:
    """Watch a model while it trains, and say what goes wrong in which layer."""
    model = call.variable(variable)
    step = call.variable(optimizer) if optimizer else None
    criterion = call.variable(loss) if loss else None
    from nbops.debugging.watch import watch as watch_model

    return watch_model(model, optimizer=step, loss=criterion, on_error=on_error, name=name or variable)
