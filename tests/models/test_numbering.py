"""Version numbers: distinct and contiguous under threads and processes, never reused, the same for a cell run again."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbops.core.errors import NotFound
from nbops.core.records import Alias, ModelVersion
from nbops.models.aliases import promote
from nbops.models.registering import register
from nbops.store.context import CellRef, set_cell
from nbops.store.workspace import Workspace, init

Array = np.ndarray[Any, Any]


def test_a_deleted_number_is_never_given_again(workspace: Workspace, small: bytes, three_rows: Array) -> None:
    first, second = (register(small, "m", example=three_rows) for _ in range(2))
    workspace.store.delete(ModelVersion, second.id)
    workspace.store.delete(ModelVersion, first.id)
    assert register(small, "m", example=three_rows).number == 3
    with pytest.raises(NotFound, match="version 2 of model 'm' was deleted"):
        promote("m", 2, "prod")


def test_running_the_same_cell_again_gives_the_same_version(
    workspace: Workspace, small: bytes, three_rows: Array, linear: Callable[..., bytes]
) -> None:
    set_cell(CellRef("cell-1", 1))
    first = register(small, "m", example=three_rows, metrics={"a": 1.0})
    again = register(small, "m", example=three_rows, metrics={"a": 1.0}, aliases=["prod"])
    assert again == first
    assert workspace.store.find(Alias)[0].number == 1
    assert register(small, "m", example=three_rows, metrics={"a": 2.0}).number == 2  # something changed
    assert register(linear(np.zeros((3, 2)), np.zeros(2)), "m", example=three_rows, metrics={"a": 2.0}).number == 3
    set_cell(CellRef("cell-2", 2))
    assert register(linear(np.zeros((3, 2)), np.zeros(2)), "m", example=three_rows, metrics={"a": 2.0}).number == 4


def test_the_same_weights_export_to_the_same_bytes(workspace: Workspace, trained_cnn: Any) -> None:
    set_cell(CellRef("cell-1", 1))
    first = register(trained_cnn, "m", example=np.ones((2, 1, 8, 8)))
    assert register(trained_cnn, "m", example=np.ones((2, 1, 8, 8))) == first


def test_32_threads_get_distinct_contiguous_numbers(workspace: Workspace, small: bytes, three_rows: Array) -> None:
    numbers: list[int] = []

    def one() -> None:
        numbers.append(register(small, "m", example=three_rows, aliases=["prod"]).number)

    threads = [threading.Thread(target=one) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 33))
    [alias] = workspace.store.find(Alias)
    assert sorted(move.number for move in alias.history) == list(range(1, 33))


@pytest.mark.postgres
def test_threads_on_postgresql_get_distinct_contiguous_numbers(
    postgres_url: str, tmp_path: Path, small: bytes, three_rows: Array
) -> None:
    opened = init(tmp_path / "team", store_url=postgres_url)
    numbers: list[int] = []

    def one() -> None:
        numbers.append(register(small, "m", example=three_rows, aliases=["prod"]).number)

    threads = [threading.Thread(target=one) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 17))
    [alias] = opened.store.find(Alias)
    assert sorted(move.number for move in alias.history) == list(range(1, 17))
    assert alias.number == alias.history[-1].number


REGISTER_EIGHT = """
import sys
from pathlib import Path
from nbops.models.registering import register
rows = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
print(*(register(Path(sys.argv[1]), "m", example=rows).number for _ in range(8)))
"""


def test_processes_get_distinct_contiguous_numbers(workspace: Workspace, small: bytes) -> None:
    Path("m.onnx").write_bytes(small)
    command = [sys.executable, "-c", REGISTER_EIGHT, "m.onnx"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    printed = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert sorted(int(n) for line in printed for n in line.split()) == list(range(1, 33))
    assert workspace.store.count(ModelVersion) == 32
