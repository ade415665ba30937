"""A folder of pictures as a table that every check, profile and comparison can take."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from nbops.core.errors import InvalidInput
from nbops.core.records import CheckResult
from nbops.data.columns import Array, Frame
from nbops.data.folders.scanning import Scan, scan
from nbops.data.frames import read
from nbops.data.images.pictures import SIDE, SUFFIXES, Picture, bombs_refused, measure, pillow
from nbops.data.leaf import Sample, skipped

_THREADS = 4
_ROOT = "."  # the class of pictures that lie in the folder itself


@dataclass(frozen=True, eq=False)
class Pictures:
    """The pictures of a folder, in the order of their paths; `native` of the frame that checks get.

    Attributes
    ----------
    paths, folders : list of str
        Below the folder; the first part of the path, which is the class where there is a folder a class.
    digests : list of str
        sha256 of the files.
    found : list of Picture
    left_out : dict of str to str
        Links that lead out and the like, with the reason.
    """

    paths: list[str]
    folders: list[str]
    digests: list[str]
    found: list[Picture]
    left_out: dict[str, str]

    @property
    def readable(self) -> Array:
        """Return which files could be decoded, bool [files]."""
        return np.array([not one.error for one in self.found], np.bool_)

    def small(self) -> Array:
        """Return the grey copies, float32 [files, 256]; zeros where there is none."""
        copies = np.zeros((len(self.found), SIDE * SIDE), np.float32)
        for row, one in enumerate(self.found):
            if one.small is not None:
                copies[row] = one.small.reshape(-1)
        return copies


def read_pictures(folder: str | os.PathLike[str], *, cache: Path | None = None) -> tuple[Frame, Scan]:
    """Return the table of the pictures of a folder and all below it, and the scan of its files.

    Columns: ``path``, ``folder``, ``format``, ``mode``, ``width``, ``height``, ``bytes``, ``brightness``, ``contrast``,
    ``red``, ``green``, ``blue``; missing where a picture cannot be decoded. ``folder`` is the label where there are
    two and more. Files whose suffix is not that of a picture are passed over.

    Raises
    ------
    NotFound
        No such folder.
    InvalidInput
        There is no picture in it.
    MissingDependency
        Pillow is not installed.
    """
    pillow()
    found = scan(folder, cache=cache)
    files = [file for file in found.files if PurePosixPath(file.path).suffix.lower() in SUFFIXES]
    if not files:
        ends = ", ".join(sorted(SUFFIXES))
        raise InvalidInput(f"there is no picture in '{folder}' ({len(found.files):,} files)",
                           hint=f"Pictures end in {ends}; pass the path of a table otherwise.")  # fmt: skip
    with bombs_refused(), ThreadPoolExecutor(_THREADS, thread_name_prefix="nbops-pictures") as pool:
        measured = list(pool.map(lambda file: measure((found.root / file.path).resolve()), files))
    folders = [file.path.partition("/")[0] if "/" in file.path else _ROOT for file in files]
    pictures = Pictures(
        [file.path for file in files], folders, [file.sha256 for file in files], measured, found.left_out
    )
    frame = read(_columns(pictures, [file.size_bytes for file in files]), label="folder")
    return _marked(frame, pictures), found


def pictures_of(frame: Frame | None) -> Pictures | None:
    """Return the pictures that a table was made of, or None."""
    return frame.native if frame is not None and isinstance(frame.native, Pictures) else None


def pictures_or_why(sample: Sample) -> Pictures | CheckResult:
    """Return the pictures of a sample, or the result that says why there are none."""
    return pictures_of(sample.frame) or skipped("no folder of pictures", fix='Pass its path: nb.check("pictures/").')


def named(paths: list[str], rows: Array, *, most: int = 3) -> str:
    """Return some paths for a message."""
    more = f" and {len(rows) - most:,} more" if len(rows) > most else ""
    return ", ".join(paths[int(row)] for row in rows[:most]) + more


def _columns(pictures: Pictures, sizes: list[int]) -> dict[str, object]:
    found = pictures.found
    colours = np.array([one.colour if one.colour is not None else [np.nan] * 3 for one in found])
    return {
        "path": pictures.paths, "folder": pictures.folders,
        "format": [one.format or None for one in found], "mode": [one.mode or None for one in found],
        "width": np.array([one.width or np.nan for one in found]),
        "height": np.array([one.height or np.nan for one in found]),
        "bytes": np.array(sizes), "brightness": colours.mean(1),
        "contrast": np.array([np.nan if one.error else one.contrast for one in found]),
        "red": colours[:, 0], "green": colours[:, 1], "blue": colours[:, 2],
    }  # fmt: skip


def _marked(frame: Frame, pictures: Pictures) -> Frame:
    label = "folder" if len(set(pictures.folders)) > 1 else ""
    return Frame(frame.columns, frame.rows, pictures, label=label)
