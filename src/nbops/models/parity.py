"""Parity: whether an exported model computes what its original computes, on real rows and at several batch sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from nbops.core.display import Shown
from nbops.core.errors import InvalidInput, NbopsError
from nbops.core.records import ModelVersion, Verdict
from nbops.models.bundle import materialise
from nbops.models.exporters import Rows, check_rows, exporter_for
from nbops.models.onnx_files import MODEL_FILE, check_onnx
from nbops.models.references import resolve
from nbops.models.runtimes import CPU, OnnxRuntime
from nbops.models.signature import Array, conform
from nbops.store.workspace import workspace

# Largest difference allowed, as a share of the output's scale, by dtype of the original's output.
TOLERANCE = {"float64": 1e-8, "float32": 1e-4, "float16": 1e-2}
_FLOOR = 1e-3  # no scale is taken to be smaller: below it, float32 differs by rounding inside the model
_COLUMN_SHARE = 1e-2  # a column's scale is at least this share of the whole output's
_COLUMN_ROWS = 8  # fewer rows say too little about the scale of one column
_SPREAD = 4  # rows that are tried alone and in pairs

Predict = Callable[[Mapping[str, Array]], Rows]


class Mismatch(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """The worst place of a comparison: which output, row and element, and what stood there."""

    output: str
    row: int
    index: list[int]
    batch: int
    expected: str
    got: str
    reason: str = ""


class OutputParity(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one output over every batch that was compared.

    max_abs : largest absolute difference
    max_rel : largest difference as a share of the larger of the expected value and the output's scale
    argmax_changed_share : share of rows whose largest column is another one; None where there are no columns
    """

    name: str
    dtype: str
    max_abs: float
    max_rel: float
    tolerance: float
    argmax_changed_share: float | None = None


