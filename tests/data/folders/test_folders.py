"""Folders of files as datasets: what counts, what is stored, what differs, what is refused."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from markup import EVIL, check_html

import nbops as nb
from nbops.core.display import mimebundle
from nbops.core.errors import Conflict, CorruptData, InvalidInput, NotFound
from nbops.core.records import Dataset, replace
from nbops.data.datasets import checkout, find_dataset, read_data
from nbops.data.folders import files, scanning
from nbops.data.folders.scanning import scan
from nbops.store.inspection import check_workspace
from nbops.store.maintenance import sweep
from nbops.store.workspace import Workspace, init


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of six files in two folders, one of them empty, two alike."""
    folder = tmp_path / "images"
    for name in ("cats/1.png", "cats/2.png", "dogs/1.png", "dogs/deep/er/2.png", "none.txt", "like cats 1.png"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"cats/1.png" * 99 if "1.png" in name and "cats" in name else name.encode() * 50)
    (folder / "none.txt").write_bytes(b"")
    return folder


def age(folder: Path) -> None:
    """Let all files be as old as if nobody had touched them for an hour; the time of change stays now."""
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 3600,) * 2)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_a_dataset_of_its_files(workspace: Workspace, images: Path) -> None:
    dataset = nb.snapshot(images, "images", source={"label_set": "v2"})
    assert (dataset.version, dataset.rows, dataset.columns, dataset.is_folder) == (1, 6, [], True)
    assert dataset.profile == {"size_bytes": sum(map(len, tree(images).values())), "left_out": {}}
    assert (dataset.source.origin, dataset.source.label_set) == (str(images), "v2")
    assert nb.snapshot(f"{images}/", "images") == dataset
    listed = {f.path: f.sha256 for f in files.files_of(dataset, artifacts=workspace.artifacts)}
    assert listed == {name: hashlib.sha256(data).hexdigest() for name, data in tree(images).items()}
    assert list(listed) == sorted(listed)
    (images / "none.txt").write_bytes(b"x")
    assert nb.snapshot(images, "images").version == 2
    assert "6 files" in str(dataset)
    with nb.run("train", data=dataset):
        pass
    assert nb.lineage(dataset)


def test_order_times_and_junk_do_not_count_but_names_do(workspace: Workspace, images: Path, tmp_path: Path) -> None:
    dataset = nb.snapshot(images, "images")
    for junk in (".DS_Store", "cats/.ipynb_checkpoints/1-checkpoint.png", "Thumbs.db", "cats/__pycache__/a.pyc"):
        (images / junk).parent.mkdir(exist_ok=True)
        (images / junk).write_bytes(b"junk")
    age(images)
    assert nb.snapshot(images, "images") == dataset
    (images / "none.txt").rename(images / "None.txt")
    assert nb.snapshot(images, "images").version == 2


def test_stored_files_are_kept_once_and_checked_out_whole(workspace: Workspace, images: Path, tmp_path: Path) -> None:
    dataset = nb.snapshot(images, "images", store=True)
    assert len(list(workspace.artifacts.blobs())) == 5 + 1  # two are alike; and the manifest
    target = checkout("images/1", to=tmp_path / "out" / "images")
    assert tree(target) == tree(images)
    assert nb.snapshot(target, "images") == dataset
    assert sweep(workspace.store, workspace.artifacts, grace_s=-1) == (0, 0)
    assert check_workspace(workspace).is_well
    with pytest.raises(InvalidInput, match="is there already"):
        checkout("images", to=target)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert tree(checkout("images", to=empty)) == tree(images)
    with pytest.raises(InvalidInput, match="'images/1' is a folder of files, not a table"):
        read_data("images")


def test_a_folder_that_was_not_stored_says_so(workspace: Workspace, images: Path, tmp_path: Path) -> None:
    nb.snapshot(images, "images")
    with pytest.raises(NotFound, match="files of 'images/1' are not stored\nStore them with"):
        checkout("images", to=tmp_path / "out")
    assert check_workspace(workspace).is_well
    later = nb.snapshot(images, "images", store=True)
    assert later.version == 1
    assert tree(checkout("images", to=tmp_path / "out")) == tree(images)
    with pytest.raises(InvalidInput, match="is a table, not a folder"):
        files.files_of(nb.snapshot({"a": [1]}, "table"), artifacts=workspace.artifacts)
    with pytest.raises(InvalidInput, match="has no key columns"):
        nb.snapshot(images, "images", key="path")
    with pytest.raises(NotFound, match="no folder"):
        scan(images / "none.txt")


