"""Runs many programs, each in a fresh fork of a process that has torch loaded; keeps what came out in a file.

A run that is in the file already is not made again, unless the program has changed since.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from zoo import data
from zoo.doctors import DOCTORS
from zoo.program import Cell, Program
from zoo.running import LOST, Outcome, run

TIME_LIMIT_S = 120.0
VARIANTS = ("sick", "twin", "healthy")


@dataclass(frozen=True)
class Job:
    """One run to make."""

    program: Program
    variant: str
    seed: int
    doctor: str
    cell: Cell | None = None  # what to run, where it is none of the program's versions

    @property
    def digest(self) -> str:
        """Tells the text that is run from others."""
        return (self.cell or self.program.version(self.variant)).digest

    @property
    def key(self) -> tuple[str, str, int, str, str]:
        """What tells this run from others, the program's text included."""
        return self.program.name, self.variant, self.seed, self.doctor, self.digest


def jobs_of(
    programs: Iterable[Program], *, doctor: str, seeds: int | None = None, variants: Container[str] = VARIANTS
) -> Iterator[Job]:
    """Iterate over all runs: 3 seeds of each sick program and its twin, 5 of each healthy one."""
    for program in programs:
        for seed in range(seeds or (3 if program.is_sick else 5)):
            for variant in program.variants:
                if variant in variants:
                    yield Job(program, variant, seed, doctor)


class Results:
    """Outcomes by key, kept in a file of JSON lines that is appended to after every run."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._known: dict[tuple[str, str, int, str, str], Outcome] = {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                self._remember(Outcome.of(json.loads(line)))

    def _remember(self, outcome: Outcome) -> None:
        key = (outcome.program, outcome.variant, outcome.seed, outcome.doctor, outcome.digest)
        self._known[key] = outcome

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome."""
        self._remember(outcome)
        if self.path is not None and not outcome.is_lost:  # a lost run is made again
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(outcome.as_dict()) + "\n")

    def get(self, job: Job) -> Outcome | None:
        """Return the outcome of a job, None if it was not run."""
        return self._known.get(job.key)


def run_all(
    jobs: Iterable[Job], *, results: Results, workers: int = 2, time_limit_s: float = TIME_LIMIT_S,
    tell: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:  # fmt: skip
    """Run what `results` does not have yet, `workers` at a time; return the outcomes of all jobs in their order."""
    jobs = list(jobs)
    _warm_up()
    waiting = [job for job in jobs if results.get(job) is None]
    running: dict[int, tuple[Job, Path, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    job = waiting.pop(0)
                    path = Path(folder) / f"{len(waiting)}.json"
                    running[_start(job, path)] = (job, path, time.monotonic())
                for pid in [p for p in running if _has_ended(p)]:
                    outcome = _collect(*running.pop(pid)[:2], "the process died")
                    results.add(outcome)
                    if tell is not None:
                        tell(outcome)
                for pid, (job, path, began) in list(running.items()):
                    if time.monotonic() - began > time_limit_s:
                        _kill(pid)
                        del running[pid]
                        results.add(_collect(job, path, f"took more than {time_limit_s:g} s"))
                time.sleep(0.01)
        finally:
            for pid in running:
                _kill(pid)
    return [outcome for job in jobs if (outcome := results.get(job)) is not None]


def _warm_up() -> None:
    """Load what every child would load: optimizers bring in most of torch."""
    data.digits()
    weight = nn.Linear(1, 1)
    torch.optim.Adam(weight.parameters())
    torch.set_num_threads(1)


def _start(job: Job, path: Path) -> int:
    """Fork a child that runs the job in a process group of its own, and return its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        outcome = run(job.program, job.variant, seed=job.seed, doctor=DOCTORS[job.doctor](), cell=job.cell)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(outcome.as_dict()))
        part.rename(path)
        code = 0
    except BaseException:  # told as the reason of a lost run; the process ends here in any case
        path.with_suffix(".lost").write_text(traceback.format_exc())
    finally:
        os._exit(code)


def _has_ended(pid: int) -> bool:
    return os.waitpid(pid, os.WNOHANG)[0] == pid


def _kill(pid: int) -> None:
    """End a child and what it started."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:  # it ended meanwhile, or has no group of its own yet
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _collect(job: Job, path: Path, why: str) -> Outcome:
    if path.exists():
        return Outcome.of(json.loads(path.read_text()))
    lost = path.with_suffix(".lost")
    told = lost.read_text().strip().split("\n")[-1] if lost.exists() else why
    return Outcome(job.program.name, job.variant, job.seed, job.doctor, job.digest, error=f"{LOST}{told}")
