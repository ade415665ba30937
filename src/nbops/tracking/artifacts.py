"""What may be logged as an artifact, and how each sort becomes named bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbops.core.codec import encode
from nbops.core.errors import InvalidInput, NotFound


def contents(item: Any, *, name: str | None) -> Iterator[tuple[str, bytes | Path]]:
    """Yield (name, bytes or file) for `item`.

    Text and `Path` mean a file or a folder; bytes are stored as they are (with `name`);
    a matplotlib figure becomes PNG, a plotly figure and plain data become JSON.
    """
    if isinstance(item, str | Path):
        yield from _files(Path(item).expanduser(), name)
        return
    if name is None:
        raise InvalidInput(f"an artifact of type {type(item).__name__} has no name", hint="Pass name='…'.")
    if isinstance(item, bytes | bytearray | memoryview):
        yield name, bytes(item)
    elif hasattr(item, "savefig"):
        buffer = io.BytesIO()
        item.savefig(buffer, format="png")
        yield _with_suffix(name, ".png"), buffer.getvalue()
    elif hasattr(item, "to_plotly_json"):
        yield _with_suffix(name, ".plotly.json"), item.to_json().encode()
    elif isinstance(item, dict | list | tuple | int | float | bool):
        yield _with_suffix(name, ".json"), encode(item)
    else:
        raise InvalidInput(
            f"an object of type {type(item).__name__} cannot be stored", hint="Save it to a file and log the file."
        )


def _files(path: Path, name: str | None) -> Iterator[tuple[str, Path]]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file():
                yield f"{name or path.name}/{file.relative_to(path).as_posix()}", file
    elif path.is_file():
        yield name or path.name, path
    else:
        raise NotFound(f"no file '{path}'", hint=f"Check the path; the working folder is {Path.cwd()}.")


def _with_suffix(name: str, suffix: str) -> str:
    return name if Path(name).suffix else name + suffix