def test_two_folders_are_compared_by_content(workspace: Workspace, images: Path) -> None:
    nb.snapshot(images, "images")
    (images / "cats" / "3.png").write_bytes(b"new")
    (images / "dogs" / "1.png").write_bytes(b"changed")
    (images / "none.txt").unlink()
    (images / "dogs" / "deep" / "er" / "2.png").rename(images / "moved.png")
    nb.snapshot(images, "images")
    for a, b in (("images/1", "images/2"), (find_dataset("images/1"), images), ("images/1", f"{images}/")):
        found = nb.diff(a, b)
        assert [f.path for f in found.added] == ["cats/3.png"]
        assert [f.path for f in found.removed] == ["none.txt"]
        assert [f.path for f in found.changed] == ["dogs/1.png"]
        assert found.renamed == (("dogs/deep/er/2.png", "moved.png"),)
        assert (found.same, found.is_same) == (3, False)
    assert nb.diff("images/2", images).is_same
    assert "1 changed, 1 renamed" in repr(found)
    shown = mimebundle(found)
    check_html(shown["text/html"])
    assert "moved.png" in shown["text/plain"]
    with pytest.raises(InvalidInput, match="is no folder of files, and the other is"):
        nb.diff("images/1", {"a": [1]})
    nb.snapshot({"a": [1]}, "table")
    with pytest.raises(InvalidInput, match="'table' is no folder of files"):
        nb.diff("images/1", "table")


def test_names_of_any_sort_are_shown_safely(workspace: Workspace, images: Path, tmp_path: Path) -> None:
    names = ["new\nline.png", EVIL.replace("/", "_")[:100], "ü ñ 日本.png", "-rf", "~", "a" * 200, "dot.", " lead"]
    for name in names:
        (images / name).write_bytes(name.encode())
    dataset = nb.snapshot(images, "images", store=True)
    assert tree(checkout("images", to=tmp_path / "out")) == tree(images)
    nb.snapshot(tmp_path / "out" / "cats", "images")
    check_html(mimebundle(nb.diff("images/1", "images/2"))["text/html"])
    check_html(mimebundle(dataset)["text/html"])


def test_a_name_that_is_no_utf8_is_refused(workspace: Workspace, images: Path) -> None:
    Path(os.fsdecode(os.fsencode(images) + b"/\xff.png")).write_bytes(b"x")
    with pytest.raises(InvalidInput, match=r"the name b'\\xff.png' is no UTF-8\nRename it"):
        nb.snapshot(images, "images")


