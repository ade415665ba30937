"""The notebook of a run as it was: made from its recorded cells or its executed notebook, and written to a file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbops.core.errors import Conflict, InvalidInput, NotFound
from nbops.core.ids import short_id
from nbops.core.query import Both, Compare, Field
from nbops.core.records import Artifact, Run
from nbops.pipelines.notebooks import dump_notebook, nbf, prepare_cells
from nbops.pipelines.parameters import INJECTED_TAG, TAG
from nbops.store.workspace import Workspace, workspace
from nbops.tracking.capture.background import drain
from nbops.tracking.code.history import Execution, NotebookFile, executions, notebook_file, run_of
from nbops.tracking.code.names import names_of

_EXECUTED = "executed/"
_LOADS = re.compile(r"^\s*%(re)?load_ext\s+nbops\b", re.MULTILINE)
_REPLAYS = re.compile(r"\bnb(ops)?\.(verify|rerun)\s*\(|^\s*%mlops\s+(verify|rerun|checkout)\b", re.MULTILINE)
_UNSAFE = re.compile(r"[^\w.-]+")
SETUP_ID = "nbops-setup"


@dataclass(frozen=True)
class Captured:
    """A notebook that can be executed again.

    Attributes
    ----------
    notebook : NotebookNode
        Cells in the order of the notebook.
    name : str
        File name, with ``.ipynb``.
    folder : Path
        Where its kernel worked.
    parameters : dict
        Values that had been given to it as a step.
    incomplete : tuple of str
        Ids of the cells of which not all source is stored.
    """

    notebook: Any
    name: str
    folder: Path
    parameters: dict[str, Any]
    incomplete: tuple[str, ...] = ()

    def require_whole(self) -> None:
        """Raise `InvalidInput` if a cell's source is not stored in full, so that it cannot be executed."""
        if self.incomplete:
            raise InvalidInput(
                f"of cell {self.incomplete[0][:8]} not all source is stored: it was too long, or held a secret",
                hint="Move long data and secrets out of the cell, and run it again.",
            )


def captured(ws: Workspace, run: Run) -> Captured:
    """Return the run's notebook: the executed one of a step, else its recorded cells, each once, in their order.

    A cell that was executed before cells were recorded comes from the notebook's file, if a recorded cell
    needs a name that it defines.

    Raises
    ------
    NotFound
        No cells are recorded with the run.
    """
    kept = executed_notebook(ws, run)
    if kept is not None:
        return _of_step(ws, run, *kept)
    history = executions(ws, run)
    if not any(e.is_inside for e in history):
        raise NotFound(
            f"run '{run.name}' has no recorded cells, so there is no notebook of it",
            hint="Load the extension before the run: %load_ext nbops",
        )
    file = notebook_file(run, {e.id for e in history})
    cells = _ordered(history, file)
    notebook = nbf.v4.new_notebook()
    for id, e, source in cells:
        cell = nbf.v4.new_code_cell(source, id=id)
        if e is not None:
            cell.execution_count = e.cell.execution_count
            cell.outputs = _outputs(ws, e.cell.outputs)
        notebook.cells.append(cell)
    if file is not None:
        _add_from_file(notebook, file)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    _set_up(notebook)
    prepare_cells(notebook)
    incomplete = tuple(id for id, e, source in cells if e is not None and e.is_cut and source == e.cell.source)
    origin = Path(str(run.context.get("source", "")))
    name = origin.name if origin.suffix == ".ipynb" else f"{_UNSAFE.sub('-', run.name)[:80]}.ipynb"
    folder = origin.parent if origin.suffix == ".ipynb" and origin.parent.is_dir() else Path.cwd()
    return Captured(notebook, name, folder, {}, incomplete)


def executed_notebook(ws: Workspace, run: Run) -> tuple[Run, Artifact] | None:
    """Return the step whose notebook a run was executed in (itself, or the one around it) and that notebook's file."""
    step: Run | None = run
    for _ in range(8):
        if step is None:
            return None
        files = _artifacts(ws, step)
        if files:
            return step, files[0]
        step = next(iter(ws.store.find(Run, Compare(Field("id"), "==", step.parent), limit=1)), None)
    return None


def _artifacts(ws: Workspace, run: Run) -> list[Artifact]:
    where = Both("and", (Compare(Field("parent"), "==", run.id), Compare(Field("name"), "contains", _EXECUTED)))
    return [a for a in ws.store.find(Artifact, where) if a.name.startswith(_EXECUTED)]


def _of_step(ws: Workspace, run: Run, step: Run, artifact: Artifact) -> Captured:
    notebook = nbf.reads(ws.artifacts.read(artifact.digest).decode(), as_version=4)
    values = {name: value for name, value in step.params.items() if name in _given(notebook)}
    notebook.cells = [c for c in notebook.cells if INJECTED_TAG not in c.metadata.get("tags", [])]
    folder = Path(str(step.context.get("cwd", "")) or ".")
    name = artifact.name.removeprefix(_EXECUTED)
    return Captured(notebook, name, folder if folder.is_dir() else Path.cwd(), values)


def _given(notebook: Any) -> set[str]:
    return set(notebook.metadata.get("papermill", {}).get("parameters", {}))


Row = tuple[str, Execution | None, str]


