"""The exporter for torch modules, and how the original is run beside it. torch loads only inside the functions.

The module is left as it was: training flags, device, hooks and global precision settings are restored.
"""

from __future__ import annotations

import functools
import inspect
import logging
import re
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from nbops.core.errors import InvalidInput
from nbops.models.exporters import Rows, bind_by_name, exporter
from nbops.models.onnx_files import onnx_name
from nbops.models.signature import Array, as_array, describe

SINGLE_FILE_LIMIT_BYTES = 1_900_000_000  # protobuf cannot hold 2 GiB; leave room for the graph
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_NOISY = ("torch", "onnxscript", "onnx_ir")
_PRIVATE_METADATA = "pkg.torch.onnx.stack_trace"  # paths and source lines of whoever exported
_export_lock = threading.Lock()  # neither torch.export nor warnings.catch_warnings may run twice at once


def _bind(model: Any, example: Any) -> Rows:
    rows = bind_by_name(_input_names(model, example), example)
    dtype = _float_dtype(model)
    if dtype == "bfloat16":
        raise InvalidInput(
            "the model's weights are bfloat16, which NumPy inputs cannot match", hint="Register model.float() instead."
        )
    for name, array in rows.items():
        if array.dtype.kind == "f" and dtype and array.dtype != np.dtype(dtype):
            rows[name] = array.astype(dtype)
    return rows


def _float_dtype(model: Any) -> str:
    for parameter in model.parameters():
        if parameter.is_floating_point():
            return str(parameter.dtype).removeprefix("torch.")
    return ""


def _input_names(model: Any, example: Any) -> list[str]:
    names: list[str] = []
    for parameter in inspect.signature(_inner(model).forward).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            count = len(example) if isinstance(example, tuple | Mapping) else 1
            names += [f"{parameter.name}_{i}" for i in range(count - len(names))]
        elif parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            names.append(parameter.name)
    return names