class ParityReport(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """What `nb.parity` found.

    verdict : pass; warn (within tolerance, but some row's argmax changed); fail; skipped (there is no
        original, the rows only agree across batch sizes)
    batches : sizes at which both were run
    """

    verdict: Verdict
    original: str
    rows: int
    batches: list[int]
    outputs: list[OutputParity]
    worst: Mismatch | None = None

    @property
    def passed(self) -> bool:
        """True when nothing differs by more than the tolerance."""
        return self.verdict.severity < Verdict.FAIL.severity

    @property
    def message(self) -> str:
        """One line: what differs, or how closely it agrees."""
        if self.worst is not None:
            w = self.worst
            place = f"output '{w.output}' row {w.row}" + (f" {w.index}" if w.index else "")
            difference = f": expected {w.expected}, got {w.got}" if w.expected or w.got else ""
            return f"{place} at batch size {w.batch}{difference}{f' ({w.reason})' if w.reason else ''}"
        closest = max((o.max_rel for o in self.outputs), default=0.0)
        sizes = ", ".join(map(str, self.batches))
        beside = f"equal to the {self.original} model" if self.original else "equal across batch sizes (no original)"
        return f"{beside} within {closest:.1e} of scale on {self.rows} rows at batch sizes {sizes}"


def parity(
    model: Any, artifact: Path | str | bytes | ModelVersion, *, rows: Any, tolerance: float | None = None
) -> ParityReport:
    """Compare a model with an exported one on real rows, and return the figures.

    Parameters
    ----------
    model : torch module, or whatever an exporter takes
        The original; it runs in eval mode, and its mode is restored.
    artifact : path or bytes of an ONNX model, a reference (``name@alias``), or a ModelVersion
        The exported model.
    rows : array, tensor, tuple of these, or dict of these by input name
        Real inputs, first dimension the batch. All of them are run as one batch, and a few
        spread over them alone and in pairs, which shows a frozen batch dimension.
    tolerance : float, optional
        Largest difference as a share of the output's scale; by default 1e-4 for float32, 1e-2 for
        float16, 1e-8 for float64. Integers, booleans and text must be equal.

    Returns
    -------
    ParityReport
        ``.passed``, ``.verdict``, ``.outputs`` with figures, ``.worst`` with the worst place.

    Raises
    ------
    InvalidInput
        The rows do not fit the model, or the artifact is not an ONNX model.
    NotFound
        No such file or model.

    Notes
    -----
    The scale of an output is the root mean square of its expected values: by column for a
    two-dimensional output of at least 8 rows, over all of it otherwise (so a small output beside a large one is not
    drowned, and a value near zero asks no digits that float32 does not have). The tolerances
    follow what Polygraphy and ONNX Runtime's own tests take, made relative to scale.
    """
    leaf = exporter_for(model)
    arrays = leaf.bind(model, rows)
    path = _path_of(artifact)
    if isinstance(path, Path):
        check_onnx(path)
    runtime = OnnxRuntime(path, providers=[CPU])
    try:
        original = leaf.predict
        predict = None if original is None else lambda batch: original(model, batch)
        return compare(predict, runtime, arrays, tolerance=tolerance, original=leaf.name if predict else "")
    finally:
        runtime.close()


def _path_of(artifact: Path | str | bytes | ModelVersion) -> Path | bytes:
    if isinstance(artifact, bytes | Path):
        return artifact
    if isinstance(artifact, str) and (artifact.endswith(".onnx") or Path(artifact).is_file()):
        return Path(artifact)
    ws = workspace()
    return materialise(ws, resolve(ws, artifact).digest) / MODEL_FILE


def compare(
    predict: Predict | None, runtime: OnnxRuntime, rows: Rows, *, tolerance: float | None = None, original: str = ""
) -> ParityReport:
    """Return the report on a loaded runtime beside `predict`, or beside itself in one batch when that is None."""
    if tolerance is not None and not 0 <= tolerance < np.inf:
        raise InvalidInput(f"tolerance={tolerance} is no share of scale", hint="Pass a number such as 1e-4.")
    count = check_rows(rows)
    found: dict[str, _Tally] = {}
    worst: tuple[float, Mismatch] | None = None
    sizes: list[int] = []
    whole: Rows | None = None
    for chosen in _batches(count):
        batch = {name: np.ascontiguousarray(array[chosen]) for name, array in rows.items()}
        if len(chosen) not in sizes:
            sizes.append(len(chosen))
        try:
            got = runtime.predict(_feed(runtime, batch))
        except NbopsError as error:
            failure = Mismatch(
                output=runtime.signature.outputs[0].name, row=int(chosen[0]), index=[], batch=len(chosen),
                expected="", got="", reason=f"the exported model fails: {error.message}",
            )  # fmt: skip
            return _report(found, (np.inf, failure), original, count, sizes)
        if predict is not None:
            expected = predict(batch)
        else:
            whole = whole if whole is not None else got
            expected = {name: a[chosen] if a.ndim and a.shape[0] == count else got[name] for name, a in whole.items()}
        for mismatch in _outputs(found, expected, got, chosen, tolerance):
            if worst is None or mismatch[0] > worst[0]:
                worst = mismatch
    if worst is not None and predict is not None:
        worst = worst[0], _explained(worst[1], predict, rows)
    return _report(found, worst, original, count, sizes)


def _feed(runtime: OnnxRuntime, batch: Rows) -> Rows:
    """Return `batch` as the exported model takes it; inputs that bear other names there go by position."""
    names = [spec.name for spec in runtime.signature.inputs]
    if set(names) != set(batch) and len(names) == len(batch):
        batch = dict(zip(names, batch.values(), strict=True))
    return conform(runtime.signature, batch)


def _batches(count: int) -> Iterator[Array]:
    yield np.arange(count)
    spread = np.unique(np.linspace(0, count - 1, _SPREAD).astype(int))
    for row in spread if count > 1 else ():
        yield np.array([row])
    for row in spread[:2]:
        yield np.array([row, (row + 1) % count])


class _Tally:
    """Figures of one output while batches come in."""

    def __init__(self, name: str, dtype: str, tolerance: float, scale: Array) -> None:
        self.name, self.dtype, self.tolerance, self.scale = name, dtype, tolerance, scale
        self.max_abs = self.max_rel = 0.0
        self.changed: float | None = None


def _outputs(
    found: dict[str, _Tally], expected: Rows, got: Rows, chosen: Array, tolerance: float | None
) -> Iterator[tuple[float, Mismatch]]:
    pairs = list(zip(expected, got, strict=False)) if set(expected) != set(got) else [(name, name) for name in expected]
    if len(expected) != len(got):
        reason = f"the original gives {len(expected)} outputs, the exported model {len(got)}"
        name = next(iter(got), "")
        yield np.inf, Mismatch(output=name, row=0, index=[], batch=len(chosen), expected="", got="", reason=reason)
    for theirs, ours in pairs:
        a, b = expected[theirs], got[ours]
        if a.shape != b.shape:
            yield np.inf, Mismatch(
                output=ours, row=int(chosen[0]), index=[], batch=len(chosen),
                expected=f"shape {list(a.shape)}", got=f"shape {list(b.shape)}",
            )  # fmt: skip
            continue
        if ours not in found:  # the first batch holds every row, so its scale stands for all
            limit = 0.0 if a.dtype.kind != "f" else TOLERANCE[str(a.dtype)] if tolerance is None else tolerance
            found[ours] = _Tally(ours, str(a.dtype), limit, _scale(a))
        yield from _differences(found[ours], a, b, chosen)


def _scale(expected: Array) -> Array:
    if expected.dtype.kind != "f":
        return np.ones(1)
    values = np.where(np.isfinite(expected), expected, 0).astype(np.float64)
    overall = float(np.sqrt(np.mean(values**2))) if values.size else 0.0
    least = max(_COLUMN_SHARE * overall, _FLOOR)
    if expected.ndim == 2 and expected.shape[0] >= _COLUMN_ROWS:
        columns: Array = np.sqrt(np.mean(values**2, axis=0))
        return np.maximum(columns, least)
    return np.array([max(overall, least)])


def _differences(tally: _Tally, a: Array, b: Array, chosen: Array) -> Iterator[tuple[float, Mismatch]]:
    a, b = np.atleast_1d(a), np.atleast_1d(b)
    if a.dtype.kind in "OUS" or b.dtype.kind in "OUS":
        difference = (a != b).astype(np.float64)
        relative = difference
    else:
        x, y = a.astype(np.float64), b.astype(np.float64)
        is_same = (x == y) | (np.isnan(x) & np.isnan(y))
        with np.errstate(invalid="ignore", over="ignore"):
            difference = np.where(is_same, 0.0, np.abs(x - y))
            relative = difference / np.maximum(np.where(np.isfinite(x), np.abs(x), 0.0), tally.scale)
        relative = np.where(np.isnan(relative), np.inf, relative)
        difference = np.where(np.isnan(difference), np.inf, difference)
    if not relative.size:
        return
    tally.max_abs = max(tally.max_abs, float(difference.max()))
    tally.max_rel = max(tally.max_rel, float(relative.max()))
    if tally.changed is None and a.ndim == 2 and a.shape[1] > 1 and a.dtype.kind == "f":
        tally.changed = float(np.mean(a.argmax(axis=1) != b.argmax(axis=1)))  # the first batch holds every row
    at = np.unravel_index(int(relative.argmax()), relative.shape)
    if relative[at] > tally.tolerance:
        row = int(chosen[at[0]]) if at and a.shape[0] == len(chosen) else 0
        yield float(relative[at]), Mismatch(
            output=tally.name, row=row, index=[int(i) for i in at], batch=len(chosen),
            expected=_text(a[at]), got=_text(b[at]),
            reason=f"differs by {_text(relative[at])} of scale, allowed {tally.tolerance:g}",
        )  # fmt: skip


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)


