"""What a fitted object was fitted on: it is fitted again on train, on both sides and on test, and compared."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from nbops.core.errors import InvalidInput
from nbops.data.columns import Array, Frame
from nbops.data.rows import take_rows

_CLOSE = 1e-6
_MOST = 1e6  # values of one attribute that are compared


@dataclass(frozen=True)
class Verdict:
    """Where one object learned.

    Attributes
    ----------
    name : str
        Its class, and the step of a pipeline.
    on : str
        ``train``, ``both``, ``test``, ``either`` (the same on train and on both) or ``other``.
    attribute : str
        What gave it away: ``mean_``; empty where nothing did.
    said : str
        That attribute as it is, and as train alone would give.
    """

    name: str
    on: str
    attribute: str = ""
    said: str = ""


def judged_objects(given: Any, train: Frame, test: Frame) -> list[Verdict]:
    """Return where fitted objects learned.

    Parameters
    ----------
    given : estimator or list of estimators
        What has ``fit`` and learned attributes that end in ``_``; a pipeline is judged step by step. It is not changed.
    train, test : Frame

    Raises
    ------
    InvalidInput
        No estimator; one that is not fitted, or that fits other columns.
    """
    found = []
    for one in given if isinstance(given, list | tuple) else [given]:
        if not hasattr(one, "fit") or isinstance(one, type):
            raise InvalidInput(f"fitted holds a {type(one).__name__}, which has no fit",
                               hint="Pass fitted objects: fitted=scaler, or a list of them.")  # fmt: skip
        found += list(_judged(one, _sides(one, train, test), ""))
    return found


@dataclass(frozen=True)
class _Sides:
    train: Any
    test: Any
    whole: Any
    y_train: Array | None
    y_test: Array | None

    def y_both(self) -> Array | None:
        return None if self.y_train is None or self.y_test is None else np.concatenate((self.y_train, self.y_test))

    def through(self, step: Any) -> _Sides:
        """Return both sides as a fitted step passes them on."""
        return self.each(step.transform)

    def each(self, change: Callable[[Any], Any]) -> _Sides:
        """Return the three tables changed alike."""
        return _Sides(change(self.train), change(self.test), change(self.whole), self.y_train, self.y_test)


def _judged(one: Any, sides: _Sides, where: str) -> Iterator[Verdict]:
    name = f"{where}{type(one).__name__}"
    if hasattr(one, "steps") and hasattr(one, "named_steps"):
        for _, step in one.steps:
            if step in (None, "passthrough"):
                continue
            yield from _judged(step, sides, f"{name} / ")
            if hasattr(step, "transform"):
                sides = sides.through(step)
        return
    if hasattr(one, "transformers_"):
        for _, part, columns in one.transformers_:
            if not isinstance(part, str):
                yield from _judged(part, sides.each(partial(_picked, columns=columns)), f"{name} / ")
        return
    own = _learned(one)
    if not own and where:
        return  # a step that learns nothing
    if not own:
        raise InvalidInput(f"{name} has learned nothing yet", hint="Pass it after fit, or leave it out.")
    fits: dict[str, Callable[[], Mapping[str, Array]]] = {
        "train": lambda: _refitted(one, sides.train, sides.y_train),
        "both": lambda: _refitted(one, sides.whole, sides.y_both()),
        "test": lambda: _refitted(one, sides.test, sides.y_test),
    }
    yield _compared(name, own, {side: fit() for side, fit in fits.items()})


def _compared(name: str, own: Mapping[str, Array], fits: Mapping[str, Mapping[str, Array]]) -> Verdict:
    alone, both = fits["train"], fits["both"]
    telling = [key for key in own if key in alone and key in both and not _equal(alone[key], both[key])]
    if not telling:
        return Verdict(name, "either" if own.keys() & alone.keys() else "other")
    for side in ("train", "both", "test"):
        hits = [key for key in telling if key in fits[side] and _equal(own[key], fits[side][key])]
        if hits:
            key = min(hits, key=lambda one: (one.startswith("n_"), own[one].size, one))
            said = f"{_shown(own[key])}, of train alone {_shown(alone[key])}"
            return Verdict(name, side, key, said)
    return Verdict(name, "other", telling[0], f"{_shown(own[telling[0]])}, of train alone {_shown(alone[telling[0]])}")


def _refitted(one: Any, data: Any, y: Array | None) -> Mapping[str, Array]:
    from sklearn.base import clone

    fresh = clone(one)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fresh.fit(data) if y is None else fresh.fit(data, y)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"{type(one).__name__} does not fit these columns: {error}",
                               hint="Pass train and test as it was fitted: the same columns, before it transformed "
                                    "them.") from error  # fmt: skip
    return _learned(fresh)


def _learned(one: Any) -> dict[str, Array]:
    """Return the numbers that an object learned, by attribute; the words of a vocabulary are in their order."""
    found: dict[str, Array] = {}
    for key in dir(one):
        if not key.endswith("_") or key.startswith("_") or key in ("feature_names_in_", "n_features_in_"):
            continue
        try:
            value = getattr(one, key)
        except Exception:  # noqa: S112 - a property that this object cannot answer
            continue
        if isinstance(value, dict) and value and all(isinstance(word, str) for word in value):
            value = sorted(value)
        try:
            array = np.asarray(value) if isinstance(value, int | float | np.ndarray | np.generic | list) else None
        except ValueError:  # lists of arrays of many shapes
            array = None
        if array is not None and array.dtype == object and all(isinstance(part, np.ndarray) for part in array):
            array = np.concatenate([part.reshape(-1) for part in array])
        if array is not None and array.dtype.kind in "iufbUO" and 0 < array.size <= _MOST and not callable(value):
            found[key] = array
    return found


def _equal(a: Array, b: Array) -> bool:
    if a.shape != b.shape:
        return False
    if a.dtype.kind in "iufb" and b.dtype.kind in "iufb":
        return bool(np.allclose(a.astype(np.float64), b.astype(np.float64), rtol=_CLOSE, atol=1e-12, equal_nan=True))
    return bool(np.array_equal(a, b))


def _shown(value: Array) -> str:
    if value.dtype.kind not in "iufb":
        return f"{value.size:,} entries"
    few = ", ".join(f"{one:.6g}" for one in value.reshape(-1)[:3].tolist())
    return few if value.size == 1 else f"[{few}{', …' if value.size > 3 else ''}]"


# ---- the columns an object was fitted on


def _sides(one: Any, train: Frame, test: Frame) -> _Sides:
    names = getattr(one, "feature_names_in_", None)
    wanted = None if names is None else [str(name) for name in names]
    first, second = _table(train, wanted), _table(test, wanted)
    return _Sides(first, second, _joined(first, second), _labels(train), _labels(test))


def _table(frame: Frame, wanted: list[str] | None) -> Any:
    """Return the features as they were given where that is possible, else the numbers: [rows, columns]."""
    native = frame.native[0] if isinstance(frame.native, tuple) else frame.native
    if isinstance(native, np.ndarray):
        return native
    names = wanted or [name for name in frame.names if name != frame.label]
    missing = [name for name in names if name not in frame.names]
    if missing:
        raise InvalidInput(f"the fitted object knows column '{missing[0]}', and train and test have none",
                           hint="Pass train and test as it was fitted, before it transformed them.")  # fmt: skip
    if hasattr(native, "__getitem__") and hasattr(native, "columns"):
        return native[names]
    texts = [frame.column(name) for name in names if not frame.column(name).is_number]
    if len(names) == 1 and texts:
        return [texts[0].value(row) for row in range(frame.rows)]
    return np.stack([frame.column(name).values.astype(np.float64) for name in names], axis=1)


def _labels(frame: Frame) -> Array | None:
    if not frame.label:
        return None
    column = frame.column(frame.label)
    return column.values if column.offsets is None else np.array([column.value(row) for row in range(frame.rows)])


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, list):
        return first + second
    if isinstance(first, np.ndarray):
        return np.concatenate((first, np.asarray(second)))
    if type(first).__module__.startswith("pandas"):
        import pandas as pd

        return pd.concat([first, second], ignore_index=True)
    import narwhals as nw

    return nw.concat([nw.from_native(first), nw.from_native(second)]).to_native()


def _picked(table: Any, columns: Any) -> Any:
    if isinstance(table, np.ndarray):
        return take_rows(table.T, np.arange(table.shape[1])[columns]).T
    names = [columns] if isinstance(columns, str) else list(columns)
    if names and not isinstance(names[0], str):
        names = [list(table.columns)[int(position)] for position in np.arange(len(table.columns))[columns]]
    return table[columns if isinstance(columns, str) else names]
