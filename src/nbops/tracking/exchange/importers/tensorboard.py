"""TensorBoard's event files, read without TensorBoard."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nbops.core.errors import CorruptData
from nbops.core.records import RunStatus
from nbops.tracking.exchange.importers.framing import tf_records
from nbops.tracking.exchange.importers.leaf import Gathered, Incoming, Tell, importer
from nbops.tracking.exchange.importers.protobuf import Message

_PATTERN = "*tfevents*"
# DataType of tensor.proto -> (NumPy's dtype, field of TensorProto with the values where `tensor_content` is empty)
_TENSORS = {1: ("<f4", 5), 2: ("<f8", 6), 3: ("<i4", 7), 9: ("<i8", 10), 19: ("<f2", 13)}
_TEXT = 7


def _folders(source: str) -> dict[Path, list[Path]]:
    path = Path(source).expanduser()
    files = [path] if path.is_file() and "tfevents" in path.name else sorted(path.rglob(_PATTERN))
    folders: dict[Path, list[Path]] = {}
    for file in files:
        if file.is_file():
            folders.setdefault(file.parent, []).append(file)
    return folders


@importer("tensorboard", tool="tensorboard", accepts=lambda source: bool(_folders(source)))
def read(source: str, tell: Tell) -> Iterator[Incoming]:
    """Read event files: one, or every folder of them under a log directory; each folder is a run.

    What it reads
        Scalars in the old and the new form, with steps and times; hyper-parameters; texts, as files.
    What it cannot read
        Images, audio, histograms, graphs and embeddings; each tag is told.
    References
        ``event.proto``, ``summary.proto`` and ``tensor.proto`` of TensorFlow; ``plugin_data.proto``
        of TensorBoard's hparams plugin.
    """
    root = Path(source).expanduser()
    for folder, files in _folders(source).items():
        run = _Reader()
        for file in files:
            try:
                for data in tf_records(file):
                    run.take(Message(data))
            except CorruptData as error:
                tell.problems.append(f"{error.message}; what is before it was kept")
        if not run.first_s:
            tell.problems.append(f"{folder.name} holds no event")
            continue
        name = folder.relative_to(root).as_posix() if root.is_dir() and folder != root else folder.resolve().name
        for tag, what in sorted(run.left_out.items()):
            tell.left_out.append(f"{name}: '{tag}' is {what} and was left out")
        yield Incoming(
            original_id=files[0].name,  # made of time, host, process and a number
            name=name,
            created_at=run.first_s,
            ended_at=run.last_s,
            status=run.status,
            params=run.params,
            tags={"experiment": root.resolve().name} if folder != root else {},
            series=run.points.columns(),
            files=[(f"text/{tag}.md", "".join(parts).encode()) for tag, parts in run.texts.items()],
        )


class _Reader:
    """Takes the events of one run in order."""

    def __init__(self) -> None:
        self.points = Gathered()
        self.params: dict[str, Any] = {}
        self.texts: dict[str, list[str]] = {}
        self.left_out: dict[str, str] = {}
        self.first_s = self.last_s = 0.0
        self.status = RunStatus.FINISHED
        self._plugins: dict[str, str] = {}

    def take(self, event: Message) -> None:
        """Take in one event."""
        at = event.double(1)
        self.first_s = min(at, self.first_s or at)
        self.last_s = max(self.last_s, at)
        for value in event.message(5).messages(1):
            self._value(value, event.integer(2), round(at * 1000))

    def _value(self, value: Message, step: int, time_ms: int) -> None:
        tag = value.text(1)
        plugin = value.message(9).message(1)
        if plugin.text(1):  # said once, with the first value of a tag
            self._plugins[tag] = plugin.text(1)
        kind = self._plugins.get(tag, "")
        if 2 in value:
            self.points.add(tag, step, time_ms, value.float32(2))
        elif kind == "hparams":
            self._hparams(Message(plugin.bytes(2)))
        elif 8 in value:
            self._tensor(tag, kind, value.message(8), step, time_ms)
        else:
            for number, what in ((4, "an image"), (5, "a histogram"), (6, "audio")):
                if number in value:
                    self.left_out[tag] = what

    def _tensor(self, tag: str, kind: str, tensor: Message, step: int, time_ms: int) -> None:
        dtype = tensor.integer(1)
        if dtype == _TEXT and kind == "text":
            lines = [text.decode("utf-8", "replace") for text in tensor.all(8)]
            self.texts.setdefault(tag, []).extend(f"<!-- step {step} -->\n\n{line}\n\n" for line in lines)
            return
        number = _scalar(tensor, dtype) if kind in ("", "scalars") else None
        if number is None:
            self.left_out[tag] = f"of the plugin {kind}" if kind else "no scalar"
        else:
            self.points.add(tag, step, time_ms, number)

    def _hparams(self, data: Message) -> None:
        for entry in data.message(3).messages(1):
            value = entry.message(2)
            if 2 in value:
                self.params[entry.text(1)] = value.double(2)
            elif 3 in value:
                self.params[entry.text(1)] = value.text(3)
            elif 4 in value:
                self.params[entry.text(1)] = bool(value.integer(4))


def _scalar(tensor: Message, dtype: int) -> float | None:
    """Return the only value of a tensor, or None if it has none or several."""
    if dtype not in _TENSORS:
        return None
    numpy_type, field = _TENSORS[dtype]
    content = tensor.bytes(4)
    if not content and dtype in (1, 2):
        content = b"".join(tensor.all(field))  # packed, or one by one
    elif not content:
        # Small integers stand as varints: packed where several, else one; half floats as their bits.
        value = Message(b"\x08" + tensor.bytes(field)).integer(1) if tensor.bytes(field) else tensor.integer(field)
        content = struct.pack("<H", value & 0xFFFF) if dtype == 19 else np.array([value]).astype(numpy_type).tobytes()
    found = np.frombuffer(content, numpy_type) if len(content) % np.dtype(numpy_type).itemsize == 0 else np.empty(0)
    return float(found[0]) if len(found) == 1 else None