def _call_args(model: Any, tensors: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what `forward` gets: by position as far as there is no gap, then by name."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    has_gap = False
    for parameter in inspect.signature(_inner(model).forward).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            args += [tensors[name] for name in tensors if re.fullmatch(rf"{parameter.name}_\d+", name)]
        elif parameter.name in tensors:
            by_name = has_gap or parameter.kind is inspect.Parameter.KEYWORD_ONLY
            if by_name:
                kwargs[parameter.name] = tensors[parameter.name]
            else:
                args.append(tensors[parameter.name])
        else:
            has_gap = True
    return tuple(args), kwargs


def _inner(model: Any) -> Any:
    """Return the module inside ``torch.compile`` and ``DataParallel`` wrappers."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__ in ("DataParallel", "DistributedDataParallel"):
            inner = model.module
        if inner is None:
            return model
        model = inner


def _is_ours(hook: Any) -> bool:
    while isinstance(hook, functools.partial):
        hook = hook.func
    module = getattr(getattr(hook, "__func__", hook), "__module__", None) or type(hook).__module__
    return str(module).startswith("nbops.")


@contextmanager
def _undisturbed(model: Any) -> Iterator[None]:
    """Evaluate `model` within the block: eval mode, no gradients, none of nbops' own hooks; then restore all of it.

    Hooks of other libraries stay, because some compute weights (weight and spectral normalisation).
    """
    import torch

    modules = list(model.modules())
    training = [module.training for module in modules]
    hooks = [(module, name, dict(getattr(module, name))) for module in modules for name in _HOOKS]
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        if any(parameter.is_cuda for parameter in model.parameters()):
            stack.enter_context(_without_tf32())
        try:
            model.eval()
            for module, name, own in hooks:
                for key in [key for key, hook in own.items() if _is_ours(hook)]:
                    del getattr(module, name)[key]
            yield
        finally:
            for module, name, own in hooks:
                now = getattr(module, name)
                added = dict(now)
                now.clear()
                now.update({**own, **added})
            for module, flag in zip(modules, training, strict=True):
                module.training = flag


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Full float32 on CUDA: TF32 would move the original's answers by about 1e-3."""
    import torch

    backends: Any = torch.backends
    places = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "ieee"
        yield
    finally:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision


def _tensors(model: Any, rows: Mapping[str, Array]) -> dict[str, Any]:
    import torch

    first = next(iter([*model.parameters(), *model.buffers()]), None)
    device = "cpu" if first is None else first.device
    return {name: torch.from_numpy(np.array(array)).to(device) for name, array in rows.items()}


def _flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Return the tensors of an output by name: dict keys, fields or positions joined with ``_``; None is skipped."""
    if value is None:
        return {}
    if hasattr(value, "detach"):
        return {name or "output": value}
    if isinstance(value, Mapping):
        parts = {str(key): part for key, part in value.items()}
    elif isinstance(value, tuple | list):
        fields = getattr(value, "_fields", None) or [str(i) for i in range(len(value))]
        parts = dict(zip(fields, value, strict=True))
    else:
        raise InvalidInput(
            f"the model gives a {type(value).__name__}, which ONNX cannot hold",
            hint="Return a tensor, or a tuple or dict of tensors, from forward.",
        )
    found: dict[str, Any] = {}
    for key, part in parts.items():
        label = f"{name}_{key}" if name else f"output_{key}" if key.isdecimal() else key
        found.update(_flatten(part, onnx_name(label)))
    return found


def _outputs(model: Any, rows: Mapping[str, Array]) -> dict[str, Any]:
    """Return the tensors that `model` gives; a name that is also an input's gets ``_out``, as ONNX needs."""
    args, kwargs = _call_args(model, _tensors(model, rows))
    try:
        answer = model(*args, **kwargs)
    except Exception as error:  # forward is the user's code, so it may raise anything
        shapes = ", ".join(f"{name} {describe(str(a.dtype), a.shape)}" for name, a in rows.items())
        raise InvalidInput(
            f"{type(model).__name__} itself fails on {shapes}: {_reason(error)}",
            hint="Give example rows that the model takes; it must take any number of rows.",
        ) from error
    found = _flatten(answer)
    return {f"{name}_out" if name in rows else name: tensor for name, tensor in found.items()}


def predict_torch(model: Any, rows: Mapping[str, Array]) -> Rows:
    """Return what the torch module gives for `rows` in eval mode, as arrays by output name.

    Raises
    ------
    InvalidInput
        The module itself fails on these rows, or gives what ONNX cannot hold.
    """
    inner = _inner(model)
    with _undisturbed(inner):
        return {name: as_array(tensor) for name, tensor in _outputs(inner, rows).items()}


@exporter("torch", handles=("torch.nn.modules.module.Module",), bind=_bind, predict=predict_torch)
def export_torch(
    model: Any, rows: Mapping[str, Array], path: Path, *, single_file_limit_bytes: int = SINGLE_FILE_LIMIT_BYTES
) -> None:
    """Export a torch module with a dynamic batch dimension.

    Runs ``torch.onnx.export(dynamo=True)`` on at least two rows in eval mode, with the first
    dimension of every input dynamic. Inputs carry the names of forward's parameters, outputs the
    keys or fields that forward returns. Source paths are stripped from the file.

    Why it matters
        A dimension of size 1 in the example would be frozen, and the model would then answer
        only requests of that size.

    When it is wrong
        Control flow that depends on values cannot be traced. Sizes read as numbers
        (``x.reshape(2, 3)``) are frozen silently: parity at batch sizes 1, 2 and all shows it.

    Fix
        Write ``x.shape[0]`` or ``-1`` instead of a number, ``torch.where`` or ``torch.cond`` instead of
        ``if`` on values; or export yourself and register the file.

    References
        torch.onnx.export, torch.export.Dim.
    """
    import torch

    inner = _inner(model)
    batch = torch.export.Dim("batch", min=1)
    with _export_lock, _quiet(), _undisturbed(inner):
        args, kwargs = _call_args(inner, _tensors(inner, rows))
        outputs = list(_outputs(inner, rows))
        try:
            program: Any = torch.onnx.export(
                inner,
                args,
                kwargs=kwargs,
                dynamo=True,
                verbose=False,
                input_names=list(rows),
                output_names=outputs,
                dynamic_shapes=_dynamic(inner, args, kwargs, {0: batch}),
            )
        except Exception as error:
            raise InvalidInput(
                f"torch cannot export this {type(inner).__name__}: {_reason(error)}",
                hint="Replace branches on values and fixed sizes in forward; or export it yourself, register the file.",
            ) from error
        for node in program.model.graph:
            node.metadata_props.pop(_PRIVATE_METADATA, None)
        size = sum(tensor.numel() * tensor.element_size() for tensor in (*inner.parameters(), *inner.buffers()))
        program.save(path, external_data=size > single_file_limit_bytes)


def _dynamic(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], batch: dict[int, Any]) -> Any:
    """Return the dynamic shapes in the nesting of forward's parameters."""
    shapes: dict[str, Any] = {name: dict(batch) for name in kwargs}
    rest = [dict(batch) for _ in args]
    for parameter in inspect.signature(model.forward).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            shapes[parameter.name], rest = tuple(rest), []
        elif rest and parameter.name not in kwargs:
            shapes[parameter.name] = rest.pop(0)
    return shapes


def _reason(error: BaseException) -> str:
    """Return the first telling line of the innermost cause, without terminal colours."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in re.sub(r"\x1b\[\d+m", "", str(error)).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


class _Muted:
    """A stream that drops what this thread prints and passes on what others print meanwhile."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() == self._thread:
            return len(text)
        return int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's own warnings and logs out of the cell; what matters is raised."""
    names = [n for n in list(logging.root.manager.loggerDict) if n.startswith(tuple(f"{noisy}." for noisy in _NOISY))]
    loggers = [logging.getLogger(name) for name in (*_NOISY, *names)]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL + 1)
            with redirect_stdout(_Muted(sys.stdout)), redirect_stderr(_Muted(sys.stderr)):
                yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
