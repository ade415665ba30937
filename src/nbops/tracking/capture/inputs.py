"""Which files and URLs this process read, seen through Python's audit events; bounded, and never in the way.

An audit hook cannot be taken away: switched off, it returns at once. Readers that open files
outside Python (Arrow, DuckDB, Polars) raise no event, so what they read is not seen.
"""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbops.core.errors import NotFound
from nbops.core.records import Run, replace
from nbops.store.context import current_cell
from nbops.tracking.capture.background import is_here, submit
from nbops.tracking.redaction import redact_url

if TYPE_CHECKING:
    from nbops.store.workspace import Workspace

MAX_KEPT = 1000  # in this process
MAX_FILES = 200  # in one run
DIGEST_MAX_BYTES = 64 << 20  # of one file
DIGEST_TIME_S = 2.0  # of one run
_CODE = (".py", ".pyc", ".pyi", ".pyw", ".so", ".dll", ".pyd", ".dylib", ".ipynb", ".pth", ".egg-link")
_OWN = tuple(f"{os.sep}{name}{os.sep}" for name in (".git", ".nbops", ".ipynb_checkpoints", "__pycache__"))
_WRITES = os.O_WRONLY | os.O_RDWR


@dataclass
class _Read:
    """One file or URL: when it was read last, in which cell, and whether ever outside all runs."""

    at: float
    cell_id: str | None
    is_loose: bool


_files: dict[str, _Read] = {}
_urls: dict[str, _Read] = {}
_written: dict[str, None] = {}
_open_runs = 0
_is_on = False
_is_installed = False
_busy = threading.local()  # the hook's own work raises events too
_foreign: tuple[str, ...] = ()


def switch_on() -> None:
    """Begin to note what is read; doing so twice changes nothing."""
    global _is_on, _is_installed, _foreign
    if not _foreign:
        _foreign = _not_data()
    if not _is_installed:
        sys.addaudithook(_hook)
        _is_installed = True
    _is_on = True


def switch_off() -> None:
    """Note nothing more and forget what was noted."""
    global _is_on
    _is_on = False
    for known in (_files, _urls, _written):
        known.clear()


def run_opened(ws: Workspace) -> None:
    """Tell that a run begins: from now on reads belong to it. The setting decides whether there are any."""
    global _open_runs
    _open_runs += 1
    if ws.settings.capture_files:
        switch_on()
    else:
        switch_off()


def run_ending(ws: Workspace, run_id: str, *, since: float) -> dict[str, Any]:
    """Return what a run read, for its context: since it began, or before it while no run was open.

    Digests follow: the background thread adds them.
    """
    global _open_runs
    _open_runs = max(0, _open_runs - 1)
    if not _is_on:
        return {}
    inside = f"{os.fspath(ws.path)}{os.sep}"
    mine = [(path, read) for path, read in list(_files.items()) if read.is_loose or read.at >= since]
    files = [entry for path, read in mine if not path.startswith(inside) and (entry := _entry(path, read))]
    urls = [
        {"url": url, "cell": read.cell_id} for url, read in list(_urls.items()) if read.is_loose or read.at >= since
    ]
    if files:
        submit(lambda: _add_digests(ws, run_id))
    found: dict[str, Any] = {"files": files[-MAX_FILES:]} if files else {}
    if len(files) > MAX_FILES:
        found["files_left_out"] = len(files) - MAX_FILES
    return {**found, "urls": urls[-MAX_FILES:]} if urls else found


def joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs of two parts of one run together; of a file read in both, what was seen last."""
    result: dict[str, Any] = {**first, **second}
    for part, key in (("files", "path"), ("urls", "url")):
        entries = {entry[key]: entry for entry in [*first.get(part, []), *second.get(part, [])]}
        if entries:
            result[part] = list(entries.values())[-MAX_FILES:]
    return result


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Called for every audit event of the process; it must not raise, for that would break the audited call."""
    if not _is_on or event not in _EVENTS or getattr(_busy, "now", False):
        return
    _busy.now = True
    try:
        _EVENTS[event](arguments)
    except (OSError, ValueError, TypeError, RuntimeError, AttributeError):
        return  # an odd path, or a folder that is gone: the call itself will tell
    finally:
        _busy.now = False


