"""Sources to import: files that the other tools wrote, in a folder of the test."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parent / "samples"


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """A copy of the samples, with the two databases made from their dumps."""
    folder = tmp_path / "sources"
    shutil.copytree(SAMPLES, folder)
    for name in ("mlflow", "trackio"):
        dump = (folder / f"{name}.sql").read_text(encoding="utf-8").replace("{root}", str(folder))
        with sqlite3.connect(folder / f"{name}.db") as connection:
            connection.executescript(dump)
        connection.close()
        (folder / f"{name}.sql").unlink()
    artifacts = folder / "art" / "13ebfb8042294b0abf80fcc70f0f7411" / "artifacts" / "deep"
    artifacts.mkdir(parents=True)
    (artifacts / "f.txt").write_text("hello artifact\n")
    return folder
