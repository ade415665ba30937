"""A few numbers of each layer over the steps of a watched training, as one file: what `nb.diff` lays side by side.

Whoever watches writes it (`debugging`), whoever compares reads it (`tracking`).
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nbops.core.errors import CorruptData

MEDIA_TYPE = "application/vnd.nbops.traces+zip"
FOLDER = "watch/"  # of the file's name among the artifacts of a run

# In the order in which they come about within a step: what a layer puts out, its gradient, its weights before the
# step, and how far the step moved them.
SIGNALS = ("activation_rms", "activation_mean", "grad_norm", "weight_norm", "update_ratio")


@dataclass(frozen=True, eq=False)
class Traces:
    """The numbers of one watch in one run.

    Attributes
    ----------
    name : str
        Of the watch.
    layers, kinds : tuple of str
        In forward order; a layer's kind is the class of its module.
    steps : int64 [steps]
        Ascending; not every step is kept.
    values : float64 [steps, layers, signals]
        In the order of `SIGNALS`; NaN where it was not measured, infinity where it was not finite.
    rates : float64 [steps]
        Learning rate of the optimizer that stepped, of its first group; NaN where it is not known.
    """

    name: str
    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    rates: NDArray[np.float64]


def pack(traces: Traces) -> bytes:
    """Return the bytes of a file; the same numbers give the same bytes."""
    stream = io.BytesIO()
    np.savez_compressed(
        stream, name=np.array(traces.name), layers=np.array(traces.layers, dtype=np.str_),
        kinds=np.array(traces.kinds, dtype=np.str_), steps=traces.steps, values=traces.values,
        rates=traces.rates, signals=np.array(SIGNALS),
    )  # fmt: skip
    return stream.getvalue()


def unpack(data: bytes) -> Traces:
    """Return what a file holds; signals that this version does not know are left out.

    Raises
    ------
    CorruptData
        It is no such file.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            layers, kinds, steps = found["layers"], found["kinds"], found["steps"].astype(np.int64)
            known = [str(signal) for signal in found["signals"]]
            stored = found["values"].reshape(len(steps), len(layers), len(known))
            values = np.full((len(steps), len(layers), len(SIGNALS)), np.nan)
            for i, signal in enumerate(SIGNALS):
                if signal in known:
                    values[:, :, i] = stored[:, :, known.index(signal)]
            names = tuple(map(str, layers)), tuple(map(str, kinds))
            return Traces(str(found["name"]), *names, steps, values, found["rates"].reshape(len(steps)))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CorruptData(f"the traces of a watch cannot be read: {error}", hint="Run it again.") from None
