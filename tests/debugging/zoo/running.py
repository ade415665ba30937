"""Runs one program under one doctor in this process: as a notebook's cell, with seeds, one thread, nothing left."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import linecache
import math
import os
import random
import sys
import tempfile
import time
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from zoo.doctors import Doctor, Found
from zoo.program import Cell, Program, WatchCall, replace_watch

LOST = "Lost: "


class Enough(BaseException):
    """Ends a program after the steps that a smoke test wants; nothing in a cell catches it."""


@dataclass
class Outcome:
    """What one run gave. `error` is ``Type: message`` of what ended the cell, `error_line` its line in the cell.

    score is NaN when the program did not get that far; seconds are of the whole cell, cpu_s and setup_s of this
    process: training, and attaching the doctor.
    """

    program: str
    variant: str
    seed: int
    doctor: str
    digest: str
    score: float = math.nan
    error: str = ""
    error_line: int = 0
    steps: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    setup_s: float = 0.0
    found: list[Found] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_cut: bool = False

    @property
    def is_lost(self) -> bool:
        """Whether the run itself failed, so that nothing is known of what was found."""
        return self.error.startswith(LOST)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Outcome:
        """Return the outcome that `as_dict` gave."""
        return cls(**{**values, "found": [Found(**one) for one in values["found"]]})


class Lab:
    """What a cell talks to: `watch` is where the doctor comes in, `score` ends it."""

    def __init__(self, *, seed: int, limit: int | None) -> None:
        self.seed = seed
        self.limit = limit
        self.steps = 0
        self.watched = 0
        self.setup_s = 0.0
        self.result = math.nan
        self.kept: list[Any] = []
        self._calls = 0
        self._began = 0.0
        self._handles: list[Any] = []

    def watch(self, model: nn.Module) -> None:
        """Stand where a user would attach the debugger; does nothing but to count forward calls of a short run."""
        self.watched += 1
        if self.limit is not None:
            self._handles.append(model.register_forward_pre_hook(self._called))

    def score(self, value: Any) -> None:
        """Tell how well the program did."""
        self.result = float(value)

    def aside(self, make: Callable[[], Any]) -> Any:
        """Make a batch for a doctor without moving the random numbers on that the program draws."""
        states = torch.get_rng_state(), random.getstate(), np.random.get_state()
        try:
            return make()
        finally:
            torch.set_rng_state(states[0])
            random.setstate(states[1])
            np.random.set_state(states[2])

    def clock(self) -> None:
        """Begin to measure what attaching a doctor takes."""
        self._began = time.process_time()

    def keep(self, handle: Any) -> Any:
        """Keep what a doctor returned, to be asked for findings at the end."""
        self.setup_s += time.process_time() - self._began
        self.watched += 1
        self.kept.append(handle)
        return handle

    def stepped(self, *_: Any) -> None:
        """Count a step of any optimizer."""
        self.steps += 1
        if self.limit is not None and self.watched and self.steps >= self.limit:
            raise Enough

    def _called(self, *_: Any) -> None:
        self._calls += 1
        if self.limit is not None and self._calls > 8 * self.limit:
            raise Enough

    def close(self) -> None:
        """Remove the hooks of a short run."""
        while self._handles:
            self._handles.pop().remove()


def run(
    program: Program, variant: str, *, seed: int, doctor: Doctor, steps: int | None = None, cell: Cell | None = None
) -> Outcome:
    """Run a program once, and return what came out and what the doctor found.

    Parameters
    ----------
    program, variant : Program and str
        Which version: ``sick``, ``twin`` or ``healthy``.
    seed : int
        For torch, NumPy and random.
    doctor : Doctor
        Rewrites the line that attaches it, and tells afterwards what it found.
    steps : int, optional
        End the program after that many steps of an optimizer: a smoke test.
    cell : Cell, optional
        What to run, where it is none of the program's versions.
    """
    cell = cell or program.version(variant)
    try:
        source = replace_watch(cell.source, lambda call: _line(doctor, call))
    except SyntaxError as error:
        return Outcome(program.name, variant, seed, doctor.name, cell.digest, error=f"SyntaxError: {error}")
    lab = Lab(seed=seed, limit=steps)
    outcome = Outcome(program.name, variant, seed, doctor.name, cell.digest)
    with _isolated(seed), _notebook(source) as (space, name):
        space.update(program.names(), lab=lab)
        handle = register_optimizer_step_post_hook(lab.stepped)
        began, cpu = time.perf_counter(), time.process_time()
        try:
            doctor.enter(source)
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(source, name, "exec"), space)  # noqa: S102 - the zoo's own programs
        except Enough:
            outcome.is_cut = True
        except Exception as error:
            outcome.error = f"{type(error).__name__}: {error}"[:400]
            outcome.error_line = _line_of(error, name)
            doctor.crashed(error)
        finally:
            handle.remove()
            lab.close()
            outcome.seconds, outcome.cpu_s = time.perf_counter() - began, time.process_time() - cpu - lab.setup_s
            outcome.found, outcome.notes = doctor.leave(lab.kept)
        outcome.score, outcome.steps, outcome.setup_s = lab.result, lab.steps, lab.setup_s
        space.clear()
    gc.collect()
    return outcome


def _line(doctor: Doctor, call: WatchCall) -> str:
    return doctor.line(call) or f"lab.watch({call.model})"


@contextmanager
def _isolated(seed: int) -> Iterator[None]:
    """Seeds, one thread, a folder and a workspace of its own, no warnings; all is put back."""
    threads, home, state = torch.get_num_threads(), Path.cwd(), torch.get_rng_state()
    python, array, kind = random.getstate(), np.random.get_state(), torch.get_default_dtype()
    torch.set_num_threads(1)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.chdir(folder)
        workspace = os.environ.get("NBOPS_WORKSPACE")
        os.environ["NBOPS_WORKSPACE"] = folder
        try:
            yield
        finally:
            _close_workspace()
            os.environ.pop("NBOPS_WORKSPACE")
            if workspace is not None:
                os.environ["NBOPS_WORKSPACE"] = workspace
            os.chdir(home)
            torch.set_num_threads(threads)
            torch.set_rng_state(state)
            torch.set_default_dtype(kind)
            random.setstate(python)
            np.random.set_state(array)


def _close_workspace() -> None:
    """End the runs that a cell left open, and close the workspace it wrote to."""
    runs: Any = sys.modules.get("nbops.tracking.runs")
    for live in reversed(runs.open_runs() if runs is not None else []):
        live.finish()
    store: Any = sys.modules.get("nbops.store.workspace")
    if store is not None and store.is_open():
        store.workspace().close()


@contextmanager
def _notebook(source: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Be a kernel's main module, whose cell is known to `linecache` only, as IPython has it."""
    main = sys.modules["__main__"]
    module = types.ModuleType("__main__")
    name = f"{tempfile.gettempdir()}/ipykernel_{os.getpid()}/{hashlib.sha256(source.encode()).hexdigest()[:10]}.py"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    sys.modules["__main__"] = module
    try:
        yield vars(module), name
    finally:
        sys.modules["__main__"] = main
        linecache.cache.pop(name, None)


def _line_of(error: BaseException, filename: str) -> int:
    """Return the line of the cell that was last on the way to the error."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == filename]
    return lines[-1] or 0 if lines else 0