def _on_open(arguments: tuple[Any, ...]) -> None:
    name, mode, flags = arguments
    if isinstance(name, int):  # a descriptor: its file was seen before
        return
    path = os.path.abspath(os.fsdecode(name))
    if path.startswith(_foreign) or path.endswith(_CODE) or any(part in path for part in _OWN):
        return
    if (mode and not mode.startswith("r")) or (mode and "+" in mode) or (isinstance(flags, int) and flags & _WRITES):
        if len(_written) < MAX_KEPT and path not in _files:
            _written[path] = None
    elif path not in _written and not is_here():
        _note(_files, path)


def _on_url(arguments: tuple[Any, ...]) -> None:
    url = arguments[0]
    if isinstance(url, str) and not url.startswith("file:"):
        _note(_urls, redact_url(url))


def _on_sqlite(arguments: tuple[Any, ...]) -> None:
    name = os.fsdecode(arguments[0])
    if name and not name.startswith((":", "file:")) and os.path.isfile(name):
        _on_open((name, "r", 0))


_EVENTS = {"open": _on_open, "urllib.Request": _on_url, "sqlite3.connect": _on_sqlite}


def _note(known: dict[str, _Read], name: str) -> None:
    cell = current_cell()
    read = known.get(name)
    if read is None and len(known) >= MAX_KEPT:
        return
    loose = _open_runs == 0 or (read is not None and read.is_loose)
    known[name] = _Read(time.time(), cell.cell_id if cell else None, loose)


def _entry(path: str, read: _Read) -> dict[str, Any] | None:
    """Return name, size and time of change; None for what is no file any more."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    if not os.path.isfile(path):
        return None
    return {"path": path, "size_bytes": stat.st_size, "modified_at": stat.st_mtime, "cell": read.cell_id}


def _add_digests(ws: Workspace, run_id: str) -> None:
    """Digest the run's files, smallest first, within a limit of time; those left have none."""
    end = time.monotonic() + DIGEST_TIME_S
    try:
        files = ws.store.get(Run, run_id).context.get("inputs", {}).get("files", [])
    except NotFound:  # the run was deleted meanwhile
        return
    digests = {}
    for entry in sorted(files, key=lambda entry: entry["size_bytes"]):
        if entry["size_bytes"] > DIGEST_MAX_BYTES or time.monotonic() > end:
            break
        try:
            with Path(entry["path"]).open("rb") as stream:
                digests[entry["path"]] = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError:  # gone since the run ended: name, size and time stay
            continue

    def change(run: Run) -> Run:
        inputs = run.context["inputs"]
        known = [{**f, "digest": digests[f["path"]]} if f["path"] in digests else f for f in inputs["files"]]
        return replace(run, context={**run.context, "inputs": {**inputs, "files": known}})

    if digests:
        ws.outbox.update(Run, run_id, change)


def _not_data() -> tuple[str, ...]:
    """Return beginnings of paths that hold no user's data: the interpreter, libraries, devices, caches."""
    home = os.path.expanduser("~")
    libraries = [
        sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib", "scripts", "data")
    ]
    # A prefix such as /usr would hide a user's data below it: its library folders are enough.
    folders = [folder for folder in libraries if folder not in (os.sep, "/usr", "/usr/local", home)]
    folders += [os.path.join(sys.prefix, part) for part in ("lib", "etc", "share/jupyter", "share/fonts")]
    folders += [os.path.join(sys.base_prefix, part) for part in ("lib", "etc", "share")]
    folders += [os.path.join(tempfile.gettempdir(), f"ipykernel_{os.getpid()}")]
    folders += ["/proc", "/sys", "/dev", "/etc", "/run", "/usr/lib", "/usr/share", "/lib", "/lib64"]
    folders += [folder for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR", "PYTHONPYCACHEPREFIX")
                if (folder := os.environ.get(variable))]  # fmt: skip
    # Hidden folders of the home hold settings and caches; models and data lie elsewhere.
    ended = [os.path.abspath(folder) + os.sep for folder in folders]
    return (*ended, os.path.join(home, "."), os.path.join(home, "Library") + os.sep)


def _after_fork() -> None:
    global _open_runs, _busy
    _open_runs, _busy = 0, threading.local()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
