"""Loading a registered version into this process, to predict with it."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from nbops.core.display import Shown
from nbops.core.errors import Conflict, InvalidInput, SignatureMismatch
from nbops.core.records import ModelVersion, Signature
from nbops.models.bundle import materialise
from nbops.models.onnx_files import MODEL_FILE
from nbops.models.references import resolve
from nbops.models.runtimes import OnnxRuntime
from nbops.models.signature import Array, conform, describe
from nbops.store.workspace import workspace


class LoadedModel(Shown):
    """A registered version, ready to predict.

    Attributes
    ----------
    version : ModelVersion
        What was loaded.
    signature : Signature
        What it takes and gives.
    providers : list of str
        Where it runs, in ONNX Runtime's names.
    """

    def __init__(self, version: ModelVersion, runtime: OnnxRuntime) -> None:
        self.version = version
        self.signature: Signature = version.signature
        self.providers = runtime.providers
        self._runtime = runtime
        self._is_closed = False

    def predict(self, x: Any) -> Array | dict[str, Array]:
        """Return the model's answer for rows.

        Parameters
        ----------
        x : array, tensor, data frame, nested list, tuple of these, or dict of these by input name
            The first dimension is the batch. float64 becomes float32 where the model takes float32;
            other casts are made only where they lose nothing.

        Returns
        -------
        array, or dict of arrays by output name where the model has several outputs

        Raises
        ------
        SignatureMismatch
            Names, dtype or shape differ from the signature; the message says expected and got.
        InvalidInput
            The model itself failed on these values.
        Conflict
            The model is closed.
        """
        if self._is_closed:
            raise Conflict(f"{self.version.ref} is closed", hint=f"Load it again: nb.load('{self.version.ref}').")
        try:
            outputs = self._runtime.predict(conform(self.signature, x))
        except (SignatureMismatch, InvalidInput) as error:
            raise type(error)(f"{self.version.ref}: {error.message}", hint=error.hint) from None
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    def memory_bytes(self) -> int:
        """Return an estimate of what the loaded model holds, in bytes."""
        return self._runtime.memory_bytes()

    def close(self) -> None:
        """Release the model; closing twice is nothing."""
        self._is_closed = True
        self._runtime.close()

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        takes = ", ".join(f"{spec.name}: {describe(spec.dtype, spec.shape)}" for spec in self.signature.inputs)
        gives = ", ".join(f"{spec.name}: {describe(spec.dtype, spec.shape)}" for spec in self.signature.outputs)
        return f"LoadedModel({self.version.ref}, {takes} -> {gives}{', closed' if self._is_closed else ''})"


def load(ref: str | ModelVersion, *, threads: int | None = None, providers: list[str] | None = None) -> LoadedModel:
    """Load a registered model.

    Parameters
    ----------
    ref : str or ModelVersion
        ``name`` (the alias ``prod`` where it is set, else the newest), ``name@alias``, ``name/3``.
    threads : int, optional
        Threads within one operator; all cores by default.
    providers : list of str, optional
        ONNX Runtime's execution providers; CUDA where it is usable, else the CPU.

    Returns
    -------
    LoadedModel
        ``.predict(x)``, ``.version``, ``.signature``; also a context manager.

    Raises
    ------
    NotFound
        No such model, alias, number or file.
    CorruptData
        Stored bytes that do not match their digest.
    """
    ws = workspace()
    version = resolve(ws, ref)
    folder = materialise(ws, version.digest)
    return LoadedModel(version, OnnxRuntime(folder / MODEL_FILE, threads=threads, providers=providers))
