"""The files and URLs that a run read: seen without being asked for, bounded, and only the user's data."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import nbops as nb
from nbops.core.settings import Settings
from nbops.store.workspace import Workspace, init
from nbops.tracking.capture import inputs
from nbops.tracking.capture.background import drain


@pytest.fixture(autouse=True)
def _nothing_noted() -> Iterator[None]:
    inputs.switch_off()
    yield
    inputs.switch_off()


def read_by(run: Any) -> list[str]:
    files = run.record.context.get("inputs", {}).get("files", [])
    return [Path(entry["path"]).name for entry in files]


def test_a_run_knows_the_files_it_read(tmp_path: Path, workspace: Workspace) -> None:
    (tmp_path / "train.csv").write_text("a,b\n1,2\n")
    with nb.run() as run:
        for _ in range(3):
            Path("train.csv").read_text()
    assert drain()
    (entry,) = run.record.context["inputs"]["files"]
    stat = (tmp_path / "train.csv").stat()
    assert entry == {
        "path": str(tmp_path / "train.csv"), "size_bytes": 8, "modified_at": stat.st_mtime, "cell": None,
        "digest": hashlib.sha256(b"a,b\n1,2\n").hexdigest(),
    }  # fmt: skip


def test_libraries_see_the_same(tmp_path: Path, workspace: Workspace) -> None:
    import numpy as np

    np.save(tmp_path / "x.npy", np.zeros(3))
    inputs.switch_off()  # it was written before the notebook began
    with closing(sqlite3.connect(tmp_path / "old.db")) as base:
        base.execute("create table t (x)")
    with nb.run() as run:
        np.load(tmp_path / "x.npy")
        sqlite3.connect(tmp_path / "old.db").close()
    assert drain()
    assert read_by(run) == ["x.npy", "old.db"]


def test_code_libraries_devices_and_own_files_are_no_inputs(tmp_path: Path, workspace: Workspace) -> None:
    (tmp_path / "helper.py").write_text("x = 1\n")
    (tmp_path / "out.txt").write_text("")
    with nb.run() as run:
        Path("helper.py").read_text()
        Path(os.__file__).with_name("LICENSE.txt").exists()
        Path("/proc/self/status").read_text()
        Path("made.txt").write_text("by this run")
        Path("made.txt").read_text()
        nb.log_artifact(b"bytes", name="b.bin")
        workspace.artifacts.read(hashlib.sha256(b"bytes").hexdigest())
        with Path("out.txt").open("a") as stream:
            stream.write("x")
    assert drain()
    assert read_by(run) == []


def test_what_was_read_before_belongs_to_the_runs_that_follow_but_not_what_another_run_read(
    tmp_path: Path, workspace: Workspace
) -> None:
    for name in ("shared.csv", "first.csv", "second.csv"):
        (tmp_path / name).write_text(name)
    inputs.switch_off()
    inputs.switch_on()
    Path("shared.csv").read_text()
    with nb.run() as first:
        Path("first.csv").read_text()
    with nb.run() as second:
        Path("second.csv").read_text()
    assert drain()
    assert read_by(first) == ["shared.csv", "first.csv"]
    assert read_by(second) == ["shared.csv", "second.csv"]


def test_urls_are_noted_without_their_secrets(workspace: Workspace) -> None:
    with nb.run() as run, pytest.raises((urllib.error.URLError, OSError)):
        urllib.request.urlopen("http://me:pw@127.0.0.1:9/data.csv?token=abc", timeout=1)
    (entry,) = run.record.context["inputs"]["urls"]
    assert entry["url"] == "http://127.0.0.1:9/data.csv?token=[redacted]"


def test_it_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBOPS_CAPTURE_FILES", "false")
    init(tmp_path)
    Path("a.csv").write_text("1")
    inputs.switch_on()  # as loading the extension does, before there is a workspace
    with nb.run() as run:
        Path("a.csv").read_text()
    assert "inputs" not in run.record.context


def test_many_files_are_counted_and_the_last_ones_kept(tmp_path: Path, workspace: Workspace) -> None:
    for n in range(inputs.MAX_FILES + 10):
        (tmp_path / f"{n:04}.txt").write_text("x")
    inputs.switch_off()
    with nb.run() as run:
        for n in range(inputs.MAX_FILES + 10):
            Path(f"{n:04}.txt").read_text()
    assert drain()
    found = run.record.context["inputs"]
    assert (len(found["files"]), found["files_left_out"]) == (inputs.MAX_FILES, 10)
    assert Path(found["files"][-1]["path"]).name == f"{inputs.MAX_FILES + 9:04}.txt"


def test_opening_odd_things_works_as_without_nbops(tmp_path: Path, workspace: Workspace) -> None:
    with nb.run() as run:
        with pytest.raises(FileNotFoundError):
            Path("absent.csv").read_text()
        with pytest.raises(ValueError, match="null"):
            open("a\0b")  # noqa: SIM115
        with pytest.raises(IsADirectoryError):
            tmp_path.open()
        reading, writing = os.pipe()
        os.close(writing)
        os.fdopen(reading).close()
    assert read_by(run) == []


def test_the_two_parts_of_a_resumed_run_are_joined() -> None:
    first = {"files": [{"path": "/a", "size_bytes": 1}, {"path": "/b", "size_bytes": 1}]}
    second = {"files": [{"path": "/a", "size_bytes": 2}], "urls": [{"url": "http://x"}]}
    assert inputs.joined(first, second) == {
        "files": [{"path": "/a", "size_bytes": 2}, {"path": "/b", "size_bytes": 1}],
        "urls": [{"url": "http://x"}],
    }


def test_the_setting_is_on_unless_said_otherwise() -> None:
    assert Settings().capture_files
