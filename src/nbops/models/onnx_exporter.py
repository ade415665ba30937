"""The exporter for models that are ONNX already: a path, bytes, or a ``ModelProto``. They are copied, not converted."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbops.models.exporters import Rows, bind_by_name, exporter
from nbops.models.onnx_files import MODEL_FILE, check_onnx
from nbops.models.runtimes import CPU, OnnxRuntime
from nbops.models.signature import Array, conform


def _place(model: Any, path: Path) -> None:
    if isinstance(model, bytes | bytearray):
        path.write_bytes(bytes(model))
    elif hasattr(model, "SerializeToString"):
        path.write_bytes(model.SerializeToString())
    else:
        source = Path(model).expanduser()
        for name in check_onnx(source):
            shutil.copyfile(source.with_name(name), path.with_name(name))
        shutil.copyfile(source, path)


def _bind(model: Any, example: Any) -> Rows:
    with tempfile.TemporaryDirectory(prefix="nbops-") as folder:
        path = Path(folder) / MODEL_FILE
        _place(model, path)
        check_onnx(path)
        runtime = OnnxRuntime(path, threads=1, providers=[CPU])
        signature = runtime.signature
        runtime.close()
    rows = bind_by_name([spec.name for spec in signature.inputs], example)
    return conform(signature, rows)


@exporter(
    "onnx",
    handles=("pathlib.Path", "builtins.str", "builtins.bytes", "builtins.bytearray", "onnx.onnx_ml_pb2.ModelProto"),
    bind=_bind,
    predict=None,
)
def copy_onnx(model: Any, rows: Mapping[str, Array], path: Path) -> None:
    """Copy a model that is ONNX already.

    The file is copied, and its external data where it has some, after a check that every external
    path stays in the folder of the model.

    Why it matters
        A model exported elsewhere, by another library or by hand, is registered, loaded and
        served as any other.

    When it is wrong
        There is no original to compare with, so parity says only whether the answers agree
        across batch sizes. Compare with the original by ``nb.parity(model, "file.onnx", rows=x)``.

    Fix
        Export with a dynamic batch dimension; register the original instead where you have it.

    References
        ONNX specification, External Tensor Data.
    """
    _place(model, path)
