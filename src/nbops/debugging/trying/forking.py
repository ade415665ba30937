"""A piece of code run in a forked child for some optimizer steps: what it changes in memory stays there.

torch's threads do not live on in a fork, so the child computes on one thread, and nothing is tried once CUDA is in use.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from nbops.debugging import stepping
from nbops.debugging.trying.records import Course
from nbops.store.context import set_cell
from nbops.store.workspace import init

_GRACE_S = 2.0
is_trial = False  # whether this process is such a child


class Enough(BaseException):
    """The steps are taken, or the time is up. No error, so that no `except Exception` of the user's holds it."""


def refusal() -> str:
    """Return why nothing can be tried here, "" if it can."""
    if not hasattr(os, "fork"):
        return "remedies are tried in a forked process, which this system does not have"
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return "remedies are not tried once CUDA is in use: a GPU's state cannot be forked"
    return ""


def run_forked(
    source: str, namespace: Mapping[str, Any], *, file: str, begin: Callable[[], None], steps: int, limit_s: float
) -> Course:
    """Run a source in a copy of a namespace, in a child, and return the loss at each step.

    Parameters
    ----------
    file : str
        What the code is called in its errors.
    begin : callable
        Called in the child before: puts the model back to where it was.
    steps : int
        Optimizer steps after which the child ends.
    limit_s : float, seconds
        After which it ends as well; what it has seen until then is returned.
    """
    reading, writing = os.pipe()
    with tempfile.TemporaryDirectory(prefix="nbops-try-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside the kernel's threads
        pid = os.fork()
        if pid == 0:
            try:
                os.close(reading)
                _child(writing, source, namespace, file, begin, steps, limit_s, folder)
            finally:
                os._exit(0)
        os.close(writing)
        try:
            text = _read(reading, time.monotonic() + limit_s + _GRACE_S)
        finally:
            os.close(reading)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    if not text:
        return Course(error="no answer: the process was ended, or ran out of memory")
    told = json.loads(text)
    return Course(tuple(told["losses"]), told["error"], tuple(told["found"]))


def _read(pipe: int, until: float) -> bytes:
    parts: list[bytes] = []
    while (left := until - time.monotonic()) > 0 and select.select([pipe], [], [], left)[0]:
        part = os.read(pipe, 1 << 16)
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def _child(
    pipe: int, source: str, namespace: Mapping[str, Any], file: str, begin: Callable[[], None], steps: int,
    limit_s: float, folder: str,
) -> None:  # fmt: skip
    losses: list[float] = []
    error = ""
    try:
        _quieten(limit_s)
        init(folder)  # what the code records is none of the user's runs
        set_cell(None)
        begin()
        _count(losses, steps)
        exec(compile(source, file, "exec"), dict(namespace))  # noqa: S102 (the user's own code, in a child)
    except Enough:
        pass
    except BaseException as problem:  # whatever ends it is told
        error = f"{type(problem).__name__}: {str(problem)[:300]}"
    signal.setitimer(signal.ITIMER_REAL, 0)
    found = {d.name for session in stepping.open_sessions() for d in _found_by(session) if d.status != "hint"}
    told = json.dumps({"losses": losses, "error": error, "found": sorted(found)}).encode()
    while told:
        told = told[os.write(pipe, told) :]


def _found_by(session: Any) -> list[Any]:
    return list(session.judge.findings.diagnoses)


def _quieten(limit_s: float) -> None:
    global is_trial
    is_trial = True
    signal.signal(signal.SIGALRM, _on_alarm)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (it lives as long as the child)
    torch.set_num_threads(1)
    random.seed(0)
    torch.manual_seed(0)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(0)
    for session in stepping.open_sessions():
        _found_by(session)
        session.judge.findings.diagnoses.clear()  # type: ignore[attr-defined]
        session.judge.findings.begin_run()  # type: ignore[attr-defined]


def _on_alarm(*_: Any) -> None:
    raise Enough


def _count(losses: list[float], steps: int) -> None:
    """Note the mean of the losses that went backward before each step, and end after so many steps."""
    pending: list[float] = []
    plain = torch.autograd.backward

    def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
        given = [tensors] if isinstance(tensors, Tensor) else list(tensors)
        pending.extend(float(t.detach()) for t in given if t.numel() == 1)
        plain(tensors, *args, **kwargs)

    def stepped(*_: Any) -> None:
        if pending:
            losses.append(sum(pending) / len(pending))
        pending.clear()
        if len(losses) >= steps:
            raise Enough

    torch.autograd.backward = backward
    register_optimizer_step_post_hook(stepped)
