"""Reading ONNX files without trusting them: structure, external data, size. Nothing here runs a model."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from nbops.core.errors import CorruptData, InvalidInput, NotFound

MODEL_FILE = "model.onnx"
_LFS_POINTER = b"version https://git-lfs"


def read_onnx(path: Path) -> Any:
    """Return the ``ModelProto`` in `path`, its external data not loaded.

    Raises
    ------
    NotFound
        No such file.
    InvalidInput
        The file is no ONNX model: a Git LFS pointer, a web page, a cut file.
    """
    from onnx import load_model_from_string

    if not path.is_file():
        raise NotFound(f"no file '{path}'", hint="Check the path of the .onnx file.")
    data = path.read_bytes()
    if data.startswith(_LFS_POINTER):
        raise InvalidInput(f"'{path.name}' is a Git LFS pointer, not a model", hint="Fetch it with: git lfs pull")
    try:
        model = load_model_from_string(data)
    except import_module("google.protobuf.message").DecodeError:
        model = None
    if model is None or not model.graph.node:
        raise InvalidInput(
            f"'{path.name}' ({len(data):,} bytes) is not an ONNX model", hint="Export it again, or check the download."
        )
    return model


def check_onnx(path: Path) -> list[str]:
    """Check the ONNX file at `path` and return the names of the external data files that it needs.

    External data must be plain files in the folder of the model. A path that leads elsewhere
    would make loading the model read any file of its reader.

    Raises
    ------
    CorruptData
        An external path that leaves the folder, is a link, is missing, or is too short.
    NotFound, InvalidInput
        As `read_onnx`.
    """
    folder = path.parent
    needed: dict[str, int] = {}
    for tensor in _external_tensors(read_onnx(path)):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        file = folder / location
        if not location or Path(location).name != location or location in (".", "..") or "\\" in location:
            raise CorruptData(
                f"'{path.name}' keeps the tensor '{tensor.name}' in '{location}', outside its own folder",
                hint="Refuse this file, or export it again with its data beside it.",
            )
        if file.is_symlink() or not file.is_file():
            raise CorruptData(
                f"'{path.name}' keeps the tensor '{tensor.name}' in '{location}', which is not a file beside it",
                hint="Copy the data file beside the model.",
            )
        end = _whole(entries.get("offset"), tensor.name) + _whole(entries.get("length"), tensor.name)
        needed[location] = max(needed.get(location, 0), end)
    for location, end in needed.items():
        have = (folder / location).stat().st_size
        if have < end:
            raise CorruptData(
                f"'{location}' has {have:,} bytes, but '{path.name}' reads up to {end:,}",
                hint="Copy or export the model's data file again.",
            )
    return sorted(needed)


def _whole(text: str | None, tensor: str) -> int:
    if text is None:
        return 0
    if not text.isdecimal():
        raise CorruptData(f"tensor '{tensor}' has the external offset or length '{text}'", hint="Refuse this file.")
    return int(text)


def _external_tensors(model: Any) -> Iterator[Any]:
    """Yield every tensor stored outside, wherever it stands: initialisers, attributes, subgraphs, functions."""
    from onnx import TensorProto

    pending: list[Any] = [model]
    while pending:
        message = pending.pop()
        if isinstance(message, TensorProto):
            if message.data_location == TensorProto.EXTERNAL or message.external_data:
                yield message
            continue
        for field, value in message.ListFields():
            if field.type == field.TYPE_MESSAGE:
                pending.extend(value if isinstance(value, list) or hasattr(value, "add") else [value])


def onnx_name(name: str) -> str:
    """Return `name` as a name that reads well in a signature: dots and spaces become underscores."""
    return "".join(c if c.isalnum() or c == "_" else "_" for c in name)
