"""What `doctor` examines: Python and libraries, the workspace, the front ends. It changes nothing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

from nbops.core.display import Shown
from nbops.core.errors import NbopsError
from nbops.core.records import Verdict

_LIBRARIES = ("torch", "onnx", "sqlalchemy", "papermill", "ipykernel", "jupyterlab", "uvicorn")
_RUNTIMES = ("onnxruntime-gpu", "onnxruntime")
_LOW_DISK_BYTES = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One thing that was examined."""

    name: str
    verdict: Verdict
    found: str
    fix: str = ""


@dataclass(frozen=True)
class Doctor(Shown):
    """All findings."""

    findings: tuple[Finding, ...]

    @property
    def is_well(self) -> bool:
        """Whether nothing fails; warnings are well enough."""
        return all(f.verdict.severity < Verdict.FAIL.severity for f in self.findings)


def examine() -> Doctor:
    """Return the findings about this installation and the workspace found from here."""
    parts: tuple[Callable[[], Iterator[Finding]], ...] = (_python, _libraries, _runtimes, _workspace, _front_ends)
    return Doctor(tuple(finding for part in parts for finding in part()))


def _python() -> Iterator[Finding]:
    yield Finding("Python", Verdict.PASS, f"{platform.python_version()} on {platform.platform(terse=True)}")
    yield Finding("nbops", Verdict.PASS, _version_of("nbops") or "not installed, imported from a folder")


def _version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _libraries() -> Iterator[Finding]:
    for name in _LIBRARIES:
        found = _version_of(name)
        if found:
            yield Finding(name, Verdict.PASS, found)
        else:
            yield Finding(name, Verdict.FAIL, "is not installed", f"Install it with: pip install {name}")


def _runtimes() -> Iterator[Finding]:
    found = [f"{name} {_version_of(name)}" for name in _RUNTIMES if _version_of(name)]
    if len(found) > 1:
        yield Finding("ONNX Runtime", Verdict.FAIL, " and ".join(found),
                      "Uninstall both, then install nbops again: they overwrite each other.")  # fmt: skip
    elif found:
        yield Finding("ONNX Runtime", Verdict.PASS, found[0])
    else:
        yield Finding("ONNX Runtime", Verdict.FAIL, "is not installed", "Install it with: pip install onnxruntime")


def _workspace() -> Iterator[Finding]:
    from nbops.store.discovery import locate
    from nbops.store.workspace import is_open, workspace

    path = workspace().path if is_open() else locate()
    if not path.is_dir():
        yield Finding("workspace", Verdict.PASS, f"none yet; it would be {path}")
        return
    if not os.access(path, os.W_OK):
        yield Finding("workspace", Verdict.FAIL, f"{path} cannot be written", "Choose another with NBOPS_WORKSPACE.")
        return
    try:
        ws = workspace()
        ws.store.events(limit=1)
    except NbopsError as error:
        yield Finding("workspace", Verdict.FAIL, f"{path}: {error.message}", error.hint)
        return
    yield Finding("workspace", Verdict.PASS, str(ws.path))
    free = shutil.disk_usage(path).free
    low = free < _LOW_DISK_BYTES
    yield Finding("disk", Verdict.WARN if low else Verdict.PASS, f"{free / 1e9:.1f} GB free",
                  "Free some space: runs and models are kept there." if low else "")  # fmt: skip


def _front_ends() -> Iterator[Finding]:
    lab = Path(sys.prefix, "share", "jupyter", "labextensions", "nbops", "package.json")
    if lab.exists():
        yield Finding("JupyterLab panel", Verdict.PASS, "installed")
    else:
        yield Finding("JupyterLab panel", Verdict.WARN, f"not found under {sys.prefix}",
                      "Install nbops into the environment that runs JupyterLab.")  # fmt: skip
    engine = any(point.name == "nbops" for point in entry_points(group="papermill.engine"))
    if engine:
        yield Finding("papermill engine", Verdict.PASS, "papermill --engine nbops")
    else:
        yield Finding("papermill engine", Verdict.WARN, "not registered", "Install nbops with pip, not by path.")
