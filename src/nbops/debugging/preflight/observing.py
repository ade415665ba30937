"""What operations a pass calls, in which layer and on which line: a mode of torch that sees each call of its functions.

Nothing is judged here. Tensors carry a tag with the last operation that made their values, so that a loss knows
whether it was given logits or probabilities.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.overrides import TorchFunctionMode

from nbops.debugging.places import Place, place_of_call
from nbops.debugging.preflight.strictness import REFUSED, refusal
from nbops.debugging.preflight.twins import is_lazy
from nbops.debugging.specs import shape_of, spec

_TAG = "_nbops_tag"
_SHADOWED = 1_000_000  # values of an index tensor that are computed beside their fake

# operations that only look at the same values in another shape, order or type
SAME_VALUES = frozenset({
    "view", "reshape", "flatten", "unflatten", "squeeze", "squeeze_", "unsqueeze", "unsqueeze_", "transpose", "permute",
    "t", "contiguous", "clone", "to", "float", "double", "half", "bfloat16", "long", "int", "type", "type_as", "cpu",
    "cuda", "expand", "movedim", "swapaxes", "narrow", "select", "__getitem__", "view_as", "reshape_as", "identity",
    "dropout", "T", "mT", "detach", "data", "requires_grad_", "chunk", "split", "unbind", "masked_select", "flip",
})  # fmt: skip
_CASTS = frozenset({"float", "double", "half", "bfloat16", "long", "int", "to", "type", "type_as"})
_ELEMENTWISE = frozenset({"add", "sub", "mul", "truediv", "div", "__radd__", "__rsub__", "__rmul__", "rsub"})
CUTS = frozenset({
    "detach", "detach_", "data", "item", "tolist", "numpy", "__array__", "argmax", "argmin", "round", "sign", "floor",
    "ceil", "long", "int", "bool", "__bool__", "__float__", "__int__", "tensor", "as_tensor", "eq",
    "gt", "lt", "ge", "le",
})  # fmt: skip
RANDOM = frozenset({
    "rand", "randn", "rand_like", "randn_like", "randint", "randint_like", "randperm", "bernoulli", "multinomial",
    "normal", "poisson", "uniform_", "normal_", "bernoulli_", "random_", "exponential_", "cauchy_", "gumbel_softmax",
})  # fmt: skip
DROPOUTS = frozenset({
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout",
    "scaled_dot_product_attention",
})  # fmt: skip
LOSSES = frozenset({
    "cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss", "l1_loss",
    "smooth_l1_loss", "huber_loss", "kl_div", "poisson_nll_loss", "gaussian_nll_loss", "hinge_embedding_loss",
    "soft_margin_loss", "margin_ranking_loss", "cosine_embedding_loss", "triplet_margin_loss", "multi_margin_loss",
    "multilabel_margin_loss", "multilabel_soft_margin_loss", "ctc_loss",
})  # fmt: skip


@dataclass(slots=True)
class Tag:
    """Where a tensor's values come from: operation, its dim, its layer; whether it is the batch's input or target."""

    op: str = ""
    dim: int | None = None
    layer: str = ""
    role: str = ""
    real: Tensor | None = None  # the values, of an index tensor in a fake pass


@dataclass(frozen=True, slots=True)
class Event:
    """One call worth remembering: ``cut``, ``in-place``, ``softmax``, ``random``, ``dropout``, ``index`` and others."""

    kind: str
    name: str
    layer: str
    place: Place | None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LossCall:
    """One call of a loss function of torch, with what it was given (cut from the graph)."""

    name: str
    layer: str
    place: Place | None
    input: Tensor
    target: Tensor | None
    input_tag: Tag
    target_tag: Tag
    input_has_grad: bool
    target_has_grad: bool
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class FailedCall:
    """The operation that raised, and its arguments."""

    name: str
    layer: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    error: BaseException

    def shapes(self) -> str:
        """Return the arguments in short: ``(float32 [2, 3], int 7)``."""
        parts = [spec(arg, depth=1) for arg in self.args]
        return f"({', '.join([*parts, *(f'{k}={spec(v, depth=1)}' for k, v in self.kwargs.items())])})"


def tag_of(tensor: Any) -> Tag:
    """Return a tensor's tag; an empty one if it has none."""
    return getattr(tensor, _TAG, None) or Tag()


def put_tag(tensor: Tensor, tag: Tag) -> None:
    """Give a tensor a tag."""
    setattr(tensor, _TAG, tag)


