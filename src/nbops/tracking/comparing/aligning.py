"""Where two watched trainings part: the first step and layer whose numbers differ by more than a tolerance."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nbops.core.errors import CorruptData, InvalidInput, StoreError
from nbops.core.query import Compare, Field
from nbops.core.records import Artifact, Run
from nbops.store.traces import MEDIA_TYPE, SIGNALS, Traces, unpack
from nbops.store.workspace import Workspace

TOLERANCE = 1e-3  # far above what the order of additions changes, far below what a seed or a rate does
_TINY = 1e-12  # below this, two numbers are both nothing
_WORDS = {
    "activation_rms": "activation rms", "activation_mean": "activation mean", "grad_norm": "gradient norm",
    "weight_norm": "weight norm", "update_ratio": "update ratio",
}  # fmt: skip
_RANK = (0, 0, 1, 2, 3)  # when a signal comes about within a step: what layers put out is one stage, from first to last
_RMS, _MEAN = SIGNALS.index("activation_rms"), SIGNALS.index("activation_mean")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Parting:
    """Where one layer parts.

    Attributes
    ----------
    step : int
    layer, other : str
        Its name in the first run, and in the second.
    signal : str
        Which number: ``activation rms``, ``gradient norm``, ``update ratio`` …
    a, b : float
        What it was in each run.
    difference : float
        Relative: over the greater of the two.
    """

    step: int
    layer: str
    other: str
    signal: str
    a: float
    b: float
    difference: float

    @property
    def place(self) -> str:
        """The layer, with both names where they differ."""
        return self.layer if self.layer == self.other else f"{self.layer} ({self.other} in the second run)"

    def __str__(self) -> str:
        return f"layer {self.place} at step {self.step:,} ({self.signal} {self.a:.4g} against {self.b:.4g})"


@dataclass(frozen=True, eq=False)
class Alignment:
    """The numbers of two watched trainings, layer by layer and step by step.

    Attributes
    ----------
    name : str
        Of the watch.
    tolerance : float
        Relative; a difference above it counts.
    layers : tuple of str
        Those that both runs have, in forward order, as the first run names them.
    steps : int64 [steps]
        Those that were kept of both runs.
    differences : float64 [layers, steps]
        The greatest relative difference of a layer's numbers in a step; NaN where nothing was measured in both.
    partings : tuple of Parting
        For each layer that parts, where it does so first; the earliest step first, within a step what a layer puts out
        before gradients, weights and updates, and these in forward order.
    notes : tuple of str
        How layers were aligned, and which steps are left out.
    """

    name: str
    tolerance: float
    layers: tuple[str, ...]
    steps: NDArray[np.int64]
    differences: Floats
    partings: tuple[Parting, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_same(self) -> bool:
        """Whether no layer parts; without a common step that is not known, and False."""
        return len(self.steps) > 0 and not self.partings

    @property
    def is_equal(self) -> bool:
        """Whether all recorded numbers are equal bit for bit."""
        return len(self.steps) > 0 and not np.nansum(self.differences)

    @property
    def first(self) -> int | None:
        """Which of `layers` parts first; None if none does."""
        return self.layers.index(self.partings[0].layer) if self.partings else None

    @property
    def last_alike(self) -> int | None:
        """The last common step before the first parting; None if there is none."""
        until = self.partings[0].step if self.partings else math.inf
        return _last(self.steps[self.steps < until])

    @property
    def last_equal(self) -> int | None:
        """The last common step up to which all recorded numbers are equal bit for bit; None if there is none."""
        differs = np.nansum(self.differences, axis=0) > 0
        return _last(self.steps[: int(np.argmax(differs))] if differs.any() else self.steps)

    def lines(self, *, more: int = 4) -> list[str]:
        """Return what is to be said, the answer first; `more` layers after the first that parts."""
        if not len(self.steps):
            return ["No step was kept of both runs, so their layers cannot be compared.", *self.notes]
        within = f"{self.tolerance * 100:g} %"
        if self.is_equal:
            count = f"{len(self.steps):,} steps and {len(self.layers):,} layers"
            said = [f"The two trainings agree bit for bit in all numbers that were kept of {count}."]
        elif not self.partings:
            most = float(np.nanmax(self.differences))
            said = [f"The two trainings agree within {within} up to step {self.steps[-1]:,}; at most {most:.2g} apart."]
        else:
            first = self.partings[0]
            since = "" if self.last_alike is None else f"The two trainings agree until step {self.last_alike:,}. "
            said = [f"{since}First to part is {first}."]
            said += [f"Then {one}." for one in self.partings[1 : 1 + more]]
            left_out = len(self.partings) - 1 - more
            said += [f"… and {left_out:,} more layers."] if left_out > 0 else []
        if not self.is_equal and self.last_equal is not None and self.last_equal != self.last_alike:
            said.append(f"They are equal bit for bit until step {self.last_equal:,}.")
        return [*said, *self.notes]

    def __repr__(self) -> str:
        return f"Alignment({self.name!r}: {self.lines()[0]})"


def alignments(ws: Workspace, a: Run, b: Run, *, tolerance: float = TOLERANCE) -> Iterator[Alignment]:
    """Yield how the watches of two runs compare; nothing where one of them was not watched.

    Watches of the same name belong together; where there is none, they are taken in the order in which they ended.

    Raises
    ------
    InvalidInput
        The tolerance is no number from 0.
    """
    if not 0 <= tolerance < math.inf:
        raise InvalidInput(f"a tolerance of {tolerance!r}", hint="Give a number from 0: 0.001 is a thousandth.")
    one, two = _kept(ws, a), _kept(ws, b)
    pairs = [(name, name) for name in one if name in two] or list(zip(one, two, strict=False))
    for mine, theirs in pairs:
        yield align(one[mine], two[theirs], tolerance=tolerance)


def _kept(ws: Workspace, run: Run) -> dict[str, Traces]:
    """Return what was kept of the watches of a run, the last of each name."""
    found: dict[str, Traces] = {}
    for file in reversed(ws.store.find(Artifact, Compare(Field("parent"), "==", run.id))):
        if file.media_type == MEDIA_TYPE:
            try:
                with ws.artifacts.open(file.digest) as stream:
                    traces = unpack(stream.read())
            except (CorruptData, StoreError, LookupError):  # the rest of the two runs can be compared all the same
                continue
            found[traces.name] = traces
    return found


def align(a: Traces, b: Traces, *, tolerance: float = TOLERANCE) -> Alignment:
    """Lay two traces side by side: the same layers at the same steps."""
    pairs, notes = _layers(a, b)
    steps, at, where = np.intersect1d(a.steps, b.steps, assume_unique=True, return_indices=True)
    one = a.values[at][:, [i for i, _ in pairs]]
    two = b.values[where][:, [j for _, j in pairs]]
    relative = _relative(one, two)
    if len(steps) < max(len(a.steps), len(b.steps)):
        notes.append(f"{len(steps):,} steps are compared: {len(a.steps):,} were kept of the first run and "
                     f"{len(b.steps):,} of the second.")  # fmt: skip
    notes += _rates(steps, a.rates[at], b.rates[where])
    partings = [
        Parting(int(steps[s]), a.layers[pairs[k][0]], b.layers[pairs[k][1]], _WORDS[SIGNALS[f]],
                float(one[s, k, f]), float(two[s, k, f]), float(relative[s, k, f]))
        for s, f, k in _first(relative > tolerance)
    ]  # fmt: skip
    known = ~np.isnan(relative)
    greatest = np.where(known.any(axis=2), np.where(known, relative, 0.0).max(axis=2, initial=0.0), np.nan)
    names = tuple(a.layers[i] for i, _ in pairs)
    return Alignment(a.name, tolerance, names, steps, greatest.T, tuple(partings), tuple(notes))


def _relative(a: Floats, b: Floats) -> Floats:
    """Return how far apart numbers are, over the greater of the two; of a mean, over the rms that belongs to it."""
    size = np.maximum(np.abs(a), np.abs(b))
    size[..., _MEAN] = np.fmax(size[..., _MEAN], size[..., _RMS])
    with np.errstate(invalid="ignore"):
        apart = np.abs(a - b) / np.maximum(size, _TINY)
    apart[np.isinf(a) & np.isinf(b)] = 0.0
    apart[np.isinf(a) != np.isinf(b)] = np.inf
    apart[np.isnan(a) | np.isnan(b)] = np.nan
    return np.asarray(apart, dtype=np.float64)


def _rates(steps: NDArray[np.int64], a: Floats, b: Floats) -> Iterator[str]:
    differs = np.flatnonzero(np.abs(a - b) > 0)
    if len(differs):
        i = differs[0]
        yield f"The learning rate differs at step {steps[i]:,}: {a[i]:.4g} against {b[i]:.4g}."


def _first(parts: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Return step, signal and layer of the first difference of each layer, in order, as indices."""
    found: dict[int, tuple[int, int, int, int]] = {}
    for s, k, f in np.argwhere(parts).tolist():
        found[k] = min(found.get(k, (s, _RANK[f], k, f)), (s, _RANK[f], k, f))
    return [(s, f, k) for s, _, k, f in sorted(found.values())]


