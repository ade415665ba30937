"""What a run remembers of where it was made: what is known at once, and what the background thread finds out.

At once: code revision, notebook, Python, libraries, random states. Soon after: what was not committed,
all packages, the hardware. None of it holds up the start of a run.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import threading
import time
from pathlib import Path
from typing import Any

from nbops.core.errors import NotFound
from nbops.core.ids import new_id
from nbops.core.records import Artifact, Link, Run, replace
from nbops.store.workspace import Workspace
from nbops.tracking.capture.background import submit, tell_once
from nbops.tracking.capture.environment import hardware, packages, random_states
from nbops.tracking.capture.revision import git_revision, git_top, uncommitted

PATCH = "code/diff.patch"
PACKAGES = "environment/packages.txt"
_LIBRARIES = ("torch", "numpy", "pandas", "polars", "sklearn", "onnxruntime", "transformers", "lightning", "xgboost")

_waiting: list[tuple[Workspace, str, Path]] = []  # runs whose surroundings are still to be found out
_lock = threading.Lock()
_recorded: set[tuple[str, str]] = set()  # (workspace, digest) of package lists that have their record


def capture() -> dict[str, Any]:
    """Return the context of a run that starts now; costs well under a millisecond, starts no process."""
    versions = {name: getattr(sys.modules[name], "__version__", "?") for name in _LIBRARIES if name in sys.modules}
    context: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
        "libraries": versions,
        "seeds": random_states(),
    }
    source = os.environ.get("JPY_SESSION_NAME") or (sys.argv[0] if sys.argv and sys.argv[0] else "")
    if source:
        context["source"] = source
    revision = git_revision(Path.cwd())
    if revision:
        context["git"] = revision
    return context


def capture_later(ws: Workspace, run_id: str) -> None:
    """Let the background thread add to the run's context what takes longer; runs that wait share one look."""
    with _lock:
        _waiting.append((ws, run_id, Path.cwd()))
        if len(_waiting) > 1:
            return
    submit(_look)


def _look() -> None:
    with _lock:
        waiting = list(_waiting)
        _waiting.clear()
    found: dict[Path, dict[str, Any]] = {}
    for ws, run_id, cwd in waiting:
        try:
            if cwd not in found:
                found[cwd] = _ask_git(ws, cwd)
            _add(ws, run_id, found[cwd])
        except NotFound:  # the run was deleted meanwhile
            continue
        except OSError as error:
            tell_once("what is not committed", error)


def _ask_git(ws: Workspace, cwd: Path) -> dict[str, Any]:
    """Return `git` entries for a run's context, the patch under ``_patch``."""
    top = git_top(cwd)
    changes = uncommitted(top, max_bytes=ws.settings.diff_max_bytes) if top is not None else None
    if changes is None:
        return {}
    found: dict[str, Any] = {"dirty": changes.is_dirty, "_patch": changes.patch}
    if changes.untracked:
        found |= {"untracked": changes.untracked, "untracked_count": changes.untracked_count}
    return {**found, "note": changes.note} if changes.note else found


def _add(ws: Workspace, run_id: str, git: dict[str, Any]) -> None:
    patch = git.get("_patch", b"")
    entries = {key: value for key, value in git.items() if key != "_patch"}
    more = {"packages": _packages_of(ws), "hardware": hardware()}
    stored = _stored(ws, patch, PATCH, media_type="text/x-diff", parent=run_id) if patch else None
    if stored is not None:
        entries["diff"] = stored.digest

    def change(run: Run) -> Run:
        known = {**run.context.get("git", {}), **entries}
        return replace(run, context={**run.context, **more, **({"git": known} if known else {})})

    ws.outbox.update(Run, run_id, change)
    if stored is not None:  # the run was made from it
        ws.outbox.put(stored, links=[Link(source=stored.id, relation="used_by", target=run_id)])


def _packages_of(ws: Workspace) -> dict[str, Any]:
    """Return digest and count of the installed packages; their list is kept once per workspace."""
    lines = packages()
    data = "".join(f"{line}\n" for line in lines).encode()
    digest = hashlib.sha256(data).hexdigest()
    key = (os.fspath(ws.path), digest)
    if key not in _recorded:
        if not ws.artifacts.exists(digest):
            ws.outbox.put(_stored(ws, data, PACKAGES, media_type="text/plain", parent=None))
        _recorded.add(key)
    return {"digest": digest, "count": len(lines)}


def _stored(ws: Workspace, data: bytes, name: str, *, media_type: str, parent: str | None) -> Artifact:
    """Store bytes, unless they are there, and return the record that is to be put."""
    digest, size = hashlib.sha256(data).hexdigest(), len(data)
    if not ws.artifacts.exists(digest):
        ws.artifacts.put(data)
    return Artifact(id=new_id(Artifact.prefix), created_at=time.time(), name=name, digest=digest, size_bytes=size,
                    media_type=media_type, parent=parent)  # fmt: skip


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _waiting.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
