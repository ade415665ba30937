"""Notebook files: read without touching them, give cells ids, inject parameters, write all or nothing."""

from __future__ import annotations

import hashlib
import math
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat as _nbformat

from nbops.core.errors import InvalidInput
from nbops.pipelines.parameters import INJECTED_TAG, TAG, injected_source, load_json

nbf: Any = _nbformat  # its functions carry no types
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def load_notebook(path: Path) -> tuple[Any, str]:
    """Return the notebook of a file, in the newest format, and the sha256 of the file's bytes.

    Every cell has an id: its own, or one that depends on its place and source only, so that a
    second run of a notebook in an older format has the same ids.
    """
    raw = load_json(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    try:
        is_new = raw["nbformat"] == 4
        notebook = nbf.v4.to_notebook(raw) if is_new else nbf.reads(path.read_text("utf-8"), as_version=4)
        prepare_cells(notebook)
    except (nbf.ValidationError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"'{path}' is not a notebook: {error}", hint="Open and save it in JupyterLab.") from error
    return notebook, digest


def prepare_cells(notebook: Any) -> None:
    """Give each cell an id that is valid and its own, and set the format that has ids (4.5)."""
    seen: set[str] = set()
    for index, cell in enumerate(notebook.cells):
        id = cell.get("id", "")
        if not isinstance(id, str) or not _ID.fullmatch(id) or id in seen:
            id = hashlib.sha256(f"{index}:{cell.cell_type}:{cell.source}".encode()).hexdigest()[:12]
        seen.add(id)
        cell["id"] = id
        cell.metadata.setdefault("tags", [])
    notebook.nbformat, notebook.nbformat_minor = 4, max(5, notebook.nbformat_minor)


def clear_results(notebook: Any) -> None:
    """Remove outputs and counts of an earlier execution."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        cell.metadata.pop("execution", None)


def inject(notebook: Any, values: Mapping[str, Any]) -> None:
    """Set parameters by a cell of its own after the parameters cell, replacing one of an earlier run.

    Tags and metadata are papermill's, so that its readers understand the notebook.
    """
    notebook.cells = [cell for cell in notebook.cells if INJECTED_TAG not in cell.metadata.get("tags", [])]
    notebook.metadata.setdefault("papermill", nbf.from_dict({}))["parameters"] = _json_safe(dict(values))
    if not values:
        return
    ids = {cell["id"] for cell in notebook.cells}
    id = next(name for name in (INJECTED_TAG, *(f"{INJECTED_TAG}-{n}" for n in range(len(ids) + 1))) if name not in ids)
    cell = nbf.v4.new_code_cell(injected_source(values), id=id, metadata={"tags": [INJECTED_TAG]})
    tagged = [n for n, each in enumerate(notebook.cells) if TAG in each.metadata.get("tags", [])]
    notebook.cells.insert(tagged[0] + 1 if tagged else 0, cell)


def _json_safe(value: Any) -> Any:
    """Return plain data that JSON has: nan and infinity become text, which every reader of notebooks takes."""
    if isinstance(value, dict):
        return {str(key): _json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_safe(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def dump_notebook(notebook: Any) -> bytes:
    """Return the bytes of a notebook as JupyterLab would write it."""
    text = str(nbf.v4.writes(notebook))
    return (text.rstrip("\n") + "\n").encode()


def write_atomic(path: Path, data: bytes) -> None:
    """Replace a file so that a reader sees the old or the new bytes, also after a power cut."""
    path = path.resolve()  # a link stays a link
    temporary = path.with_name(f".{path.name[:80]}.{os.getpid()}.{time.monotonic_ns():x}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class NotebookWriter:
    """Keeps a file up to date with a notebook that is being executed.

    Parameters
    ----------
    path : Path or None
        Where to write; None writes nothing.
    every_s : float
        Shortest time between two writes, seconds. Writes that take long space themselves out
        further: they take at most a tenth of the time.
    """

    def __init__(self, path: Path | None, *, every_s: float = 5.0) -> None:
        self.path = path
        self._every_s = every_s
        self._next = time.monotonic() + every_s

    def maybe(self, notebook: Any) -> None:
        """Write if the last write is long enough ago."""
        if self.path is not None and self._every_s > 0 and time.monotonic() >= self._next:
            self.write(notebook)

    def write(self, notebook: Any) -> None:
        """Write now."""
        if self.path is None:
            return
        started = time.monotonic()
        write_atomic(self.path, dump_notebook(notebook))
        now = time.monotonic()
        self._next = now + max(self._every_s, 10 * (now - started))


def refuse_own_output(source: Path, output: Path) -> None:
    """Raise `InvalidInput` when the executed notebook would replace its source."""
    same = output.resolve() == source.resolve() or (output.exists() and source.exists() and output.samefile(source))
    if same:
        raise InvalidInput(
            f"the executed notebook would replace its source '{source}'",
            hint="Give another path for the output, or none: the run keeps it.",
        )
    if not output.parent.is_dir():
        raise InvalidInput(f"the folder '{output.parent}' does not exist", hint="Create it first.")
