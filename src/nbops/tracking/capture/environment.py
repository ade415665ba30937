"""The environment of a run: installed packages and how they changed between runs, hardware, random states."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

from nbops.core.errors import NotFound
from nbops.core.records import Run
from nbops.store.workspace import workspace
from nbops.tracking.machine import nvml

_FOLDER = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)\.dist-info$")


@dataclass(frozen=True)
class PackageChanges:
    """How the packages of one run differ from those of another.

    Attributes
    ----------
    added, removed : dict of str to str
        Version by name: packages that only the second, only the first run had.
    changed : dict of str to (str, str)
        Versions in the first and the second run.
    """

    added: dict[str, str] = field(default_factory=dict)
    removed: dict[str, str] = field(default_factory=dict)
    changed: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter((self.added, self.removed, self.changed))


def package_changes(run_a: Run | str, run_b: Run | str) -> PackageChanges:
    """Return what was added, removed and changed from the packages of `run_a` to those of `run_b`.

    Parameters
    ----------
    run_a, run_b : Run or str
        Records or ids.

    Raises
    ------
    NotFound
        A run has no list of packages: it was recorded elsewhere, or ended before the list was made.
    """
    before, after = (_packages_of(run) for run in (run_a, run_b))
    return PackageChanges(
        added={name: after[name] for name in sorted(after.keys() - before.keys())},
        removed={name: before[name] for name in sorted(before.keys() - after.keys())},
        changed={
            name: (before[name], after[name])
            for name in sorted(before.keys() & after.keys())
            if before[name] != after[name]
        },
    )


def _packages_of(run: Run | str) -> dict[str, str]:
    ws = workspace()
    record = ws.store.get(Run, run) if isinstance(run, str) else run
    if "packages" not in record.context:
        record = ws.store.get(Run, record.id)  # the list comes shortly after the start
    digest = record.context.get("packages", {}).get("digest")
    if not digest:
        raise NotFound(
            f"run '{record.name}' has no list of packages", hint="Compare runs that nbops itself recorded to their end."
        )
    lines = ws.artifacts.read(digest).decode().splitlines()
    return {name: version for name, _, version in (line.partition("==") for line in lines)}


@functools.cache
def packages() -> list[str]:
    """Return ``name==version`` of every installed distribution, sorted, names in normal form.

    Wheels say both in the name of their folder (Binary distribution format, "The .dist-info directory");
    the few others are asked through `importlib.metadata`.
    """
    found: dict[str, str] = {}
    for place in sys.path:
        for name, version in _installed_in(Path(place or ".")):
            found.setdefault(name, version)  # the first on the path is what an import finds
    return [f"{name}=={found[name]}" for name in sorted(found)]


def _installed_in(folder: Path) -> Iterator[tuple[str, str]]:
    try:
        names = os.listdir(folder)
    except OSError:  # a zip file, or a folder that does not exist
        return
    for name in sorted(names):
        match = _FOLDER.match(name)
        if match:
            yield _normal(match["name"]), match["version"]
        elif name.endswith((".egg-info", ".dist-info")):
            asked = Distribution.at(folder / name)
            title = asked.metadata["Name"]
            if title:
                yield _normal(title), asked.version


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@functools.cache
def hardware() -> dict[str, Any]:
    """Return the machine: processor, cores, memory and GPUs; asked once per process."""
    import psutil

    return {
        "cpu": cpu_model(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "threads": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": nvml.describe(),
    }


@functools.cache
def cpu_model() -> str:
    """Return the processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith(("model name", "hardware")):
                return line.partition(":")[2].strip()
    except OSError:  # not Linux
        return platform.processor()
    return platform.processor()


def random_states() -> dict[str, Any]:
    """Return what is known of the random generators now; modules that nobody loaded are left out.

    For torch the seed itself; for NumPy's global generator and Python's, which keep no seed, a
    digest of the state: equal digests draw equal numbers.
    """
    states: dict[str, Any] = {}
    torch, numpy, python = (sys.modules.get(name) for name in ("torch", "numpy", "random"))
    if torch is not None and hasattr(torch, "initial_seed"):
        states["torch"] = torch.initial_seed()
    if numpy is not None and "numpy.random" in sys.modules:
        name, keys, position, *_ = numpy.random.get_state()
        states["numpy"] = _digest(name.encode() + keys.tobytes() + str(position).encode())
    if python is not None:
        states["python"] = _digest(repr(python.getstate()).encode())
    return states


def _digest(state: bytes) -> str:
    return hashlib.sha256(state).hexdigest()[:16]
