"""The registry of exporters: how one sort of model becomes ONNX, and how the original is run for comparison.

Which exporter fits is told by the class names of the model, so this module loads no framework.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nbops.core.errors import InvalidInput
from nbops.core.registry import Registry
from nbops.models.signature import Array, as_array

Rows = dict[str, Array]
Export = Callable[[Any, Mapping[str, Array], Path], None]


@dataclass(frozen=True)
class Exporter:
    """How one sort of model becomes ONNX.

    Attributes
    ----------
    name : str
        Its name in the registry.
    export : callable
        ``export(model, rows, path)`` writes ONNX to `path` (external data beside it, only where
        one file cannot hold the model) and leaves the model as it was. `rows` holds at least
        two rows, so that no dimension of size 1 is frozen.
    bind : callable
        ``bind(model, example)`` returns the example as arrays by input name, in the dtypes that
        the model takes.
    predict : callable or None
        ``predict(model, rows)`` returns what the original gives, arrays by output name; None where
        there is no original beside the file.
    handles : tuple of str
        Qualified class names; a model with one of them among its bases fits.
    """

    name: str
    export: Export
    bind: Callable[[Any, Any], Rows]
    predict: Callable[[Any, Mapping[str, Array]], Rows] | None
    handles: tuple[str, ...]

    def __post_init__(self) -> None:
        # The docstring is the leaf's page in the reference; the module tells the registry two leaves apart.
        for attribute in ("__doc__", "__module__"):
            object.__setattr__(self, attribute, getattr(self.export, attribute, None))


exporters: Registry[Exporter] = Registry(
    "exporter", group="nbops.exporters", modules=("nbops.models.torch_exporter", "nbops.models.onnx_exporter")
)


def exporter(
    name: str,
    *,
    handles: tuple[str, ...],
    bind: Callable[[Any, Any], Rows],
    predict: Callable[[Any, Mapping[str, Array]], Rows] | None,
) -> Callable[[Export], Export]:
    """Return a decorator that registers an export function; see `Exporter` for the parts."""

    def add(function: Export) -> Export:
        exporters.add(name, Exporter(name=name, export=function, bind=bind, predict=predict, handles=handles))
        return function

    return add


def exporter_for(model: Any, choice: str | Export | None = None) -> Exporter:
    """Return the exporter for `model`.

    Parameters
    ----------
    model : object
        What is to be exported.
    choice : str or callable, optional
        A registered name; or a function ``export(model, rows, path)`` of your own, beside which the
        original is run as usual. None goes by the class of the model.

    Raises
    ------
    NotFound
        No exporter has this name.
    InvalidInput
        No exporter fits the class of the model.
    """
    if isinstance(choice, str):
        return exporters[choice]
    bases = {f"{base.__module__}.{base.__qualname__}" for base in type(model).__mro__}
    for leaf in exporters.values():
        if not bases.isdisjoint(leaf.handles):
            if choice is None:
                return leaf
            name = getattr(choice, "__name__", "own")
            return Exporter(name=name, export=choice, bind=leaf.bind, predict=leaf.predict, handles=leaf.handles)
    raise InvalidInput(
        f"no exporter takes a {type(model).__module__}.{type(model).__qualname__}",
        hint=f"Pass exporter= one of: {', '.join(exporters)}; or export it to ONNX yourself and register the file.",
    )


def check_rows(rows: Mapping[str, Array]) -> int:
    """Return the number of rows that all arrays share.

    Raises
    ------
    InvalidInput
        An array without a batch dimension, no row at all, or unequal numbers of rows.
    """
    for name, array in rows.items():
        if array.ndim == 0:
            raise InvalidInput(
                f"example '{name}' is a single value", hint="Give rows: the first dimension is the batch."
            )
        if array.shape[0] == 0:
            raise InvalidInput(f"example '{name}' has no rows", hint="Give at least one real row, better ten.")
    counts = {name: array.shape[0] for name, array in rows.items()}
    if len(set(counts.values())) != 1:
        listed = ", ".join(f"'{name}' {count}" for name, count in counts.items()) or "none"
        raise InvalidInput(f"the example's arrays differ in rows: {listed}", hint="Give each input the same rows.")
    return int(next(iter(counts.values())))


def export_rows(rows: Mapping[str, Array]) -> Rows:
    """Return two to four rows to export with; a single row is repeated, because a batch of 1 would be frozen."""
    count = check_rows(rows)
    take = [0, 0] if count == 1 else list(range(min(count, 4)))
    return {name: np.ascontiguousarray(array[take]) for name, array in rows.items()}


def bind_by_name(names: list[str], example: Any) -> Rows:
    """Return `example` (one array, a tuple of arrays, or a dict by name) as arrays by input name.

    Raises
    ------
    InvalidInput
        When it has more parts than there are names, or a name that is not there.
    """
    if isinstance(example, Mapping):
        unknown = [str(name) for name in example if name not in names]
        if unknown:
            raise InvalidInput(
                f"the model has no input '{unknown[0]}'", hint=f"Use the names of its inputs: {', '.join(names)}."
            )
        return {name: as_array(example[name]) for name in names if name in example}
    parts = example if isinstance(example, tuple) else (example,)
    if len(parts) > len(names):
        raise InvalidInput(
            f"the example has {len(parts)} arrays, the model takes {len(names)} ({', '.join(names)})",
            hint="Pass one array per input, or a dict by input name.",
        )
    return {name: as_array(part) for name, part in zip(names, parts, strict=False)}
