"""What a notebook step costs around its cells, beside stock papermill, in turns within one run."""

from __future__ import annotations

import json
import statistics
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nbops as nb
from nbops.store.workspace import init

GROUP = "Notebook steps"
pytestmark = pytest.mark.leaks("stock papermill leaves its client's sockets to the garbage collector")
ROUNDS = 15


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path) -> Iterator[None]:
    ws = init(tmp_path)
    yield
    ws.close()


def notebook(path: Path, *sources: str) -> Path:
    cells = [
        {"cell_type": "code", "execution_count": None, "id": f"c{n}", "metadata": {}, "outputs": [], "source": source}
        for n, source in enumerate(sources)
    ]
    kernelspec = {"name": "python3", "language": "python", "display_name": "Python 3"}
    content = {"cells": cells, "metadata": {"kernelspec": kernelspec}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(content))
    return path


def papermill(source: Path, output: Path, engine: str | None) -> Any:
    from papermill import execute_notebook

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return execute_notebook(source, output, engine_name=engine, progress_bar=False)


def in_turns(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median time of each way in seconds; they take turns, so that load falls on all alike."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()  # what is imported once
    for _ in range(ROUNDS):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            took[name].append(time.perf_counter() - begin)
    return {name: statistics.median(times) for name, times in took.items()}


def test_empty_step(bench: Any, tmp_path: Path) -> None:
    source, out = notebook(tmp_path / "empty.ipynb", "x = 1"), tmp_path / "out.ipynb"
    median = in_turns(
        {
            "nbops": lambda: nb.run_notebook(source, output=out, progress=False),
            "papermill with our engine": lambda: papermill(source, out, "nbops"),
            "stock papermill": lambda: papermill(source, out, None),
        }
    )
    ours = median.pop("nbops")
    bench.row(GROUP, "notebook with one empty cell, p50", ours=ours, unit="s", peers=median)


def test_bytes_written(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 cells of 20 kB output: bytes written to the executed notebook, as multiples of its size."""
    from papermill.iorw import LocalHandler

    from nbops.pipelines import notebooks

    source, out = notebook(tmp_path / "wide.ipynb", *["print('x' * 20_000)"] * 100), tmp_path / "out.ipynb"
    written = {"ours": 0, "theirs": 0}
    ours, theirs = notebooks.write_atomic, LocalHandler.write

    def count_ours(path: Path, data: bytes) -> None:
        written["ours"] += len(data)
        ours(path, data)

    def count_theirs(self: Any, buf: str, path: str) -> None:
        written["theirs"] += len(buf.encode())
        theirs(self, buf, path)

    monkeypatch.setattr(notebooks, "write_atomic", count_ours)
    monkeypatch.setattr(LocalHandler, "write", count_theirs)
    nb.run_notebook(source, output=out, progress=False)
    size = out.stat().st_size
    papermill(source, out, None)
    bench.row(
        GROUP, "written for 100 cells of 20 kB", ours=written["ours"] / size, unit="× its size",
        peers={"stock papermill": written["theirs"] / out.stat().st_size}, goal="≤ 2.5",
    )  # fmt: skip


def test_broken_reads(bench: Any, tmp_path: Path) -> None:
    """A reader that polls the executed notebook: share of reads that were no JSON."""
    source = notebook(tmp_path / "busy.ipynb", *["print('x' * 20_000)"] * 30)

    def share(execute: Callable[[Path], object], out: Path) -> float:
        stop, counts = threading.Event(), {"good": 0, "broken": 0}

        def poll() -> None:
            while not stop.is_set():
                if out.exists():
                    try:
                        json.loads(out.read_bytes())
                        counts["good"] += 1
                    except ValueError:
                        counts["broken"] += 1

        reader = threading.Thread(target=poll)
        reader.start()
        execute(out)
        stop.set()
        reader.join()
        return counts["broken"] / max(1, counts["good"] + counts["broken"])

    ours = share(lambda out: nb.run_notebook(source, output=out, progress=False), tmp_path / "ours.ipynb")
    theirs = share(lambda out: papermill(source, out, None), tmp_path / "theirs.ipynb")
    bench.row(GROUP, "broken reads while it runs", ours=ours, unit="share", peers={"stock papermill": theirs}, goal="0")
    assert ours == 0