def test_links_do_not_lead_out_and_odd_things_are_left_out(workspace: Workspace, images: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    before = nb.snapshot(images, "before")
    (images / "out.txt").symlink_to(secret)
    (images / "up").symlink_to(tmp_path)
    (images / "around").symlink_to(images)
    (images / "nowhere").symlink_to(images / "not there")
    (images / "itself").symlink_to(images / "itself")
    os.mkfifo(images / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(images)  # the name of a socket is short
        listening.bind("socket")
        dataset = nb.snapshot(images, "images")
    assert dataset.digest == before.digest
    assert dataset.profile["left_out"] == {
        "out.txt": "a link that leads out of the folder", "up": "a link that leads out of the folder",
        "around": "a link to a folder", "nowhere": "a link that leads nowhere", "itself": "a link that leads nowhere",
        "pipe": "no file: a pipe, a socket or a device", "socket": "no file: a pipe, a socket or a device",
    }  # fmt: skip
    assert "left out" in str(dataset)
    (images / "in.png").symlink_to(images / "cats" / "1.png")
    inside = nb.snapshot(images, "images")
    assert inside.rows == before.rows + 1
    checkout(nb.snapshot(images, "images", store=True), to=tmp_path / "out")
    assert not (tmp_path / "out" / "in.png").is_symlink()


def test_a_file_that_may_not_be_read_is_said(images: Path) -> None:
    """As somebody who is not root, who may read everything."""
    (images / "cats" / "1.png").chmod(0)
    script = """
import os, sys
from nbops.data.folders.scanning import scan
if os.getuid() == 0:
    os.setuid(65534)
try:
    scan(sys.argv[1])
except ValueError as error:
    print(type(error).__name__, error)
"""
    top = Path(tempfile.gettempdir())
    for folder in (images, *[one for one in images.parents if top in one.parents]):
        folder.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", script, images], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("InvalidInput cannot read 'cats/1.png': Permission denied\nMake it readable")
    (images / "dogs").chmod(0)
    done = subprocess.run([sys.executable, "-c", script, images], capture_output=True, text=True, check=True)
    assert "Permission denied" in done.stdout
    (images / "dogs").chmod(0o755)


def test_a_file_that_changes_while_it_is_read_is_said(workspace: Workspace, images: Path) -> None:
    path, stop = images / "growing.log", threading.Event()
    path.write_bytes(b"x" * (64 << 20))

    def write() -> None:
        with path.open("ab", buffering=0) as stream:
            while not stop.is_set():
                stream.write(b"y")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises(Conflict, match=r"'growing.log' changes while it is read\nSnapshot the folder when"):
            nb.snapshot(images, "images")
    finally:
        stop.set()
        writer.join()
    assert workspace.store.count(Dataset) == 0


def test_a_file_that_changes_before_it_is_stored_is_said(workspace: Workspace, images: Path) -> None:
    found = scan(images)
    (images / "none.txt").write_bytes(b"more")
    with pytest.raises(Conflict, match="'none.txt' changes while it is stored"):
        files.store_files(found, artifacts=workspace.artifacts)
    (images / "none.txt").unlink()
    with pytest.raises(Conflict, match="'none.txt' changes while it is stored"):
        files.store_files(found, artifacts=workspace.artifacts)


# ---- what is remembered ----------------------------------------------------------------------------------------------


def settle(folder: Path) -> None:
    """Wait until no file of a folder was touched within the time that is not trusted."""
    newest = max(max(p.stat().st_mtime_ns, p.stat().st_ctime_ns) for p in folder.rglob("*") if p.is_file())
    while time.time_ns() <= newest + scanning._RACY_NS:
        time.sleep(0.05)


def test_only_what_changed_is_read_again(images: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    settle(images)
    assert scan(images, cache=cache).read == 6
    again = scan(images, cache=cache)
    assert (again.read, again.digest) == (0, scan(images).digest)
    (images / "cats" / "2.png").write_bytes(b"other")
    assert scan(images, cache=cache).digest == scan(images).digest
    settle(images)
    assert scan(images, cache=cache).read == 1
    assert scan(images, cache=cache).read == 0
    for page in cache.iterdir():
        page.write_bytes(b"{ damaged")
    assert scan(images, cache=cache).read == 6


def test_a_file_just_written_is_never_trusted(images: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    scan(images, cache=cache)
    assert scan(images, cache=cache).read == 6


@pytest.mark.parametrize("how", ["in place", "another file"])
def test_a_change_that_keeps_size_and_time_is_seen(images: Path, tmp_path: Path, how: str) -> None:
    cache, path = tmp_path / "cache", images / "cats" / "2.png"
    age(images)
    settle(images)
    before = scan(images, cache=cache)
    status, data = path.stat(), path.read_bytes()
    if how == "in place":
        path.write_bytes(data[::-1])
    else:
        (images / "new").write_bytes(data[::-1])
        (images / "new").replace(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert scan(images, cache=cache).digest != before.digest


# ---- manifests of strangers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["../evil", "/tmp/evil", "a/../../evil", "", "a//b", "./a", "a\0b", ".."])
def test_no_path_leads_out_of_the_folder(workspace: Workspace, images: Path, tmp_path: Path, path: str) -> None:
    dataset = nb.snapshot(images, "images", store=True)
    entry = files.files_of(dataset, artifacts=workspace.artifacts)[0]
    evil = (scanning.FileEntry(path, entry.size_bytes, entry.sha256),)
    digest, _ = workspace.artifacts.put(files.FolderManifest(format=1, files=list(evil)).encoded())
    workspace.store.put(replace(dataset, manifest=digest, digest=scanning.Scan(Path(), evil).digest))
    with pytest.raises(CorruptData, match="leads out of the folder"):
        checkout("images", to=tmp_path / "deep" / "out")
    assert not (tmp_path / "deep" / "out").exists()
    assert not (tmp_path / "deep" / "evil").exists()


@pytest.mark.parametrize("made", [b"{", b'{"nbops.folder":1,"files":[["a",1]]}', b'{"nbops.folder":1,"files":[]}'])
def test_a_manifest_that_is_not_its_own_is_refused(workspace: Workspace, images: Path, made: bytes) -> None:
    dataset = nb.snapshot(images, "images")
    digest, _ = workspace.artifacts.put(made)
    workspace.store.put(replace(dataset, manifest=digest))
    with pytest.raises(CorruptData, match="the manifest of 'images/1' cannot be used"):
        nb.diff("images", images)


def test_a_damaged_file_leaves_no_half_folder(workspace: Workspace, images: Path, tmp_path: Path) -> None:
    dataset = nb.snapshot(images, "images", store=True)
    victim = files.files_of(dataset, artifacts=workspace.artifacts)[3].sha256
    (path,) = (p for p in (workspace.path / "blobs").rglob(victim) if p.is_file())
    path.chmod(0o644)
    path.write_bytes(b"something else")
    with pytest.raises(CorruptData):
        checkout("images", to=tmp_path / "out" / "images")
    assert list((tmp_path / "out").iterdir()) == []
    assert not check_workspace(workspace).is_well


def test_a_bundle_takes_the_files_along(workspace: Workspace, images: Path, tmp_path: Path) -> None:
    dataset = nb.snapshot(images, "images", store=True)
    with nb.run("fit", data=dataset):
        pass
    assert nb.export_runs("shared.nbops.zip", format="bundle").is_well
    init(tmp_path / "other")
    assert nb.import_runs("shared.nbops.zip").is_well
    assert tree(checkout("images", to=tmp_path / "out")) == tree(images)


def test_the_manifest_begins_as_a_sweep_knows_it() -> None:
    made = files.FolderManifest(format=1, files=[]).encoded()
    assert made.startswith(b'{"nbops.folder":1,')
    assert msgspec.json.decode(made, type=Any) == {"nbops.folder": 1, "files": []}