def _explained(worst: Mismatch, predict: Predict, rows: Rows) -> Mismatch:
    """Say so when the original is to blame: it does not agree with itself."""
    batch = {name: np.ascontiguousarray(array[:8]) for name, array in rows.items()}
    first, second = predict(batch), predict(batch)
    if all(np.array_equal(first[name], second[name], equal_nan=first[name].dtype.kind == "f") for name in first):
        return worst
    return msgspec.structs.replace(worst, reason="the original gives other answers for the same rows each time")


def _report(
    found: dict[str, _Tally], worst: tuple[float, Mismatch] | None, original: str, rows: int, sizes: list[int]
) -> ParityReport:
    outputs = [
        OutputParity(
            name=t.name, dtype=t.dtype, max_abs=t.max_abs, max_rel=t.max_rel, tolerance=t.tolerance,
            argmax_changed_share=t.changed,
        )
        for t in found.values()
    ]  # fmt: skip
    if worst is not None:
        verdict = Verdict.FAIL
    elif not original:
        verdict = Verdict.SKIPPED
    else:
        verdict = Verdict.WARN if any(t.changed for t in found.values()) else Verdict.PASS
    return ParityReport(
        verdict=verdict, original=original, rows=rows, batches=sizes, outputs=outputs,
        worst=None if worst is None else worst[1],
    )  # fmt: skip
