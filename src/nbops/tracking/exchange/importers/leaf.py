"""What an importer is, what it yields, and the registry of them. Writing to the workspace is not done here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nbops.core.errors import InvalidInput
from nbops.core.records import RunStatus
from nbops.core.registry import Registry
from nbops.store.points import Columns

Read = Callable[[str, "Tell"], "Iterator[Incoming]"]
SQLITE_MAGIC = b"SQLite format 3\x00"


@dataclass
class Tell:
    """Where an importer says what it did not bring, one line each.

    Attributes
    ----------
    left_out : list of str
        What is of a sort that is not imported.
    problems : list of str
        What should have been read and could not be.
    """

    left_out: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass
class Incoming:
    """One run as another tool kept it.

    Attributes
    ----------
    original_id : str
        What the other tool calls it; the same run has the same one for ever.
    created_at, ended_at : float, seconds since the epoch
    parent : str
        Original id of the enclosing run, or an empty string.
    series : dict of str to Columns
        All points by metric, in the order they were logged.
    files : list of (name, Path or bytes)
        What becomes artifacts.
    """

    original_id: str
    name: str
    created_at: float
    ended_at: float | None = None
    status: RunStatus = RunStatus.FINISHED
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    note: str = ""
    parent: str = ""
    series: Mapping[str, Columns] = field(default_factory=dict)
    files: list[tuple[str, Path | bytes]] = field(default_factory=list)


@dataclass(frozen=True)
class Importer:
    """How one format is read.

    Attributes
    ----------
    name : str
        Its name in the registry: ``mlflow-files``.
    tool : str
        The tool that wrote it; becomes the tag ``imported_from``.
    accepts : callable
        ``accepts(source)`` says whether a path or URL looks like this format, reading little.
    read : callable
        ``read(source, tell)`` yields runs, and tells what it leaves out and what it cannot read.
    """

    name: str
    tool: str
    accepts: Callable[[str], bool]
    read: Read

    def __post_init__(self) -> None:
        for attribute in ("__doc__", "__module__"):  # the registry tells two leaves apart by their module
            object.__setattr__(self, attribute, getattr(self.read, attribute, None))


importers: Registry[Importer] = Registry(
    "importer",
    group="nbops.importers",
    modules=tuple(
        f"nbops.tracking.exchange.importers.{name}"
        for name in ("mlflow_database", "mlflow_files", "tensorboard", "trackio", "wandb")
    ),
)


def importer(name: str, *, tool: str, accepts: Callable[[str], bool]) -> Callable[[Read], Read]:
    """Return a decorator that registers a reading function; see `Importer` for the parts."""

    def add(function: Read) -> Read:
        importers.add(name, Importer(name=name, tool=tool, accepts=accepts, read=function))
        return function

    return add


def importer_for(source: str, format: str | None = None) -> Importer:
    """Return the importer named `format`, or the one that accepts `source`.

    Raises
    ------
    NotFound
        No importer has this name.
    InvalidInput
        None accepts the source, or several do.
    """
    if format is not None:
        return importers[format]
    fits = [leaf for leaf in importers.values() if leaf.accepts(source)]
    if len(fits) == 1:
        return fits[0]
    names = ", ".join(leaf.name for leaf in fits or importers.values())
    if not fits:
        raise InvalidInput(f"'{source}' looks like no format that can be imported",
                           hint=f"Check the path, or pass format= one of: {names}.")  # fmt: skip
    raise InvalidInput(f"'{source}' holds more than one format", hint=f"Pass format= one of: {names}.")


def is_sqlite(source: str) -> bool:
    """Return whether `source` is a SQLite file."""
    path = Path(source.removeprefix("sqlite:///")).expanduser()
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC


def columns_of(steps: Sequence[int], times_ms: Sequence[int], values: Sequence[float]) -> Columns:
    """Return points as arrays."""
    return Columns(np.array(steps, "<i8"), np.array(times_ms, "<i8"), np.array(values, "<f8"))


class Gathered:
    """Points that come one at a time, kept by metric."""

    def __init__(self) -> None:
        self._lists: dict[str, tuple[list[int], list[int], list[float]]] = {}

    def add(self, metric: str, step: int, time_ms: int, value: float) -> None:
        """Take in one point."""
        lists = self._lists.get(metric)
        if lists is None:
            lists = self._lists[metric] = ([], [], [])
        lists[0].append(step)
        lists[1].append(time_ms)
        lists[2].append(value)

    def __contains__(self, metric: str) -> bool:
        return metric in self._lists

    def columns(self) -> dict[str, Columns]:
        """Return the points of each metric, in the order they came."""
        return {metric: columns_of(*lists) for metric, lists in self._lists.items()}


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) for the leaves of nested maps."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def number_of(value: Any) -> float | None:
    """Return a number or a truth value as a float, also one written as ``NaN`` or ``-Infinity``; None for the rest."""
    if isinstance(value, bool | int | float):
        try:
            return float(value)
        except OverflowError:
            return None
    if isinstance(value, str) and value.lstrip("-") in ("NaN", "Infinity", "inf", "nan"):
        return float(value)
    return None
