"""One pass of a batch through a twin: forward, loss, backward, with hooks on every module. Nothing is judged here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from nbops.debugging.calling import MISSING, Plan, own_loss, stand_in_loss, ways_to_call
from nbops.debugging.places import Place, place_of_error
from nbops.debugging.preflight.observing import FailedCall, Observer, Tag, put_tag, tag_of
from nbops.debugging.preflight.twins import Twin, quiet_modes
from nbops.debugging.randomness import untouched_randomness
from nbops.debugging.specs import first_tensor_in, shape_of, spec, tensors_in

_FAKE_ONLY = ("DataDependent", "DynamicOutputShape", "Unsupported", "UnsupportedFakeTensor", "MetadataMismatch")
_FAKE_WORDS = ("FakeTensor", "fake tensor", "tensor subclass", "meta tensor", "Meta tensor", "Cannot copy out of meta")


class OutOfTime(Exception):
    """A pass took longer than it may; raised between two modules."""


@dataclass(slots=True)
class Visit:
    """One call of a module that returned: what went in and came out, and in a real pass whether that was finite."""

    path: str
    kind: str
    given: str
    gave: str
    output: tuple[int, ...] | None
    is_leaf: bool
    has_parameters: bool
    is_input_finite: bool = True
    is_output_finite: bool = True
    input_range: tuple[float, float] | None = None


@dataclass(slots=True)
class Crash:
    """An error of the user's code in a pass.

    phase : ``forward``, ``loss`` or ``backward``
    path : the innermost module that was running, "" for the model itself
    module, args, kwargs : that module (of the twin) and what it was called with
    call : the operation that raised, where it was one of torch
    place : the innermost line of the user
    before : the last module that returned
    reached : grows with how far the pass came
    """

    error: BaseException
    phase: str
    path: str
    module: nn.Module | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    call: FailedCall | None
    place: Place | None
    before: Visit | None
    reached: int = 0

    @property
    def message(self) -> str:
        """The first lines of what was raised."""
        return f"{type(self.error).__name__}: {str(self.error).strip()[:400]}"


@dataclass(slots=True)
class Pass:
    """What one pass gave. `needs_values` says why fake tensors could not tell, empty if they could."""

    is_fake: bool
    is_training: bool
    observer: Observer
    plan: Plan
    visits: list[Visit] = field(default_factory=list)
    output: Any = MISSING
    loss: Tensor | None = None
    is_own_loss: bool = False
    has_loss: bool = False
    crash: Crash | None = None
    needs_values: str = ""
    timed_out: bool = False
    gradients: dict[str, Tensor | None] | None = None
    duration_s: float = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether nothing stopped it."""
        return self.crash is None and not self.needs_values and not self.timed_out

    def visited(self) -> set[str]:
        """Return the paths of all modules that were called."""
        return {visit.path for visit in self.visits}


@dataclass(frozen=True)
class Job:
    """What a pass runs: the twin's model, how the batch is passed, and the user's own functions, all copies."""

    model: nn.Module
    batch: Any
    plan: Plan
    loss: Callable[..., Any] | None = None
    forward: Callable[..., Any] | None = None
    unregistered: Mapping[str, nn.Module] = field(default_factory=dict)  # further modules of the model, by path
    arrange: Callable[[Any, Any], tuple[Any, Any]] | None = None  # how the loop prepares what the loss is given


