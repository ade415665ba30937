"""Checks of folders of pictures: each on a folder with one fault, and all of them on healthy ones."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

import nbops as nb
from nbops.core.errors import InvalidInput, MissingDependency
from nbops.core.records import CheckReport, Verdict
from nbops.data.images import pictures
from nbops.data.images.folders import pictures_of, read_pictures
from nbops.data.images.twins import twins
from nbops.data.leaf import IMAGES
from nbops.store.workspace import Workspace


def cut(rng: np.random.Generator, size: tuple[int, int] = (96, 96)) -> Image.Image:
    """Return a piece of a photograph."""
    photograph = load_sample_images().images[int(rng.integers(2))]
    top, left = rng.integers(0, 427 - size[1]), rng.integers(0, 640 - size[0])
    return Image.fromarray(photograph[top : top + size[1], left : left + size[0]])


@pytest.fixture(scope="session")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 40 pieces of two photographs, 96 × 96, as JPEG."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for n in range(80):
        folder = root / ("flower" if n % 2 else "china")
        folder.mkdir(exist_ok=True)
        while np.asarray(piece := cut(rng)).std() < 20:  # no sky alone
            pass
        piece.save(folder / f"{n:03}.jpg", quality=92)
    return root


@pytest.fixture
def folder(healthy: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(healthy, tmp_path / "photos"))


def alarms(report: CheckReport) -> dict[tuple[str, str], str]:
    """Return verdict by check and column, of all that is no pass."""
    return {(r.check, r.column): str(r.verdict.value) for r in report.results if r.verdict not in ("pass", "skipped")}


def test_a_healthy_folder_is_quiet(workspace: Workspace, healthy: Path) -> None:
    report = nb.check(healthy)
    assert alarms(report) == {}
    assert (report.rows, report.name) == (80, healthy.name)
    assert {r.check for r in report.results} == {*IMAGES, "label-imbalance"}
    assert report.of("label-imbalance")[0].message == "2 classes, from 40 rows (flower) to 40 (china)"


def test_real_digits_are_quiet(workspace: Workspace, tmp_path: Path) -> None:
    values, labels = load_digits(return_X_y=True)
    for n, (value, label) in enumerate(zip(values[:300], labels, strict=False)):
        (tmp_path / "digits" / str(label)).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray((value.reshape(8, 8) * 15.9).astype("uint8")).resize((24, 24))
        picture.save(tmp_path / "digits" / str(label) / f"{n}.png")
    assert alarms(nb.check(tmp_path / "digits")) == {}


def test_what_cannot_be_decoded_is_named(workspace: Workspace, folder: Path) -> None:
    whole = (folder / "china" / "000.jpg").read_bytes()
    (folder / "china" / "000.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "china" / "002.jpg").write_bytes(b"")
    (folder / "flower" / "001.jpg").write_text("<html>404</html>")
    Image.open(folder / "flower" / "003.jpg").save(folder / "flower" / "005.jpg", format="PNG")
    report = nb.check(folder)
    assert alarms(report)["image-unreadable", "path"] == "fail"
    found, suffix = report.of("image-unreadable")
    assert list(found.evidence["files"]) == ["china/000.jpg", "china/002.jpg", "flower/001.jpg"]
    assert found.evidence["files"]["china/002.jpg"] == "the file is empty"
    assert "truncated" in found.evidence["files"]["china/000.jpg"]
    assert (suffix.verdict, suffix.message.partition(": ")[2]) == ("warn", "flower/005.jpg (PNG)")


def test_a_picture_that_would_fill_the_memory_is_not_decoded(
    workspace: Workspace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    Image.new("1", (200, 200)).save(folder / "china" / "bomb.png")
    (found, _) = nb.check(folder, suite=["image-unreadable"]).results
    assert found.evidence["files"] == {
        "china/bomb.png": "more than 0 million pixels: it may be made to fill the memory"
    }


def test_copies_are_found_and_those_in_two_classes_fail(workspace: Workspace, folder: Path) -> None:
    shutil.copy(folder / "china" / "000.jpg", folder / "china" / "copy.jpg")
    with Image.open(folder / "china" / "002.jpg") as piece:
        piece.resize((80, 80)).save(folder / "flower" / "again.jpg", quality=70)
    exact, near, apart = sorted(nb.check(folder).of("image-duplicates"), key=lambda r: r.message.split("pictures ")[1])
    exact, near, apart = near, apart, exact  # by their words: are, equal, nearly
    assert (exact.verdict, exact.evidence["pairs"]) == ("warn", [["china/000.jpg", "china/copy.jpg"]])
    assert (near.verdict, near.evidence["pairs"]) == ("warn", [["china/002.jpg", "flower/again.jpg"]])
    assert (apart.verdict, apart.evidence["pairs"]) == ("fail", [["china/002.jpg", "flower/again.jpg"]])


def test_pictures_of_train_are_found_in_test(workspace: Workspace, folder: Path, tmp_path: Path) -> None:
    test = tmp_path / "test"
    test.mkdir()
    rng = np.random.default_rng(9)
    for n in range(20):
        cut(rng).transpose(Image.Transpose.ROTATE_90).save(test / f"{n}.jpg", quality=92)
    assert nb.check(test, baseline=folder).of("image-duplicates-across")[0].verdict == Verdict.PASS
    shutil.copy(folder / "china" / "004.jpg", test / "same.jpg")
    with Image.open(folder / "flower" / "007.jpg") as piece:
        piece.save(test / "again.png")
    (found,) = nb.check(test, baseline=str(folder)).of("image-duplicates-across")
    assert found.verdict == Verdict.FAIL
    assert found.evidence["pairs"] == ["again.png = flower/007.jpg", "same.jpg = china/004.jpg"]


def test_sizes_exposures_and_modes(workspace: Workspace, folder: Path) -> None:
    rng = np.random.default_rng(5)
    cut(rng, (300, 40)).save(folder / "china" / "strip.jpg")
    Image.new("RGB", (96, 96), (120, 120, 120)).save(folder / "china" / "blank.jpg")
    dark = Image.fromarray((np.asarray(cut(rng)) // 24).astype(np.uint8))
    dark.save(folder / "china" / "night.jpg", quality=95)
    cut(rng).convert("L").save(folder / "flower" / "grey.jpg")
    turned = Image.Exif()
    turned[0x0112] = 6
    cut(rng).save(folder / "flower" / "turned.jpg", exif=turned)
    frames = [cut(rng) for _ in range(3)]
    frames[0].save(folder / "flower" / "moves.gif", save_all=True, append_images=frames[1:])
    report = nb.check(folder)
    said = {(r.check, r.message.rpartition(": ")[2]) for r in report.results if r.verdict == "warn"}
    assert said == {
        ("image-size", "china/strip.jpg (300 × 40); most have 96 × 96"),
        ("image-exposure", "china/blank.jpg"), ("image-exposure", "china/night.jpg"),
        ("image-mode", "flower/grey.jpg, flower/moves.gif"), ("image-mode", "flower/turned.jpg"),
        ("image-mode", "flower/moves.gif"),
    }  # fmt: skip


def test_sizes_of_all_sorts_have_a_tail_of_their_own(workspace: Workspace, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for n in range(120):
        width, height = (int(side) for side in np.exp(rng.normal(4.3, 0.3, 2)))
        cut(rng, (min(width, 400), min(height, 300))).save(tmp_path / f"{n}.jpg")
    assert nb.check(tmp_path, suite=["image-size"]).status == Verdict.PASS
    cut(rng, (8, 90)).save(tmp_path / "sliver.jpg")
    (found,) = nb.check(tmp_path, suite=["image-size"]).results
    assert (found.verdict, "sliver.jpg" in found.message) == ("warn", True)


def test_another_camera_is_a_shift_and_other_pieces_are_none(
    workspace: Workspace, healthy: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    for name, tinted in (("same", False), ("tinted", True)):
        (tmp_path / name).mkdir()
        for n in range(40):
            while np.asarray(piece := cut(rng)).std() < 20:
                pass
            values = np.asarray(piece) * ([0.25, 1, 1] if tinted else [1, 1, 1])
            Image.fromarray(values.astype(np.uint8)).save(tmp_path / name / f"{n}.jpg")
    assert nb.check(tmp_path / "same", baseline=healthy).of("image-shift")[0].verdict == Verdict.PASS
    shifted = nb.check(tmp_path / "tinted", baseline=healthy).of("image-shift")
    assert {r.column for r in shifted if r.verdict == "warn"} >= {"red"}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F"])
def test_every_mode_is_measured(mode: str, tmp_path: Path) -> None:
    grey = np.tile(np.linspace(0, 255, 64), (64, 1))
    if mode in ("I", "I;16", "F"):
        kind: Any = {"I": np.int32, "I;16": np.uint16, "F": np.float32}[mode]
        picture = Image.fromarray((grey * 200).astype(kind))
    else:
        picture = Image.fromarray(grey.astype(np.uint8)).convert(mode)
    picture.save(tmp_path / "x.tiff")
    found = pictures.measure(tmp_path / "x.tiff")
    assert (found.error, found.width, found.height) == ("", 64, 64)
    assert found.contrast > 60


def test_near_pictures_are_pairs_and_others_are_not(healthy: Path) -> None:
    frame, _ = read_pictures(healthy)
    found = pictures_of(frame)
    assert found is not None
    copies = found.small()
    noisy = np.clip(copies + np.random.default_rng(0).normal(0, 0.3, copies.shape), 0, 255).astype(np.float32)
    assert twins(copies) == []
    assert twins(copies, noisy) == [(n, n) for n in range(80)]
    assert twins(np.zeros((5, 256), np.float32)) == []  # nothing to compare


def test_folders_are_told_from_datasets_and_bad_ones_are_refused(
    workspace: Workspace, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = nb.snapshot(folder, "photos")
    report = nb.check(folder)
    assert (report.dataset, report.name) == (kept.id, "photos/1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match="'photos/1' is a folder of files"):
        nb.check("photos")  # the dataset of that name
    assert nb.check("photos/").rows == 80
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a")
    with pytest.raises(InvalidInput, match=r"there is no picture in 'texts' \(1 files\)"):
        nb.check("texts")
    with pytest.raises(InvalidInput, match="the baseline of a folder is a folder, not a dict"):
        nb.check(folder, baseline={"a": [1]})
    with pytest.raises(InvalidInput, match="has its labels in its folders"):
        nb.check(folder, label="folder")


def test_without_pillow_the_extra_is_named(workspace: Workspace, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingDependency, match=r"needs Pillow\n.*nbops\[images\]"):
        nb.check(folder)


def test_the_magic_takes_a_folder(workspace: Workspace, shell: Any, folder: Path) -> None:
    report = shell.run_line_magic("mlops", f"check {folder}")
    assert report.rows == 80
    assert shell.run_line_magic("mlops", f"check {folder} --baseline {folder}").of("image-shift")[0].verdict == "pass"
