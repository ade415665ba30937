"""What an estimate says: peak, parts, batch sizes, what would help. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field

from nbops.core.display import Shown
from nbops.debugging.memory.trace import Peak

CONTEXT_BYTES = 450 << 20  # what CUDA and its libraries take for themselves; 300 to 600 MiB, by device and version


@dataclass(frozen=True)
class Estimate:
    """The memory of one training step under one condition.

    Attributes
    ----------
    name : str
        The condition: ``batch 32``, ``bf16 autocast``.
    batch : int
        Samples in one step.
    allocated, reserved : int, bytes
        At the peak; `reserved` is what CUDA's allocator holds for it, equal to `allocated` on the CPU.
    peak : Peak
    """

    name: str
    batch: int
    allocated: int
    reserved: int
    peak: Peak


@dataclass(frozen=True)
class MemoryReport(Shown):
    """The answer of `nb.memory`.

    Attributes
    ----------
    model, optimizer, device : str
    parameters, trainable : int, counts
    estimate : Estimate
        Of the batch that was given.
    by_batch : tuple of Estimate
        Smaller and larger batches.
    options : tuple of Estimate
        What would change the need, each alone.
    device_bytes : int or None
        What the device has.
    largest_batch : int or None
        The largest batch that fits; 0 if none does, None if no device was named.
    timeline : tuple of (int, str)
        Bytes allocated after each event of the step, and its phase; thinned.
    notes : tuple of str
    """

    model: str
    optimizer: str
    device: str
    parameters: int
    trainable: int
    estimate: Estimate
    by_batch: tuple[Estimate, ...] = ()
    options: tuple[Estimate, ...] = ()
    device_bytes: int | None = None
    largest_batch: int | None = None
    timeline: tuple[tuple[int, str], ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def needed_bytes(self) -> int:
        """What the device must have: reserved, and on CUDA the context."""
        return self.need_of(self.estimate)

    @property
    def fits(self) -> bool | None:
        """Whether the batch that was given fits; None if no device was named."""
        return None if self.device_bytes is None else self.needed_bytes <= self.device_bytes

    @property
    def chart(self) -> MemoryChart:
        """The bars alone: interactive in a notebook, by plotly."""
        return MemoryChart(self)

    def need_of(self, estimate: Estimate) -> int:
        """Return what the device must have for one of the estimates, in bytes."""
        return estimate.reserved + (CONTEXT_BYTES if self.device == "cuda" else 0)

    def __repr__(self) -> str:
        return f"MemoryReport({self.model}, batch {self.estimate.batch}: {self.needed_bytes:,} bytes)"


@dataclass(frozen=True)
class MemoryChart(Shown):
    """The picture of a report."""

    report: MemoryReport