class Observer(TorchFunctionMode):
    """Sees each call of a torch function within its block.

    Attributes
    ----------
    layers : list of str
        Paths of the modules whose forward is running, outermost first; kept by the hooks of the pass.
    is_training : list of bool
        Whether each of those is in training mode.
    batch_size : int
        Samples of the batch, 0 if that is not known.
    is_strict : bool
        Whether to raise what fake tensors let pass and real ones do not.
    outside : str
        What runs when no module does: ``loss`` while the loss is computed.
    runner : str
        The file that runs the pass; lines of the user beyond it do not count.
    rewrite : callable or None
        Called with name, args and kwargs of each call; what it returns replaces them.
    """

    def __init__(self, *, batch_size: int = 0, is_strict: bool = False) -> None:
        super().__init__()
        self.is_strict = is_strict
        self.layers: list[str] = []
        self.outside = ""
        self.runner = ""
        self.is_training: list[bool] = []
        self.batch_size = batch_size
        self.rewrite: Callable[[str, tuple[Any, ...], dict[str, Any]], Any] | None = None
        self.events: list[Event] = []
        self.losses: list[LossCall] = []
        self.failed: FailedCall | None = None
        self.macs = 0  # multiplications and additions of the forward pass, roughly

    @property
    def layer(self) -> str:
        """Path of the innermost module that runs; ``loss`` in a loss of the user's own."""
        return self.layers[-1] if self.layers else self.outside

    def _place(self) -> Place | None:
        return place_of_call(within=self.runner)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "__get__":
            name = getattr(func.__self__, "__name__", "")
            if name not in ("data", "T", "mT") or is_lazy(args[0]):
                return func(*args, **kwargs)
        if self.rewrite is not None:
            changed = self.rewrite(name, args, kwargs)
            if changed is not None:
                func, args, kwargs = changed
        self._before(name, func, args, kwargs)
        try:
            out = func(*args, **kwargs)
            if self.is_strict:
                self._refuse(name, func, args, kwargs)
        except Exception as error:
            self.failed = FailedCall(name, self.layer, tuple(args), dict(kwargs), error)
            raise
        if isinstance(out, Tensor):
            self._after(name, args, kwargs, out)
        elif isinstance(out, tuple | list):
            for part in out:
                if isinstance(part, Tensor):
                    self._after(name, args, kwargs, part)
        return out

    # -- before a call ---------------------------------------------------------------------------------------------

    def _before(self, name: str, func: Any, args: Any, kwargs: Any) -> None:
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if name in CUTS and first is not None and first.requires_grad:
            self._note("cut", name, shape=shape_of(first))
        elif name in ("tensor", "as_tensor") and _has_grad(args[0] if args else None):
            self._note("cut", name)
        elif name in LOSSES:
            self._note_loss(name, func, args, kwargs)
        elif name in RANDOM:
            self._note("random", name)
        if first is not None and _is_in_place(name):
            made_by = first.grad_fn.name() if first.grad_fn is not None else ""
            details = {"shape": shape_of(first), "grad_fn": made_by, "requires_grad": first.requires_grad}
            self._note("in-place", name, **details)
        if name in DROPOUTS and self.is_training and not self.is_training[-1]:
            settings = _bound(func, args, kwargs)
            p = settings.get("p", settings.get("dropout_p", 0.0))
            if settings.get("training", True) and isinstance(p, float | int) and p > 0:
                self._note("dropout", name, p=float(p))

    def _note(self, kind: str, name: str, **details: Any) -> None:
        self.events.append(Event(kind, name, self.layer, self._place(), details))

    def _note_loss(self, name: str, func: Any, args: Any, kwargs: Any) -> None:
        settings = _bound(func, args, kwargs)
        given = [value for value in settings.values() if isinstance(value, Tensor)]
        target = settings.get("target")
        if not given:
            return
        if not isinstance(target, Tensor):
            target = None
        self.losses.append(LossCall(
            name, self.layer, self._place(), given[0].detach(), None if target is None else target.detach(),
            tag_of(given[0]), tag_of(target), given[0].requires_grad, target is not None and target.requires_grad,
            {key: value for key, value in settings.items() if key not in ("input", "target")},
        ))  # fmt: skip

    def _refuse(self, name: str, func: Any, args: Any, kwargs: Any) -> None:
        if name not in REFUSED and not name.startswith("conv"):
            return
        settings = _bound(func, args, kwargs)
        index = settings.get("target" if name in LOSSES else "input")
        values = tag_of(index).real if isinstance(index, Tensor) and not index.is_floating_point() else None
        with unset_fake_temporarily():  # the index has values
            error = refusal(name, settings, args, index=values)
        if error is not None:
            raise error

    # -- after a call ----------------------------------------------------------------------------------------------

    def _after(self, name: str, args: Any, kwargs: Any, out: Tensor) -> None:
        first = next((a for a in args if isinstance(a, Tensor)), None)
        if first is None:
            first = next((a for a in _flat(args) if isinstance(a, Tensor)), None)
        before = tag_of(first)
        if name in SAME_VALUES:
            tag = replace(before, real=None)
        else:
            dim = _dim_of(args, kwargs, out) if "softmax" in name else None
            tag = Tag(name.rstrip("_") or name, dim, self.layer)
        if before.real is not None and not out.is_floating_point():
            tag.real = self._shadow(name, args, kwargs)
        put_tag(out, tag)
        self._count(name, args, out)
        if "softmax" in name and first is not None and first.ndim:
            dim = tag.dim
            is_implicit = kwargs.get("dim") is None and not any(isinstance(a, int) for a in args[1:2])
            size = 1 if dim is None else int(out.shape[dim])
            details = {"dim": dim, "size": size, "shape": shape_of(out), "implicit": is_implicit, "before": before.op}
            self._note("softmax", name, **details)
        if self.batch_size and first is not None and name in SAME_VALUES and first.ndim and out.ndim:
            was, now = int(first.shape[0]), int(out.shape[0])
            if was == self.batch_size and now != was and name in ("view", "reshape", "flatten"):
                self._note("batch-change", name, before=shape_of(first), after=shape_of(out))
        if name in _ELEMENTWISE:
            self._note_broadcast(name, args, out)
        is_cut = not torch.is_grad_enabled() and first is not None and name not in SAME_VALUES
        if is_cut and not any(e.kind == "no-grad" and e.layer == self.layer for e in self.events):
            self._note("no-grad", name)

    def _note_broadcast(self, name: str, args: Any, out: Tensor) -> None:
        """Remember where a target was blown up against a prediction: (N, 1) with (N,) gives (N, N)."""
        two = [a for a in args[:2] if isinstance(a, Tensor)]
        if len(two) == 2 and {tag_of(a).role for a in two} == {"", "target"}:
            shapes = [shape_of(a) for a in two]
            if shapes[0] != shapes[1] and all(shape_of(out) != s for s in shapes):
                self._note("broadcast", name, shapes=shapes, out=shape_of(out))

    def _shadow(self, name: str, args: Any, kwargs: Any) -> Tensor | None:
        """Return the values of an index tensor, computed from the values of those that it is made of."""
        try:
            real_args = [_real(a) for a in args]
            real_kwargs = {k: _real(v) for k, v in kwargs.items()}
            with torch.no_grad(), torch._C.DisableTorchFunction(), unset_fake_temporarily():
                found = getattr(real_args[0], name)(*real_args[1:], **real_kwargs)
        except Exception:  # not all values are known, or the operation has another spelling: no shadow
            return None
        return found if isinstance(found, Tensor) and found.numel() <= _SHADOWED else None

    def _count(self, name: str, args: Any, out: Tensor) -> None:
        shapes = [shape_of(a) for a in args[:3] if isinstance(a, Tensor)]
        if name == "linear" or name in ("matmul", "mm", "bmm", "__matmul__", "addmm", "baddbmm"):
            inner = shapes[0][-1] if shapes and shapes[0] else 1
            self.macs += out.numel() * inner
        elif name.startswith("conv") and len(shapes) > 1:
            self.macs += out.numel() * math.prod(shapes[1][1:])
        elif name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
            self.macs += sum(p.numel() for a in args for p in (a if isinstance(a, list) else [])
                             if isinstance(p, Tensor)) * max(1, math.prod(shapes[0][:2]))  # fmt: skip
        elif name in ("scaled_dot_product_attention", "multi_head_attention_forward") and shapes:
            length, width = shapes[0][-2], shapes[0][-1]
            self.macs += math.prod(shapes[0]) * (2 * length + 4 * width)


