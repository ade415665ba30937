"""ONNX Runtime behind the `Runtime` protocol: sessions, providers, threads. Checks of values live in `signature`."""

from __future__ import annotations

import ctypes
import io
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from nbops.core.errors import Conflict, InvalidInput, MissingDependency, NotFound, SignatureMismatch
from nbops.core.records import Signature, TensorSpec
from nbops.models.signature import Array

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TELEMETRY_OFF = "ORT_DISABLE_TELEMETRY"
_DTYPES = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16", "tensor(bool)": "bool",
    "tensor(int8)": "int8", "tensor(int16)": "int16", "tensor(int32)": "int32", "tensor(int64)": "int64",
    "tensor(uint8)": "uint8", "tensor(uint16)": "uint16", "tensor(uint32)": "uint32", "tensor(uint64)": "uint64",
    "tensor(string)": "str",
}  # fmt: skip
_MEMORY_FACTOR = 1.2
_ERRORS_ONLY = 3  # ONNX Runtime's log severities: 2 warning, 3 error, 4 fatal


class OnnxRuntime:
    """One ONNX model in an ONNX Runtime session.

    Parameters
    ----------
    path : Path or bytes
        The ``.onnx`` file, or its bytes.
    threads : int, optional
        Threads within one operator; None takes all cores.
    providers : sequence of str, optional
        Execution providers in order of preference. None takes CUDA where an NVIDIA device and
        its libraries are usable, else the CPU; a provider asked for by name must be usable.
    is_optimised : bool
        Whether ONNX Runtime may rewrite the graph.
    is_spinning : bool
        Whether idle threads poll for work: a little faster in a row of calls, but it burns the
        cores that a notebook shares.

    Raises
    ------
    NotFound
        No such file.
    InvalidInput
        Not a model that ONNX Runtime can load, or a tensor type that NumPy does not have.
    MissingDependency
        A provider that was asked for by name cannot be used here.

    Notes
    -----
    `predict` may be called from several threads at once. TF32 is off on CUDA: it would move float32
    results by about 1e-3.
    """

    def __init__(
        self,
        path: Path | bytes,
        *,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        is_optimised: bool = True,
        is_spinning: bool = False,
    ) -> None:
        if threads is not None and threads < 1:
            raise InvalidInput(f"threads={threads} is not a number of threads", hint="Pass 1 or more, or None for all.")
        if isinstance(path, Path) and not path.is_file():
            raise NotFound(f"no file '{path}'", hint="Check the path of the .onnx file.")
        ort = import_onnxruntime()
        options = ort.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = threads or 0
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if is_spinning else "0")
        if not is_optimised:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        source = path if isinstance(path, bytes) else str(path)
        label = "the model" if isinstance(path, bytes) else path.name
        session = _session(ort, source, options, providers, label)
        self._session: Any = session
        self._errors: tuple[type[Exception], ...] = _errors_of(ort)
        self._size_bytes = _stored_bytes(path)
        self.providers: list[str] = session.get_providers()
        self.signature = Signature(
            inputs=[_spec(node, "input") for node in session.get_inputs()],
            outputs=[_spec(node, "output") for node in session.get_outputs()],
        )
        self._names = [spec.name for spec in self.signature.outputs]

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return output arrays by name; dtypes must be exact, the first dimension is the batch.

        Raises
        ------
        SignatureMismatch
            ONNX Runtime does not take these names, dtypes or shapes.
        InvalidInput
            The model itself failed on these values.
        Conflict
            The runtime is closed.
        """
        if self._session is None:
            raise Conflict("this runtime is closed", hint="Load the model again.")
        try:
            return dict(zip(self._names, self._session.run(self._names, dict(inputs)), strict=True))
        except ValueError as error:  # names that are missing or unknown
            raise SignatureMismatch(f"the model does not take these inputs: {_first_line(error)}") from None
        except self._errors as error:
            text = _first_line(error)
            if type(error).__name__ == "InvalidArgument":
                raise SignatureMismatch(f"the model does not take these inputs: {text}") from None
            raise InvalidInput(
                f"the model failed on these inputs: {text}",
                hint="Check that the model was exported with a dynamic batch and takes these values.",
            ) from None

    def memory_bytes(self) -> int:
        """Return an estimate of what the loaded model holds, in bytes: 1.2 times its files.

        Measured on the CPU as growth of resident memory: 1.1 times the file of a 100 MB dense model,
        1.2 times that of a 77 MB convolutional one. Buffers of running requests come on top.
        """
        return 0 if self._session is None else int(_MEMORY_FACTOR * self._size_bytes)

    def close(self) -> None:
        """Release the session; closing twice is nothing."""
        self._session = None


def import_onnxruntime() -> ModuleType:
    """Return the onnxruntime module, with its telemetry and its chatter switched off.

    From 1.29 on, ONNX Runtime writes a device id and sends usage events to its maker unless the
    environment variable is set before the first import. Set it to 0 yourself to allow that.

    Raises
    ------
    MissingDependency
        It is not installed.
    """
    choice = os.environ.setdefault(TELEMETRY_OFF, "1")
    try:
        import onnxruntime
    except ImportError:
        raise MissingDependency(
            "onnxruntime is not installed",
            hint="Install 'onnxruntime-gpu' on Linux and Windows x86-64, else 'onnxruntime': never both.",
        ) from None
    module: ModuleType = onnxruntime
    if choice != "0":
        module.disable_telemetry_events()  # for a process that had imported it before us
    module.set_default_logger_severity(_ERRORS_ONLY)
    return module


def _errors_of(ort: ModuleType) -> tuple[type[Exception], ...]:
    state = ort.capi.onnxruntime_pybind11_state
    return tuple(e for e in vars(state).values() if isinstance(e, type) and issubclass(e, Exception))


def _session(ort: ModuleType, source: str | bytes, options: Any, wanted: Sequence[str] | None, label: str) -> Any:
    order = list(wanted) if wanted is not None else default_providers()
    unknown = [name for name in order if name not in ort.get_available_providers()]
    if unknown:
        raise MissingDependency(
            f"this onnxruntime has no {unknown[0]}", hint=f"Use one of: {', '.join(ort.get_available_providers())}"
        )
    if CUDA in order:
        ort.set_default_logger_severity(4)  # a failing CUDA start is told by us, not by a page of native log
        with redirect_stdout(io.StringIO()):  # it prints what it does not find
            ort.preload_dlls()
    configured = [(name, {"use_tf32": "0"}) if name == CUDA else name for name in order]
    try:
        session = ort.InferenceSession(source, options, providers=configured)
    except _errors_of(ort) as error:
        raise InvalidInput(
            f"cannot load {label}: {_first_line(error)}", hint="Check that the file is a whole ONNX model."
        ) from None
    finally:
        ort.set_default_logger_severity(_ERRORS_ONLY)
    if wanted and wanted[0] not in session.get_providers():
        raise MissingDependency(
            f"{wanted[0]} cannot be used here", hint="Check the driver and its libraries, or use CPUExecutionProvider."
        )
    return session


def default_providers() -> list[str]:
    """Return the providers to try: CUDA first where an NVIDIA device is visible, then the CPU."""
    has_cuda = CUDA in import_onnxruntime().get_available_providers() and _nvidia_devices() > 0
    return [CUDA, CPU] if has_cuda else [CPU]


def _nvidia_devices() -> int:
    """Return how many NVIDIA devices the driver shows.

    Asked of NVML, which makes no CUDA context: a process that forks later stays usable.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return 0
    name = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
    try:
        nvml = ctypes.CDLL(name)
    except OSError:
        return 0
    if nvml.nvmlInit_v2() != 0:
        return 0
    count = ctypes.c_uint(0)
    nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    nvml.nvmlShutdown()
    return count.value


def _stored_bytes(path: Path | bytes) -> int:
    if isinstance(path, bytes):
        return len(path)
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*") if file.is_file())


def _spec(node: Any, side: str) -> TensorSpec:
    dtype = _DTYPES.get(node.type)
    if dtype is None:
        raise InvalidInput(
            f"{side} '{node.name}' has the type {node.type}, which NumPy cannot hold",
            hint="Cast it to float32 inside the model before exporting.",
        )
    return TensorSpec(name=node.name, dtype=dtype, shape=[s if isinstance(s, int) else -1 for s in node.shape])


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]
