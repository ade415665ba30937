"""How an item to be labelled looks: text, picture, sound, a table of a row, or what a function of the user's makes."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from nbops.core.display import Bundle
from nbops.core.errors import InvalidInput
from nbops.data.labels.items import IMAGES, SOUNDS, as_array, is_picture

MAX_BYTES = 20_000_000
_PICTURE_AXES = (2, 3)


def show_item(value: Any, show: Callable[[Any], Any] | str | None) -> Bundle:
    """Return the mime bundle of an item.

    Parameters
    ----------
    value : object
        The item.
    show : callable, str or None
        What makes it visible: a function, a template over the columns of a row, or what its sort suggests.

    Raises
    ------
    InvalidInput
        It cannot be shown: the function or the template fails or gives nothing, a file is gone or too large.
    """
    if isinstance(show, str):
        value = _filled(show, value)
    elif show is not None:
        try:
            value = show(value)
        except Exception as error:
            raise InvalidInput(f"the item cannot be shown: {type(error).__name__}: {error}",
                               hint="Mend show=, or skip the item.") from error  # fmt: skip
        if value is None:
            raise InvalidInput("the item cannot be shown: show= returned None", hint="Let it return what to display.")
    markup = _markup(value)
    return {"text/html": markup} if markup else _displayed(value)


def _filled(template: str, value: Any) -> str:
    columns = value if isinstance(value, Mapping) else {"item": value}
    try:
        return template.format_map(columns)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise InvalidInput(f"the template {template!r} does not fit the item: {type(error).__name__}: {error}",
                           hint=f"There is: {', '.join(map(str, columns))}.") from None  # fmt: skip


def _markup(value: Any) -> str:
    """Return HTML for the sorts that are known; "" for others."""
    if isinstance(value, bool | int | float):
        value = str(value)
    if isinstance(value, str):
        return f'<div class="jp-nbops-Label-text" dir="auto">{escape(value)}</div>'
    if isinstance(value, Path):
        return _file(value)
    if is_picture(value):
        file = io.BytesIO()
        value.save(file, "PNG")
        return _image(file.getvalue(), "image/png", f"picture, {value.size[0]} × {value.size[1]} pixels")
    if isinstance(value, Mapping):
        rows = "".join(f"<tr><th scope=row>{escape(str(key))}</th><td>{escape(_cell(item))}</td></tr>"
                       for key, item in value.items())  # fmt: skip
        return f'<table class="jp-nbops-Label-row"><tbody>{rows}</tbody></table>'
    if hasattr(value, "__array__") and not hasattr(value, "_repr_html_"):
        return _array(as_array(value))
    return ""


def _cell(value: Any) -> str:
    return "—" if value is None else str(value)


def _file(path: Path) -> str:
    kind = IMAGES.get(path.suffix.lower()) or SOUNDS.get(path.suffix.lower())
    if kind is None:
        raise InvalidInput(f"the file {path.name!r} is no picture and no sound by its ending",
                           hint="Pass show= a function that reads it.")  # fmt: skip
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read the item {str(path)!r}: {error.strerror}", hint="Put the file back.") from None
    if kind.startswith("image/"):
        return _image(data, kind, path.name)
    _check_size(data)
    label = escape(path.name, quote=True)
    return f'<audio controls aria-label="{label}" src="data:{kind};base64,{base64.b64encode(data).decode()}"></audio>'


def _image(data: bytes, kind: str, alt: str) -> str:
    _check_size(data)
    source = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return f'<img class="jp-nbops-Label-image" alt="{escape(alt, quote=True)}" src="{source}">'


def _check_size(data: bytes) -> None:
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"the item has {len(data) / 1e6:.0f} MB, and {MAX_BYTES / 1e6:.0f} can be shown",
                           hint="Pass show= a function that makes it smaller.")  # fmt: skip


def _array(array: Any) -> str:
    """Return a picture of an array: [height, width], with 1, 3 or 4 channels last or first."""
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        array = np.moveaxis(array, 0, 2)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    is_picture_like = array.ndim in _PICTURE_AXES and array.size and (array.ndim == 2 or array.shape[2] in (3, 4))
    if not is_picture_like or array.dtype.kind not in "buif":
        raise InvalidInput(f"an array of shape {list(array.shape)} and type {array.dtype} is no picture",
                           hint="Pass show= a function that draws it.")  # fmt: skip
    data = _png(_as_bytes(array))
    return _image(data, "image/png", f"picture, {array.shape[1]} × {array.shape[0]} pixels")


def _as_bytes(array: Any) -> Any:
    """Return uint8: as it is, 0 to 1 or 0 to 255 as floats may mean it, other ranges stretched."""
    if array.dtype == np.uint8:
        return array
    values = np.nan_to_num(array.astype(np.float64))
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        values = values * 255
    elif low < 0 or high > 255:
        values = (values - low) * (255 / ((high - low) or 1))
    return np.round(values).clip(0, 255).astype(np.uint8)


def _png(array: Any) -> bytes:
    """Return a PNG (ISO/IEC 15948) of uint8 [height, width] or [height, width, 3 or 4]."""
    height, width = array.shape[:2]
    colour = 0 if array.ndim == 2 else {3: 2, 4: 6}[array.shape[2]]
    lines = np.concatenate([np.zeros((height, 1), np.uint8), array.reshape(height, -1)], axis=1).tobytes()
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines, 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def _displayed(value: Any) -> Bundle:
    """Return what a notebook would show of any object, with the formatters that its shell has."""
    from IPython.core.formatters import DisplayFormatter
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    formatter = (shell.display_formatter if shell is not None else None) or DisplayFormatter()
    data, _ = formatter.format(value)  # type: ignore[no-untyped-call]
    return dict(data)