def _real(value: Any) -> Any:
    if isinstance(value, Tensor):
        found = tag_of(value).real
        if found is None:
            raise LookupError("no values")
        return found
    if isinstance(value, list | tuple):
        return type(value)(map(_real, value))
    return value


def _flat(args: Any) -> list[Any]:
    return [item for a in args for item in (a if isinstance(a, list | tuple) else [a])]


def _has_grad(value: Any) -> bool:
    return any(isinstance(v, Tensor) and v.requires_grad for v in (value if isinstance(value, list) else [value]))


def _is_in_place(name: str) -> bool:
    if name.startswith("__"):
        return name == "__setitem__" or (name.startswith("__i") and name not in ("__int__", "__invert__", "__index__"))
    return name.endswith("_") and name not in ("requires_grad_", "detach_")


def _dim_of(args: Any, kwargs: Any, out: Tensor) -> int | None:
    dim = kwargs.get("dim")
    if dim is None:
        dim = next((a for a in args[1:2] if isinstance(a, int)), None)
    if dim is None:  # the old implicit choice of torch
        dim = 0 if out.ndim in (0, 1, 3) else 1
    return int(dim) % out.ndim if out.ndim else None


@cache
def _signature(func: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(func)
    except (ValueError, TypeError):  # made in C
        return None


def _bound(func: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """Return the arguments of a call by name, defaults included, as far as the function says them."""
    signature = _signature(func)
    if signature is None:
        return dict(kwargs)
    try:
        found = signature.bind(*args, **kwargs)
    except TypeError:  # the call itself will say what is wrong
        return dict(kwargs)
    found.apply_defaults()
    return dict(found.arguments)
