"""Verbs of debugging: watch, watch-mute, watch-control, diagnose, preflight, memory."""

from __future__ import annotations

from typing import Any

from nbops.core.commands import COMMANDS
from nbops.verbs.grammar import Call, argument, verb
from nbops.verbs.words import UsageError

POLICIES = ("warn", "pause", "stop", "rollback")


@verb(
    "watch",
    argument("variable", "the model: a variable of the notebook", completes="variables"),
    argument("--optimizer", "its optimizer: a variable", completes="variables", values="VARIABLE"),
    argument("--loss", "the loss module: a variable", completes="variables", values="VARIABLE"),
    argument("--on-error", "what an error does to the training", default="warn", choices=POLICIES),
    argument("--name", "what to call the session; the variable's name by default"),
    argument("--step-ms", "what a step may take, milliseconds", kind=float, values="MS"),
    examples=("%mlops watch net", "%%mlops watch net --on-error stop", "%mlops watch net --optimizer opt"),
    is_notebook_only=True,
)
def watch(
    call: Call, *, variable: str, optimizer: str | None, loss: str | None, on_error: str, name: str | None,
    step_ms: float | None,
) -> Any:  # fmt: skip
    """Watch a model while it trains, and say what goes wrong in which layer; as %%mlops until the cell ends."""
    model = call.variable(variable)
    step = call.variable(optimizer) if optimizer else None
    criterion = call.variable(loss) if loss else None
    from nbops.debugging.watch import watch as watch_model

    made = watch_model(model, optimizer=step, loss=criterion, on_error=on_error, name=name or variable, step_ms=step_ms)
    if not call.is_cell:
        return made

    def ended() -> Any:
        made.close()
        return None if made.was_shown else made

    call.at_cell_end(ended)
    return None


@verb(
    "watch-mute",
    argument("rule", "the rule: what a finding is called; without it, what is muted is listed", form="optional",
             completes="rules"),
    argument("--layer", "only in this layer, or in those that a pattern names"),
    argument("--undo", "tell it again", form="flag"),
    examples=("%mlops watch-mute dead-units --layer encoder.2", "%mlops watch-mute dead-units --undo"),
    is_notebook_only=True,
)  # fmt: skip
def watch_mute(call: Call, *, rule: str | None, layer: str | None, undo: bool) -> Any:
    """Say that what a rule of the debugger finds is no problem in this notebook."""
    from nbops.core.table import Table
    from nbops.debugging import muting

    if rule and not undo:
        return muting.mute(rule, layer=layer)
    if rule:
        muting.unmute(rule, layer=layer)
    return Table("mute", muting.mutes())


@verb(
    "watch-control",
    argument("run", "the watched run: its id or name", completes="runs"),
    argument("command", "what it is to do before its next step", choices=COMMANDS),
    argument("value", "the new learning rate or batch size", form="optional", kind=float),
    argument("--wait", "wait so many seconds until it is carried out", kind=float, default=10.0, values="S"),
    examples=("%mlops watch-control baseline pause", "%mlops watch-control baseline set-lr 0.01"),
)
def watch_control(call: Call, *, run: str, command: str, value: float | None, wait: float) -> Any:
    """Pause, change or stop a watched training that runs in another process."""
    needs_value = command.startswith("set-")
    if needs_value != (value is not None):
        what = "needs a number" if needs_value else "takes no number"
        raise UsageError(f"'{command}' {what}", hint=f"Write watch-control {run} {command}{' 0.01' * needs_value}")
    from nbops.verbs.controlling import send

    return send(run, command, value=value, wait_s=wait)


@verb(
    "diagnose",
    argument("--watch", "the handle of a watch: a variable; the last one by default", completes="variables",
             values="VARIABLE"),
    argument("--steps", "optimizer steps of each trial", kind=int, default=100, values="N"),
    argument("--no-fixes", "rank the findings only, and try nothing", form="flag"),
    examples=("%mlops diagnose", "%mlops diagnose --steps 300"),
    is_notebook_only=True,
)  # fmt: skip
def diagnose(call: Call, *, watch: str | None, steps: int, no_fixes: bool) -> Any:
    """Try the remedies of what a watch found, some steps each, and say which one helps."""
    handle = call.variable(watch) if watch else None
    from nbops.debugging.trying.diagnosing import diagnose as look_at

    return look_at(handle, try_fixes=not no_fixes, steps=steps)


@verb(
    "preflight",
    argument("model", "the model: a variable of the notebook", completes="variables"),
    argument("batch", "a loader, or one batch: a variable, or those that hold its inputs and its target", form="many",
             completes="variables"),
    argument("--loss", "loss of output and target: a variable", completes="variables", values="VARIABLE"),
    argument("--optimizer", "the optimizer: a variable", completes="variables", values="VARIABLE"),
    argument("--scheduler", "its learning rate schedule: a variable", completes="variables", values="VARIABLE"),
    argument("--overfit", "train a copy on this one batch, for at most ten seconds", form="flag"),
    examples=("%mlops preflight net loader --loss criterion --optimizer opt",
              "%mlops preflight net x y --loss criterion --overfit"),
    is_notebook_only=True,
)  # fmt: skip
def preflight(
    call: Call, *, model: str, batch: list[str], loss: str | None, optimizer: str | None, scheduler: str | None,
    overfit: bool,
) -> Any:  # fmt: skip
    """Say what would crash or cannot learn, before the first training step."""
    net, parts = call.variable(model), [call.variable(name) for name in batch]
    criterion, step, rate = (call.variable(name) if name else None for name in (loss, optimizer, scheduler))
    from nbops.debugging.preflight.running import preflight as look_at

    one = parts[0] if len(parts) == 1 else tuple(parts)
    return look_at(net, one, loss=criterion, optimizer=step, scheduler=rate, overfit=overfit)


@verb(
    "memory",
    argument("model", "the model: a variable of the notebook", completes="variables"),
    argument("batch", "a loader, or one batch: a variable, or those that hold its inputs and its target", form="many",
             completes="variables"),
    argument("--loss", "loss of output and target: a variable", completes="variables", values="VARIABLE"),
    argument("--optimizer", "the optimizer: a variable, or a name like adamw", default="adamw",
             completes="variables", values="VARIABLE"),
    argument("--device-gb", "what the device has, in GB", kind=float, values="GB"),
    argument("--on", "where it is to run", default="cuda", choices=("cuda", "cpu")),
    argument("--precision", "of the weights, or of the operations under autocast", default="fp32",
             choices=("fp32", "bf16", "fp16", "bf16-autocast", "fp16-autocast")),
    examples=("%mlops memory net loader --loss criterion --device-gb 24",
              "%mlops memory net x y --loss criterion --optimizer opt --precision bf16-autocast"),
    is_notebook_only=True,
)  # fmt: skip
def memory(
    call: Call, *, model: str, batch: list[str], loss: str | None, optimizer: str, device_gb: float | None, on: str,
    precision: str,
) -> Any:  # fmt: skip
    """Say how much memory a training step takes, and which batch fits, without allocating it."""
    net, parts = call.variable(model), [call.variable(name) for name in batch]
    criterion = call.variable(loss) if loss else None
    known = call.namespace is not None and optimizer.partition(".")[0] in call.namespace
    from nbops.debugging.memory.estimating import memory as estimate

    return estimate(
        net, parts[0] if len(parts) == 1 else tuple(parts), loss=criterion,
        optimizer=call.variable(optimizer) if known else optimizer, device=on, device_gb=device_gb, precision=precision,
    )  # fmt: skip