def _last(steps: NDArray[np.int64]) -> int | None:
    return int(steps[-1]) if len(steps) else None


# ---- layers ----------------------------------------------------------------------------------------------------------


def _layers(a: Traces, b: Traces) -> tuple[list[tuple[int, int]], list[str]]:
    """Return which layer of the second run each of the first is, as indices, and what there is to say about that.

    By name where layers of the same name are of the same class; else by the order of their classes.
    """
    kinds = dict(zip(b.layers, b.kinds, strict=True))
    shared = [(name, kind) for name, kind in zip(a.layers, a.kinds, strict=True) if name in kinds]
    by_name = bool(shared) and all(kinds[name] == kind for name, kind in shared)
    one, two = (a.layers, b.layers) if by_name else (a.kinds, b.kinds)
    pairs = list(_matched(one, two))
    notes = []
    renamed = [(a.layers[i], b.layers[j]) for i, j in pairs if a.layers[i] != b.layers[j]]
    if renamed:
        name, other = renamed[0]
        notes.append(f"Layers are aligned by their order: {name} of the first run is {other} of the second"
                     f"{f', and {len(renamed) - 1:,} more' if len(renamed) > 1 else ''}.")  # fmt: skip
    for i, j in pairs:
        if a.kinds[i] != b.kinds[j] and a.kinds[i] and b.kinds[j]:
            notes.append(f"{a.layers[i]} is a {a.kinds[i]} in the first run and a {b.kinds[j]} in the second.")
    for which, traces, seen in (("first", a, {i for i, _ in pairs}), ("second", b, {j for _, j in pairs})):
        only = [f"{n} ({k})" if k else n for i, (n, k) in enumerate(zip(traces.layers, traces.kinds, strict=True))
                if i not in seen]  # fmt: skip
        if only:
            cut = f" and {len(only) - 4:,} more" if len(only) > 4 else ""
            notes.append(f"Only the {which} run has {', '.join(only[:4])}{cut}.")
    return pairs, notes


def _matched(a: Sequence[str], b: Sequence[str]) -> Iterator[tuple[int, int]]:
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    for _, i1, i2, j1, j2 in matcher.get_opcodes():
        yield from zip(range(i1, i2), range(j1, j2), strict=False)
