"""What a run remembers of where it was made: code revision, notebook, Python, libraries, machine."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

_LIBRARIES = ("torch", "numpy", "pandas", "polars", "sklearn", "onnxruntime", "transformers", "lightning", "xgboost")


def capture() -> dict[str, Any]:
    """Return the context of a run that starts now; costs well under a millisecond, starts no process."""
    versions = {name: getattr(sys.modules[name], "__version__", "?") for name in _LIBRARIES if name in sys.modules}
    context: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
        "libraries": versions,
    }
    source = os.environ.get("JPY_SESSION_NAME") or (sys.argv[0] if sys.argv and sys.argv[0] else "")
    if source:
        context["source"] = source
    revision = git_revision(Path.cwd())
    if revision:
        context["git"] = revision
    return context


def git_revision(start: Path) -> dict[str, str]:
    """Return commit and branch of the checkout around `start`, read from git's files; empty outside one."""
    for folder in (start, *start.parents):
        entry = folder / ".git"
        if entry.exists():
            try:
                return _read_head(_git_folder(entry))
            except OSError:
                return {}
    return {}


def _git_folder(entry: Path) -> Path:
    if entry.is_dir():
        return entry
    return (entry.parent / entry.read_text().removeprefix("gitdir:").strip()).resolve()  # a worktree


def _read_head(folder: Path) -> dict[str, str]:
    head = (folder / "HEAD").read_text().strip()
    if not head.startswith("ref: "):
        return {"commit": head}
    name = head.removeprefix("ref: ")
    common = folder / "commondir"
    places = [folder, (folder / common.read_text().strip()).resolve()] if common.exists() else [folder]
    found = {"branch": name.removeprefix("refs/heads/")}
    for place in places:
        if (place / name).exists():
            return {**found, "commit": (place / name).read_text().strip()}
        if (place / "packed-refs").exists():
            for line in (place / "packed-refs").read_text().splitlines():
                if line.endswith(f" {name}"):
                    return {**found, "commit": line.split(" ")[0]}
    return found
