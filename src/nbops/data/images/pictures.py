"""One picture, measured: what it is, how large and bright, and what tells that another one is nearly the same."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nbops.core.errors import MissingDependency
from nbops.data.columns import Array

SUFFIXES = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".gif": "GIF", ".bmp": "BMP", ".webp": "WEBP", ".tif": "TIFF",
    ".tiff": "TIFF", ".ppm": "PPM", ".pgm": "PPM", ".avif": "AVIF",
}  # fmt: skip
SIDE = 16  # of the small grey copy by which pictures are compared
_DRAFT = 128  # JPEG files are decoded no larger than needed for this
_ORIENTATION = 0x0112  # the tag of EXIF
_SAME = {"MPO": "JPEG"}  # photographs of some cameras: a JPEG with a second picture behind it


@dataclass(frozen=True, eq=False)
class Picture:
    """What one file holds.

    Attributes
    ----------
    error : str
        Why it cannot be decoded; then the rest says nothing.
    format, mode : str
        As Pillow names them: ``JPEG``; ``L``, ``RGB``, ``CMYK`` …
    width, height, frames : int
        Pixels; pictures in the file.
    orientation : int
        1 to 8 of EXIF; 1 is upright.
    colour : array [3]
        Means of red, green and blue, 0 … 255.
    contrast : float
        Standard deviation of the grey values, 0 … 127.5.
    small : uint8 array [16, 16]
        A grey copy.
    """

    error: str = ""
    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    frames: int = 1
    orientation: int = 1
    colour: Array | None = None
    contrast: float = 0.0
    small: Array | None = None


def pillow() -> Any:
    """Return Pillow's module ``Image``.

    Raises
    ------
    MissingDependency
        It is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependency("checking pictures needs Pillow", hint="pip install 'nbops[images]'") from error
    return Image


@contextmanager
def bombs_refused() -> Iterator[None]:
    """Refuse pictures of more pixels than Pillow warns of; around the threads, since filters of warnings are shared."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", pillow().DecompressionBombWarning)
        yield


def measure(path: Path) -> Picture:
    """Decode a picture and measure it; what cannot be decoded is told in `error`, not raised."""
    image_module = pillow()
    try:
        if not path.stat().st_size:
            return Picture(error="the file is empty")
        with image_module.open(path) as image:
            return _measured(image)
    except image_module.UnidentifiedImageError:
        return Picture(error="no picture that Pillow knows")
    except (image_module.DecompressionBombWarning, image_module.DecompressionBombError):
        most = f"{image_module.MAX_IMAGE_PIXELS / 1e6:.0f}"
        return Picture(error=f"more than {most} million pixels: it may be made to fill the memory")
    except Exception as error:  # a decoder is anybody's code, and each has exceptions of its own for a damaged file
        return Picture(error=str(error) or type(error).__name__)


def _measured(image: Any) -> Picture:
    (width, height), mode = image.size, image.mode
    orientation = int(image.getexif().get(_ORIENTATION, 1) or 1)
    frames = int(getattr(image, "n_frames", 1))
    image.draft("RGB", (_DRAFT, _DRAFT))
    image.load()
    flat = image.convert("RGBA").convert("RGB") if mode in ("P", "PA") else _in_eight_bits(image).convert("RGB")
    pixels = np.asarray(flat.resize((min(_DRAFT, width), min(_DRAFT, height)), resample=4), np.float64)
    small = np.asarray(flat.convert("L").resize((SIDE, SIDE), resample=4), np.uint8)
    return Picture(
        format=_SAME.get(image.format, image.format), mode=mode, width=width, height=height,
        frames=1 if image.format in _SAME else frames,
        orientation=orientation, colour=pixels.mean((0, 1)), contrast=float(pixels.mean(2).std()), small=small,
    )  # fmt: skip


def _in_eight_bits(image: Any) -> Any:
    """Return a picture whose values are 0 … 255; deeper ones are stretched over their own range."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image, np.float64)
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) * 255 if high > low else np.zeros_like(values)
    return pillow().fromarray(scaled.astype(np.uint8))
