"""The seams: small protocols, each proved by a public contract class in `nbops.testing`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from nbops.core.query import Node, Order
from nbops.core.records import Event, Link, Record, Signature

R = TypeVar("R", bound=Record)
Bytes = bytes | memoryview


@dataclass(frozen=True)
class Points:
    """Points of one metric of one run, as little-endian arrays of equal length.

    steps : int64 [n]; times_ms : int64 [n], milliseconds since the epoch; values : float64 [n]
    cells : the notebook cells that logged them: (index of the first point, cell), ascending; none outside a notebook
    """

    run: str
    metric: str
    steps: Bytes
    times_ms: Bytes
    values: Bytes
    cells: tuple[tuple[int, str], ...] = ()


class Recorded(Protocol):
    """Something that is stored under an id: a record, or a handle of one."""

    @property
    def id(self) -> str: ...


class Store(Protocol):
    """Records, links, events and points. Each method is one transaction unless inside `transaction`."""

    def put(self, record: Record, *, event: str = "", payload: Mapping[str, Any] | None = None) -> None:
        """Insert or replace a record and tell it: event ``kind.created`` or ``kind.updated`` by default."""

    def get(self, kind: type[R], id: str) -> R:
        """Return the record or raise `NotFound`."""

    def find(
        self, kind: type[R], where: Node | None = None, *,
        order_by: Sequence[Order] = (), limit: int | None = None, offset: int = 0,
    ) -> list[R]:  # fmt: skip
        """Return matching records; newest first by default, ties broken by id."""

    def count(self, kind: type[Record], where: Node | None = None) -> int:
        """Return how many records match."""

    def update(self, kind: type[R], id: str, change: Callable[[R], R], *, event: str = "") -> R:
        """Read, change and put one record so that no other writer comes between."""

    def delete(self, kind: type[Record], id: str) -> None:
        """Remove a record, its points and its links; `NotFound` if it is not there."""

    def add_points(self, batch: Sequence[Points], *, journal: str = "", start: int = 0, end: int = 0) -> bool:
        """Append points; with `journal`, only if its folded offset is still `start`, then move it to `end`."""

    def points(self, run: str, metric: str) -> Points:
        """Return all points of one metric in the order they were logged; empty arrays if there are none."""

    def folded(self, journal: str) -> int:
        """Return how many bytes of a journal are in the store."""

    def link(self, source: str, relation: str, target: str) -> None:
        """Add an edge; the same edge twice is one."""

    def links(self, id: str = "") -> list[Link]:
        """Return the edges that touch `id`, or all."""

    def emit(self, kind: str, subject: str, payload: Mapping[str, Any] | None = None) -> None:
        """Append an event."""

    def events(self, *, after: int = 0, limit: int = 1000, subject: str = "") -> list[Event]:
        """Return events with ``seq > after``, oldest first."""

    def last_event(self) -> int:
        """Return the newest sequence number, 0 for none."""

    def next_number(self, name: str) -> int:
        """Return 1, 2, 3 … for a named counter; a number is never given twice."""

    def transaction(self) -> AbstractContextManager[None]:
        """Join all calls of this thread within the block into one transaction; an error undoes all."""

    def close(self) -> None:
        """Release connections."""


class ArtifactStore(Protocol):
    """Content-addressed bytes; the digest is sha256 in hex."""

    def put(self, data: bytes | Path | BinaryIO) -> tuple[str, int]:
        """Store bytes and return (digest, size in bytes); storing the same bytes twice stores them once."""

    def open(self, digest: str) -> BinaryIO:
        """Return a reader of verified bytes; `NotFound` or `CorruptData` before the first byte is given."""

    def exists(self, digest: str) -> bool:
        """Return whether the bytes are there."""

    def delete(self, digest: str) -> None:
        """Remove the bytes; nothing happens if they are absent."""


@dataclass(frozen=True)
class StepContext:
    """What a step gets: the notebook (never written to), typed parameters, where to work, its run."""

    notebook: Path
    parameters: Mapping[str, Any]
    run_id: str
    work_dir: Path
    output: Path
    env: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float | None = None


@dataclass(frozen=True)
class StepOutcome:
    """How a step ended: a `RunStatus` value, the executed notebook, the error of the cell that failed."""

    status: str
    output: Path
    error: Any = None


class Engine(Protocol):
    """Runs one notebook step."""

    def execute(self, context: StepContext) -> StepOutcome:
        """Execute the notebook with its parameters; a failing cell is an outcome, not an exception."""


class Runtime(Protocol):
    """Serves one loaded model."""

    signature: Signature

    def predict(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return output arrays by name for input arrays by name; the first dimension is the batch."""

    def memory_bytes(self) -> int:
        """Return an estimate of what the loaded model holds."""

    def close(self) -> None:
        """Release it."""
