"""What git knows and what it does not: commit, branch, patch, untracked files; limits; and that runs never wait."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import nbops as nb
from nbops.core.records import Artifact, Run
from nbops.store.workspace import Workspace
from nbops.tracking.capture.background import drain
from nbops.tracking.capture.revision import uncommitted


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=x", "-c", "user.email=x@localhost", *arguments],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet", "--initial-branch=trunk")
    (tmp_path / "train.py").write_text("lr = 0.1\n")
    git(tmp_path, "add", "train.py")
    git(tmp_path, "commit", "--quiet", "--message=first")
    return tmp_path


def captured(workspace: Workspace) -> Run:
    with nb.run("r") as live:
        pass
    assert drain()
    return workspace.store.get(Run, live.id)


def test_a_clean_checkout(checkout: Path, workspace: Workspace) -> None:
    revision = captured(workspace).context["git"]
    assert revision == {"branch": "trunk", "commit": git(checkout, "rev-parse", "HEAD").strip(), "dirty": False}
    assert nb.find("artifacts", "name == 'code/diff.patch'").total == 0


def test_a_dirty_checkout_keeps_a_patch_that_applies(checkout: Path, workspace: Workspace) -> None:
    (checkout / "train.py").write_text("lr = 0.5\napi_key = 'abc'\n")
    (checkout / "new.py").write_text("x = 1\n")
    run = captured(workspace)
    revision = run.context["git"]
    assert (revision["dirty"], revision["untracked"], revision["untracked_count"]) == (True, ["new.py"], 1)
    (patch,) = workspace.store.find(Artifact)[:1]
    assert (patch.name, patch.parent, patch.digest) == ("code/diff.patch", run.id, revision["diff"])
    assert [(e.source, e.relation) for e in nb.lineage(run).links] == [(patch.id, "used_by")]
    text = workspace.artifacts.read(patch.digest)
    assert b"abc" not in text
    git(checkout, "checkout", "train.py")
    (checkout / "p.patch").write_bytes(text)
    git(checkout, "apply", "p.patch")
    assert (checkout / "train.py").read_text() == "lr = 0.5\napi_key = '[redacted]'\n"


def test_a_patch_beyond_the_limit_is_left_out_and_said(checkout: Path) -> None:
    (checkout / "train.py").write_text("x = 1\n" * 10_000)
    changes = uncommitted(checkout, max_bytes=1000)
    assert changes is not None
    assert (changes.patch, changes.is_dirty) == (b"", True)
    assert "1,000 bytes" in changes.note


def test_git_that_takes_too_long_is_left(checkout: Path) -> None:
    changes = uncommitted(checkout, max_bytes=1000, time_limit_s=0.0)
    assert changes is not None
    assert changes.note


def test_without_git_nothing_is_asked(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert uncommitted(checkout, max_bytes=1000) is None


def test_outside_a_checkout_the_run_has_no_revision(workspace: Workspace) -> None:
    assert "git" not in captured(workspace).context


def test_runs_in_a_burst_all_get_their_context(checkout: Path, workspace: Workspace) -> None:
    for _ in range(20):
        with nb.run():
            pass
    assert drain()
    assert {run.context["git"]["dirty"] for run in workspace.store.find(Run)} == {False}
    assert len(workspace.store.find(Run)) == 20
