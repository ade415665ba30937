"""`nb.replay`: compute the last bad step again, alone and watched closely, and name what made the first NaN."""

from __future__ import annotations

import contextlib
import linecache
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from nbops.core.display import Shown
from nbops.core.errors import Conflict, NotFound
from nbops.debugging import stepping
from nbops.debugging.batch import Call
from nbops.debugging.blackbox import recorder, snapshots
from nbops.debugging.blackbox.births import Birth, Births
from nbops.debugging.blackbox.recorder import Incident
from nbops.debugging.signals.batches import first_input
from nbops.debugging.signals.losses import label
from nbops.debugging.signals.repeating import restored
from nbops.debugging.tensors import dense, first_tensor, floating, named_layers, unwrap
from nbops.debugging.views import Origin


@dataclass(frozen=True)
class Replay(Shown):
    """What came of computing a bad step again.

    Attributes
    ----------
    step, batch : int
        The optimizer step that was refused, and the number of its batch among the steps seen.
    op : str
        Name of the first operation that made a NaN or an infinity of finite values (``aten.log``); "" if none did.
    phase : str
        ``forward`` (of the model), ``loss`` or ``backward``.
    module : str
        Path of the innermost module that was running; "" outside of the model.
    file, line, code : str, int, str
        The user's line that called the operation; of the forward operation, if its backward pass made the value.
    samples : list of int
        Positions in the batch of the samples that are not finite.
    place : str
        As in a diagnosis: ``input``, ``weights``, ``output``, ``between``, ``gradient``, ``loss``, ``unknown``.
    what : str
        One sentence.
    is_reproduced : bool
        Whether the step gave a non-finite value again.
    notes : list of str
        What could not be done.
    """

    step: int
    batch: int
    op: str = ""
    phase: str = ""
    module: str = ""
    file: str = ""
    line: int = 0
    code: str = ""
    samples: list[int] = field(default_factory=list)
    place: str = ""
    what: str = ""
    is_reproduced: bool = False
    nan: int = 0
    inf: int = 0
    notes: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        lines = [f"Replay of step {self.step}: {self.what}"]
        if self.code:
            lines.append(f"  {label((self.file, self.line))}: {self.code}")
        if self.samples:
            shown = ", ".join(map(str, self.samples[:10])) + (" …" if len(self.samples) > 10 else "")
            lines.append(f"  samples of the batch: {shown}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


class _Done(BaseException):
    """The backward pass is over: nothing behind it may run again."""


def replay(watch: Any = None) -> Replay:
    """Compute the last step that the guard refused again, under anomaly detection, and name its first bad operation.

    Model, optimizer, gradients and random states are afterwards bit by bit as they were before.

    Parameters
    ----------
    watch : Watch, optional
        Whose bad step; by default the last one of any watch.

    Raises
    ------
    NotFound
        No step was refused.
    Conflict
        The model is gone, or runs in several processes that would wait for each other.
    """
    incident = recorder.last_incident if watch is None else watch.incident
    if incident is None:
        raise NotFound("no step was refused", hint="Watch a training with nb.watch; a NaN in it can be replayed.")
    model = incident.model()
    if model is None:
        raise Conflict("the model of that step is gone", hint="Keep the model in a variable, and train it again.")
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        raise Conflict("one process cannot replay a step of several", hint="Train in one process to replay it.")
    births, output, failure = Births(), _Output(), ""
    with _muted(), _as_before(model, incident), _following(unwrap(model), births, output):
        failure = _computed(model, incident, births)
    return _told(model, incident, births, output, failure)


def refined(origin: Origin, found: Replay) -> Origin:
    """Return where a value was made, with what computing the step again has told."""
    if not found.is_reproduced:
        return origin
    return replace(
        origin, op=found.op, code=found.code, phase=found.phase, samples=tuple(found.samples), nan=found.nan,
        inf=found.inf, layer=found.module or origin.layer if origin.place != "gradient" else origin.layer,
        detail=f"{origin.detail}; {found.what}" if found.what else origin.detail,
    )  # fmt: skip


def _computed(model: nn.Module, incident: Incident, births: Births) -> str:
    """Run forward, loss and backward; return why that ended early, "" if it did not."""
    call = incident.call
    device, is_autocast, dtype = call.autocast if call is not None else ("cpu", False, torch.float32)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # also that of anomaly mode about itself
            with (
                torch.enable_grad(), torch.autocast(device, enabled=is_autocast, dtype=dtype),
                torch.autograd.detect_anomaly(check_nan=False), births, _ending(),
            ):  # fmt: skip
                if incident.scene is not None:
                    incident.scene.run()
                elif call is not None:
                    model(*call.args, **call.kwargs)
    except _Done:
        return ""
    except Exception as error:  # the user's code cannot run twice: what was seen until then still counts
        return f"{type(error).__name__}: {error}"
    return ""


@contextlib.contextmanager
def _ending() -> Iterator[None]:
    """Let the first backward pass be the last thing that runs."""
    original = torch.autograd.backward

    def backward(*args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs)
        raise _Done

    torch.autograd.backward = backward
    try:
        yield
    finally:
        torch.autograd.backward = original


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """No watch sees what runs."""
    sessions = [one for one in stepping.open_sessions() if not one.is_replaying]
    for session in sessions:
        session.is_replaying = True
    try:
        yield
    finally:
        for session in sessions:
            session.is_replaying = False


@contextlib.contextmanager
def _as_before(model: nn.Module, incident: Incident) -> Iterator[None]:
    """Put weights, buffers and random state of the bad step in place, and everything back afterwards."""
    inner = unwrap(model)
    now = {name: t.detach().clone() for name, t in [*inner.named_parameters(), *inner.named_buffers()]}
    grads = [(p, p.grad) for p in inner.parameters()]
    python_state = random.getstate()
    numpy = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy is not None else None
    with restored(inner):
        try:
            if incident.weights is not None:
                snapshots.write(incident.weights, inner)
            for p, _ in grads:
                p.grad = None
            if incident.call is not None and incident.call.random is not None:
                torch.set_rng_state(incident.call.random)
                if incident.call.device_random is not None:
                    torch.cuda.set_rng_state(incident.call.device_random)
            yield
        finally:
            snapshots.write(now, inner)
            for p, grad in grads:
                p.grad = grad
            random.setstate(python_state)
            if numpy is not None and numpy_state is not None:
                numpy.random.set_state(numpy_state)


class _Output:
    """What the model gave in the replay: which rows of it are not finite."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.is_finite: bool | None = None


@contextlib.contextmanager
def _following(model: nn.Module, births: Births, output: _Output) -> Iterator[None]:
    """Know which module runs, and look at the model's output."""

    def entering(name: str) -> Callable[..., None]:
        return lambda module, args: births.modules.append(name)

    def leaving(module: nn.Module, args: Any, result: Any) -> None:
        if births.modules:
            births.modules.pop()

    def gave(module: nn.Module, args: Any, result: Any) -> None:
        found = first_tensor(result)
        if found is not None:
            with torch._C._DisableTorchDispatch(), torch.no_grad():
                bad = ~torch.isfinite(dense(found.detach()))
                output.is_finite = not bool(bad.any())
                output.rows = bad.reshape(len(bad), -1).any(1).nonzero().flatten().tolist() if bad.ndim else []

    handles = []
    root = "" if _has_children(model) else next(named_layers(model))[0]
    for name, module in [(root, model), *((n, m) for n, m in model.named_modules() if n)]:
        handles += [module.register_forward_pre_hook(entering(name)), module.register_forward_hook(leaving)]
    handles.append(model.register_forward_hook(gave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _has_children(model: nn.Module) -> bool:
    return any(True for _ in model.children())


def _told(model: nn.Module, incident: Incident, births: Births, output: _Output, failure: str) -> Replay:
    origin = incident.view.origin
    notes = [f"the statements could not be run to the end: {failure}"] if failure else []
    if incident.scene is None:
        notes.append("the code around the model's call was not found, so only the model was run again")
    if incident.weights is None:
        notes.append("the weights were too large to be kept: it ran with those of now")
    call = incident.call
    bad_rows = _rows_of(call)
    birth, place = births.first(), origin.place if origin is not None else "unknown"
    common: dict[str, Any] = {
        "step": incident.step,
        "batch": call.step if call is not None else incident.step,
        "notes": notes,
    }
    if place == "weights" or (bad_rows and births.met is not None and place in ("input", "unknown")):
        met = births.met
        what = f"{origin.detail if origin else 'the batch holds NaN'}; met first by {_spell(met)}"
        return Replay(**common, **_facts(met), phase="forward", place=place, what=what, is_reproduced=met is not None,
                      samples=bad_rows if place != "weights" else output.rows)  # fmt: skip
    if birth is None:
        what = "every value was finite this time: something was written into a gradient after the backward pass, or " \
               "the step depends on what cannot be put back"  # fmt: skip
        return Replay(**common, place=place, what=what)
    phase = "backward" if birth.node else "forward" if birth.is_in_model else "loss"
    samples = _samples(birth, call) or output.rows
    kind = {"nan": "NaN", "inf": "an infinity"}[birth.kind]
    what = f"{_spell(birth)} made {kind} of finite values in the {phase} pass"
    what = what.replace("loss pass", "loss")
    return Replay(**common, **_facts(birth), phase=phase, place=place, what=what, is_reproduced=True,
                  samples=samples)  # fmt: skip


def _spell(birth: Birth | None) -> str:
    if birth is None:
        return "no operation"
    where = f" in '{birth.module}'" if birth.module else ""
    return f"{birth.op}{f' ({birth.node})' if birth.node else ''}{where}"


def _facts(birth: Birth | None) -> dict[str, Any]:
    if birth is None:
        return {}
    return {
        "op": birth.op, "module": birth.module, "file": birth.file, "line": birth.line,
        "code": linecache.getline(birth.file, birth.line).strip(), "nan": birth.nan, "inf": birth.inf,
    }  # fmt: skip


def _rows_of(call: Call | None) -> list[int]:
    """Return the samples of a batch that hold non-finite values themselves."""
    found: set[int] = set()
    for t in floating((call.args, call.kwargs)) if call is not None else ():
        bad = ~torch.isfinite(dense(t))
        if bad.ndim:
            found |= set(bad.reshape(len(bad), -1).any(1).nonzero().flatten().tolist())
    return sorted(found)


def _samples(birth: Birth, call: Call | None) -> list[int]:
    """Return the positions in the batch that the rows of an operation's result belong to."""
    batch: Tensor | None = first_input(call.args, call.kwargs) if call is not None else None
    if batch is None or not batch.ndim or not birth.sizes or birth.sizes[0] % max(1, len(batch)):
        return []
    times = birth.sizes[0] // len(batch)
    return sorted({row // times for row in birth.rows}) if times else []