def _ordered(history: list[Execution], file: NotebookFile | None) -> list[Row]:
    """Return each cell once, with its last source, in the order of the file, else of first execution."""
    last = {e.id: e for e in history}
    kept = {id: e for id, e in last.items() if e.is_inside or not _is_dropped(e)}
    order = list(dict.fromkeys(e.id for e in history if e.cell.status == "ok")) + list(last)
    rows: list[Row] = [(id, kept[id], _whole(kept[id], file)) for id in dict.fromkeys(order) if id in kept]
    if file is None:
        return rows
    rows += [(id, None, file.sources[id]) for id in _needed(kept.values(), file, set(last))]
    place = {id: i for i, id in enumerate(file.sources)}
    after = -1  # a cell that the file does not have stays behind the one that it was executed after
    keys = {}
    for n, (id, _, _) in enumerate(rows):
        after = place.get(id, after)
        keys[id] = (after, id not in place, n)
    return sorted(rows, key=lambda row: keys[row[0]])


def _is_dropped(e: Execution) -> bool:
    """Return whether a cell outside the run is left out: it failed, or it would execute notebooks again."""
    return e.cell.status != "ok" or bool(_REPLAYS.search(e.cell.source))


def _whole(e: Execution, file: NotebookFile | None) -> str:
    """Return the source of a cell; from the file where only there is all of it."""
    saved = file.sources.get(e.id) if file is not None and e.is_cut else None
    is_same = saved is not None and hashlib.sha256(saved.encode()).hexdigest() == e.cell.source_digest
    return saved if is_same and saved is not None else e.cell.source


def _needed(kept: Iterable[Execution], file: NotebookFile, known: set[str]) -> list[str]:
    """Return cells of the file that were executed unrecorded and define what the others read, or load nbops."""
    unrecorded = {id: s for id, s in file.sources.items() if id not in known and file.counts[id] is not None}
    found = {id for id, source in unrecorded.items() if _LOADS.search(source)}
    parts = [e.names for e in kept] + [names_of(unrecorded[id]) for id in found]
    while True:
        taken = {n for p in parts for n in (*p.reads, *(late for names in p.late.values() for late in names))}
        missing = taken - {n for p in parts for n in p.writes}
        more = {i for i, s in unrecorded.items() if i not in found and missing & set(names_of(s).writes)}
        if not more:
            return [id for id in unrecorded if id in found]
        found |= more
        parts += [names_of(unrecorded[id]) for id in more]


def _add_from_file(notebook: Any, file: NotebookFile) -> None:
    """Add what is not recorded of a notebook: its text between the cells, and which cell is its parameters cell."""
    raw = json.loads(file.path.read_bytes())["cells"]
    cells = {cell["id"]: cell for cell in notebook.cells}
    text: list[Any] = []
    for each in raw:
        cell = cells.get(each.get("id"))
        if each["cell_type"] != "code":
            text.append(nbf.from_dict(each))
            text[-1].source = "".join(each["source"])
        elif cell is not None:
            cell.metadata["tags"] = [tag for tag in each.get("metadata", {}).get("tags", []) if tag == TAG]
            place = next(i for i, other in enumerate(notebook.cells) if other is cell)
            notebook.cells[place:place] = text
            text = []
    notebook.cells += text


def _set_up(notebook: Any) -> None:
    """Begin with what was executed before cells were recorded and is in no file: the extension, and ``nb``."""
    sources = [cell.source for cell in notebook.cells]
    lines = []
    if not any(_LOADS.search(s) for s in sources):
        lines.append("%load_ext nbops")
    written: set[str] = set()
    for source in sources:
        names = names_of(source)
        if "nb" in names.reads and "nb" not in written:
            lines.append("import nbops as nb")
            break
        written.update(names.writes)
    if lines:
        notebook.cells.insert(0, nbf.v4.new_code_cell("\n".join(lines), id=SETUP_ID, metadata={"tags": []}))


def _outputs(ws: Workspace, digest: str) -> list[Any]:
    if not digest or not ws.artifacts.exists(digest):
        return []
    return [nbf.from_dict(output) for output in json.loads(ws.artifacts.read(digest))]


def checkout(run: Any, *, to: str | Path | None = None) -> Path:
    """Write the notebook of a run as it was, and return the file.

    Parameters
    ----------
    run : Run, LiveRun or str
        The run, its id, or its name.
    to : str or Path, optional
        The file, or a folder for it; ``<notebook>-<end of the run's id>.ipynb`` here if None.

    Raises
    ------
    Conflict
        The file exists already; it is left as it is.
    NotFound
        No such run, it has no recorded cells, or there is no such folder.
    """
    ws = workspace()
    drain()  # outputs are stored a moment after their cell
    record = run_of(ws, run)
    found = captured(ws, record)
    name = f"{Path(found.name).stem}-{short_id(record.id)[-6:].lower()}.ipynb"
    path = Path(name) if to is None else Path(to).expanduser()
    if path.is_dir():
        path = path / name
    if not path.parent.is_dir():
        raise NotFound(f"no folder '{path.parent}'", hint="Create it, or give another path.")
    found.notebook.metadata["nbops"] = {"run": record.id}
    try:
        with path.open("xb") as file:
            file.write(dump_notebook(found.notebook))
    except FileExistsError:
        raise Conflict(f"'{path}' exists already", hint="Give another path: --to PATH") from None
    return path
