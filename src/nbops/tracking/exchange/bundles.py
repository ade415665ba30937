"""What a bundle of runs is: one zip file that another workspace opens. Reading and writing it are not done here.

``manifest.json``         format, who made it and when, sha256 and size of every other entry
``records/KIND.jsonl``    records, one JSON each: runs, cells, artifacts, checks, diagnoses, datasets, models
``links.jsonl``           edges between these
``origins.jsonl``         who made a record, and when, as the audit log of its workspace has it
``points/RUN.bin``        the points of a run: chunks of the store, each behind the name of its metric
``blobs/SHA256``          files by content
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from nbops.core.errors import CorruptData
from nbops.core.records import Artifact, Cell, CheckReport, Dataset, Diagnosis, ModelVersion, Record, Run
from nbops.store.points import CHUNK_POINTS, Columns, decode_chunk, encode_chunk, split

FORMAT = 1
SUFFIX = ".nbops.zip"
MANIFEST, LINKS, ORIGINS = "manifest.json", "links.jsonl", "origins.jsonl"
# In the order in which they are written: what others name comes first.
KINDS: tuple[type[Record], ...] = (Dataset, Run, ModelVersion, Cell, Artifact, CheckReport, Diagnosis)
NUMBERED = {Dataset.kind: "version", ModelVersion.kind: "number"}  # numbers are given by a workspace, anew if need be
DIGEST = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(
    rf"{re.escape(MANIFEST)}|{re.escape(LINKS)}|{re.escape(ORIGINS)}|records/[a-z][a-z-]{{0,40}}\.jsonl|"
    r"points/run_[0-9A-Za-z]{1,64}\.bin|blobs/[0-9a-f]{64}"
)
MAX_LINE = 32 << 20  # bytes of one record
_FRAME = struct.Struct("<HI")  # bytes of the metric's name, bytes of the chunk
_MAX_CHUNK = 8 << 20
_MAX_CELL_NAME = 1000


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry as the manifest has it: sha256 in hex, and size."""

    sha256: str
    size_bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle says of itself."""

    format: int
    entries: dict[str, Entry]
    nbops: str = ""
    made_at: float = 0.0  # seconds since the epoch
    made_by: str = ""
    counts: dict[str, int] = {}


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Who made a record, and when (seconds since the epoch), in the workspace that it comes from."""

    id: str
    by: str
    at: float


def frames_of(metric: str, columns: Columns) -> Iterator[bytes]:
    """Yield the points of one metric as frames."""
    name = metric.encode()
    for piece in split(columns):
        data = encode_chunk(piece)
        yield b"".join((_FRAME.pack(len(name), len(data)), name, data))


def frames_in(read: Callable[[int], bytes]) -> Iterator[tuple[str, Columns]]:
    """Yield (metric, points) for each frame; ``read(n)`` returns n bytes, or fewer at the end.

    Raises
    ------
    CorruptData
        The bytes are no frames of whole chunks.
    """
    while head := read(_FRAME.size):
        name_size, size = _FRAME.unpack(head) if len(head) == _FRAME.size else (0, 0)
        if not name_size or not 0 < size <= _MAX_CHUNK:
            raise damaged("a frame of points has an impossible length")
        name, data = read(name_size), read(size)
        if (len(name), len(data)) != (name_size, size):
            raise damaged("the points end within a frame")
        try:
            metric, columns = name.decode(), decode_chunk(data)
        except (UnicodeDecodeError, msgspec.MsgspecError, ValueError) as error:
            raise damaged(f"a chunk of points cannot be read: {error}") from error
        if not 0 < len(columns) <= CHUNK_POINTS or not _are_ordered(columns):
            raise damaged(f"a chunk of '{metric[:60]}' is not as nbops writes it")
        yield metric, columns


def _are_ordered(columns: Columns) -> bool:
    starts = [start for start, _ in columns.cells]
    fits = not starts or (starts[0] == 0 and starts[-1] < len(columns) and starts == sorted(set(starts)))
    return fits and all(len(cell) <= _MAX_CELL_NAME for _, cell in columns.cells)


def damaged(what: str) -> CorruptData:
    """Return the error for a bundle that cannot be trusted."""
    return CorruptData(f"the bundle is refused: {what}", hint="Ask for it again; nothing of it was imported.")


def entry_of(kind: type[Record]) -> str:
    """Return the name of the entry that holds the records of a kind."""
    return f"records/{kind.kind}.jsonl"


def points_entry(run: str) -> str:
    """Return the name of the entry that holds the points of a run."""
    return f"points/{run}.bin"


def without_number(record: Record) -> Any:
    """Return a record without what its workspace gave it: the number of a version, and the summary of a run."""
    fields = {NUMBERED[record.kind]: 0} if record.kind in NUMBERED else {}
    return msgspec.structs.replace(record, **fields, **({"summary": {}} if isinstance(record, Run) else {}))