@dataclass(slots=True)
class _Entry:
    path: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Hooks:
    """Pre-hooks and hooks on all modules of a job, for the length of one pass."""

    def __init__(self, job: Job, observer: Observer, made: Pass, *, deadline: float) -> None:
        self.stack: list[_Entry] = []
        self._observer = observer
        self._made = made
        self._deadline = deadline
        self._handles: list[Any] = []
        self._modules = dict(_modules_of(job))

    def __enter__(self) -> _Hooks:
        for module, path in self._modules.items():
            self._handles.append(module.register_forward_pre_hook(self._enter_hook(path), with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._leave_hook(path), with_kwargs=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def _enter_hook(self, path: str) -> Callable[..., None]:
        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if time.perf_counter() > self._deadline:
                raise OutOfTime
            self.stack.append(_Entry(path, module, args, kwargs))
            self._observer.layers.append(path)
            self._observer.is_training.append(module.training)

        return enter

    def _leave_hook(self, path: str) -> Callable[..., None]:
        def leave(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            while self.stack and self.stack.pop().module is not module:  # left by an exception that was caught
                pass
            del self._observer.layers[len(self.stack) :], self._observer.is_training[len(self.stack) :]
            with torch._C.DisableTorchFunction():
                self._made.visits.append(_visit(path, module, args, kwargs, output, is_fake=self._made.is_fake))

        return leave


def _modules_of(job: Job) -> Iterator[tuple[nn.Module, str]]:
    for path, module in job.model.named_modules():
        yield module, path
    for path, module in job.unregistered.items():
        yield module, path
    if isinstance(job.loss, nn.Module):
        for path, module in job.loss.named_modules():
            yield module, f"loss.{path}" if path else "loss"


def _visit(path: str, module: nn.Module, args: Any, kwargs: Any, output: Any, *, is_fake: bool) -> Visit:
    owns = any(p is not None for p in module._parameters.values())
    found = first_tensor_in(output)
    made = Visit(
        path, type(module).__name__, spec(args[0] if len(args) == 1 and not kwargs else args or kwargs), spec(output),
        shape_of(found) if found is not None else None, not any(True for _ in module.children()), owns,
    )  # fmt: skip
    if not is_fake:
        made.is_input_finite = all(_finite(t) or _is_mask(t) for _, t in tensors_in([args, kwargs]))
        made.is_output_finite = all(_finite(t) for _, t in tensors_in(output))
        first = first_tensor_in(args)
        if owns and first is not None and first.is_floating_point() and first.numel() and made.is_input_finite:
            made.input_range = float(first.detach().min()), float(first.detach().max())
    return made


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor.detach()).all())


def _is_mask(tensor: Tensor) -> bool:
    """Return whether a tensor only holds 0 and minus infinity, as what is added to the scores of an attention."""
    return bool(((tensor == 0) | torch.isneginf(tensor)).all())


# ---- running ---------------------------------------------------------------------------------------------------------


def run_pass(
    job: Job, twin: Twin, *, backward: bool = True, training: bool = True, limit_s: float = 60.0, batch_size: int = 0,
    rewrite: Callable[..., Any] | None = None,
) -> Pass:  # fmt: skip
    """Run one pass; random states are put back, errors of the user's code become a `Crash`.

    Parameters
    ----------
    backward : bool
        Whether to compute gradients as well; they are returned, never accumulated.
    training : bool
        Training or evaluation mode of the twin.
    limit_s : float, seconds
        The pass ends between two modules when this is over.
    batch_size : int
        Samples in the batch, to notice where they are mixed up with features.
    rewrite : callable, optional
        See `Observer`.
    """
    started = time.perf_counter()
    observer = Observer(batch_size=batch_size, is_strict=twin.is_fake)
    observer.rewrite, observer.runner = rewrite, __file__
    made = Pass(twin.is_fake, training, observer, job.plan)
    hooks = _Hooks(job, observer, made, deadline=started + limit_s)
    with untouched_randomness(), quiet_modes(), twin.mode or nullcontext(), _mode(job.model, training):
        phase = "forward"
        try:
            with hooks, observer, torch.set_grad_enabled(training or backward):
                _mark(job)
                made.output = _forward(job)
                phase = observer.outside = "loss"
                _find_loss(job, made)
            if backward and made.loss is not None:
                phase = "backward"
                _backward(job, made)
        except OutOfTime:
            made.timed_out = True
        except Exception as error:  # the user's code may raise anything, and that is what we want to know
            _note_error(made, error, phase, hooks.stack)
    made.duration_s = time.perf_counter() - started
    return made


def _mark(job: Job) -> None:
    for _, tensor in job.plan.tensors():
        put_tag(tensor, Tag(role="input", real=tag_of(tensor).real))
    for _, tensor in job.plan.targets():
        put_tag(tensor, Tag(role="target", real=tag_of(tensor).real))


@contextmanager
def _mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Set the mode of every module without calling ``train`` or ``eval``, which the user may have overridden.

    A model that is in evaluation mode as a whole is trained in training mode; parts that rest in evaluation mode do so.
    """
    before = [(module, module.training) for module in model.modules()]
    rests = not any(was for _, was in before)
    for module, was in before:
        object.__setattr__(module, "training", training and (was or rests))
    try:
        yield
    finally:
        for module, was in before:
            object.__setattr__(module, "training", was)


def _forward(job: Job) -> Any:
    if job.forward is not None:
        return job.forward(job.model, job.batch)
    return job.model(*job.plan.args, **job.plan.kwargs)


def find_loss(job: Job) -> Tensor | None:
    """Run forward and loss of a job, and return the loss; None if there is none."""
    made = Pass(False, True, Observer(), job.plan)
    made.output = _forward(job)
    _find_loss(job, made)
    return made.loss if made.has_loss else None


def _find_loss(job: Job, made: Pass) -> None:
    if job.loss is None or (job.forward is not None and own_loss(made.output) is not None):
        made.loss = own_loss(made.output)
        made.has_loss = made.is_own_loss = made.loss is not None
    else:
        inputs = tuple(t for _, t in job.plan.tensors())
        ways = ways_to_call(job.loss, made.output, job.plan.target, inputs, job.batch)
        ways = [*_arranged(job, made.output), *ways]
        first_error: Exception | None = None
        for way in ways:
            try:
                found = job.loss(*way)
            except (TypeError, AttributeError, ValueError, RuntimeError, IndexError) as error:
                first_error = first_error or error
                continue
            made.loss = found if isinstance(found, Tensor) else first_tensor_in(found)
            made.has_loss = True
            return
        if first_error is not None:
            if len(ways) > 1:
                job.loss(*ways[0])  # once more, so that what was observed last is of the way that is told
            raise first_error
    if made.loss is None:
        made.loss = stand_in_loss(made.output)


def _arranged(job: Job, output: Any) -> list[tuple[Any, ...]]:
    """Return the loss's arguments as the loop prepares them; nothing where it does not, or where that fails.

    A target that has the output's shape and type already was prepared for preflight.
    """
    target = job.plan.target
    if job.arrange is None or target is MISSING:
        return []
    both = [t for t in (output, target) if isinstance(t, Tensor)]
    if len(both) == 2 and both[0].shape == both[1].shape and both[0].dtype == both[1].dtype:
        return []
    try:
        return [job.arrange(output, job.plan.target)]
    except Exception:  # made for another size than that of these few samples
        return []


def _backward(job: Job, made: Pass) -> None:
    loss = made.loss
    parameters = {name: p for name, p in job.model.named_parameters() if p.requires_grad}
    if loss is None or not parameters or (not loss.requires_grad and not made.has_loss):
        return
    if loss.numel() != 1:
        raise RuntimeError("grad can be implicitly created only for scalar outputs")
    if not loss.requires_grad:
        made.gradients = dict.fromkeys(parameters)
        return
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    made.gradients = dict(zip(parameters, found, strict=True))


def _note_error(made: Pass, error: Exception, phase: str, stack: list[_Entry]) -> None:
    if made.is_fake and _is_about_fakes(error):
        made.needs_values = f"{type(error).__name__}: {str(error)[:120]}"
        return
    entry = stack[-1] if stack else None
    failed = made.observer.failed
    call = failed if failed is not None and phase != "backward" and _same(failed.error, error) else None
    path = entry.path if entry is not None else made.observer.outside
    leaves = [visit for visit in made.visits if visit.is_leaf and not visit.path.startswith("loss")]
    made.crash = Crash(
        error, phase, path, entry.module if entry else None, entry.args if entry else (), entry.kwargs if entry else {},
        call, place_of_error(error.__traceback__), leaves[-1] if leaves else None,
        len(made.visits) + 1_000_000 * ("forward", "loss", "backward").index(phase),
    )  # fmt: skip
    error.__traceback__ = None  # it would keep every tensor of the pass


def _same(one: BaseException, other: BaseException) -> bool:
    chain: list[BaseException | None] = [other, other.__cause__, other.__context__]
    return any(one is link for link in chain)


def _is_about_fakes(error: Exception) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    if any(name.startswith(_FAKE_ONLY) for name in names):
        return True
    return any(word in str(error) for word in _FAKE_WORDS) and "DeviceMismatch" not in type(error).__name__
