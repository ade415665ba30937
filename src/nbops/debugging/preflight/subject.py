"""What preflight looks at: one model with a batch, a loss and an optimizer, and the passes that its checks share.

Each pass is run once, at the first check that asks for it, on copies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from nbops.debugging.calling import MISSING, Plan, plan
from nbops.debugging.definitions import Definitions
from nbops.debugging.places import Place
from nbops.debugging.preflight.observing import Tag, put_tag
from nbops.debugging.preflight.passes import Job, Pass, run_pass
from nbops.debugging.preflight.slicing import cut, most_frequent_size, samples_apart
from nbops.debugging.preflight.twins import Twin, is_lazy
from nbops.debugging.specs import tensors_in

EFFICIENCY = 0.2  # of the speed of a matrix product, which a real pass of small batches reaches
BYTES_PER_S = 5e8  # of parameters: copied, read by three passes, and once more for the gradients
REAL_BYTES = 4 << 30  # of parameters; a larger model is not copied for a real pass
_SHADOWED = 1_000_000
_SAMPLES = 32
LEAST_S = 0.25
NOISE = 0.02  # deviation of what is added to constant weights of a copy


class Subject:
    """The things to check; see `nbops.debugging.preflight.running.preflight` for the parameters."""

    def __init__(
        self, model: nn.Module, batch: Any, *, loss: Callable[..., Any] | None, optimizers: Sequence[Any],
        schedulers: Sequence[Any], forward: Callable[..., Any] | None, last_batch: Any, definitions: Definitions,
        deadline: float, is_last_known: bool = False, overfits: bool = False,
        arrange: Callable[[Any, Any], tuple[Any, Any]] | None = None,
    ) -> None:  # fmt: skip
        self.model = model
        self.batch = batch
        self.loss = loss
        self.optimizers = list(optimizers)
        self.schedulers = list(schedulers)
        self.forward = forward
        self.last_batch = last_batch
        self.is_last_known = is_last_known
        self.overfits = overfits
        self.definitions = definitions
        self.deadline = deadline
        self.arrange = arrange
        self.notes: list[str] = []  # of the stage that runs
        self.explanations: list[Any] | None = None  # of what crashes; see crashing.explanations
        self.rewrites: list[Callable[..., Any]] = []  # of operations, in fake passes
        self._fake: tuple[Twin, Job] | None = None
        self._shaken: tuple[Twin, Job] | None = None
        self.prober: Any = None  # of data dependencies; see probing.prober_of
        self._norms: dict[str, float] = {}

    # -- names -----------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The class of the model."""
        return type(self.model).__name__

    def called(self, path: str) -> str:
        """Return how a module is named in findings; the model itself by its class."""
        return path or self.name

    def module(self, path: str) -> nn.Module:
        """Return the module at `path`; the model itself where there is none."""
        return self._modules.get(path, self.model)

    @cached_property
    def _modules(self) -> dict[str, nn.Module]:
        return {**self.unregistered, **dict(self.model.named_modules(remove_duplicate=False))}

    def place_of(self, path: str) -> Place | None:
        """Return the line that makes the module at `path`."""
        return self.definitions.of_module(path)

    # -- the model -------------------------------------------------------------------------------------------------

    @cached_property
    def is_constructed(self) -> bool:
        """Whether ``nn.Module.__init__`` has run for the model and all in it."""
        return all("_parameters" in vars(m) and "_modules" in vars(m) for m in all_modules(self.model))

    @cached_property
    def unregistered(self) -> dict[str, nn.Module]:
        """Modules that are reached through lists, dicts or plain attributes only, by path: ``layers[0]``."""
        return unregistered_in(self.model)

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """All parameters that have a shape, by name."""
        return {name: p for name, p in self.model.named_parameters() if not is_lazy(p)}

    @cached_property
    def trainable(self) -> dict[str, nn.Parameter]:
        """Those that are trained."""
        return {name: p for name, p in self.parameters.items() if p.requires_grad}

    def norm(self, name: str) -> float:
        """Return the Euclidean norm of a parameter; it is read once."""
        if name not in self._norms:
            p = self.parameters[name].detach()
            wide = torch.promote_types(p.dtype, torch.float32)
            self._norms[name] = float(torch.linalg.vector_norm(p, dtype=wide))
        return self._norms[name]

    @cached_property
    def optimized(self) -> list[Tensor]:
        """What the optimizers hold."""
        return [p for o in self.optimizers for group in o.param_groups for p in group["params"]]

    # -- the batch -------------------------------------------------------------------------------------------------

    @cached_property
    def plan(self) -> Plan:
        """How the batch is passed to the model."""
        if self.forward is not None:
            return Plan((self.batch,), target=MISSING)
        return plan(self.model, self.batch, loss=self.loss)

    @cached_property
    def inputs(self) -> list[tuple[str, Tensor]]:
        """The tensors that go into the model."""
        return list(self.plan.tensors())

    @cached_property
    def targets(self) -> list[tuple[str, Tensor]]:
        """The tensors that the loss compares with."""
        return list(self.plan.targets())

    @cached_property
    def batch_size(self) -> int:
        """The most frequent first dimension of the batch's tensors; 0 if there is none."""
        return samples_apart(self.batch) or most_frequent_size(self.batch)

    @cached_property
    def is_sliceable(self) -> bool:
        """Whether a part of the batch can be cut out: all its tensors have the same first dimension."""
        shapes = [t.shape for _, t in tensors_in(self.batch)]
        if not shapes or self.batch_size < 2 or samples_apart(self.batch):
            return False
        return all(shape[:1] == (self.batch_size,) for shape in shapes if len(shape))

    def sliced(self, samples: int) -> Any:
        """Return the first samples of the batch."""
        return cut(self.batch, self.batch_size, samples)

    # -- passes ----------------------------------------------------------------------------------------------------

    @property
    def left_s(self) -> float:
        """Seconds until the deadline, at least a quarter of one."""
        return max(LEAST_S, self.deadline - time.perf_counter())

    @cached_property
    def needs_values(self) -> bool:
        """Whether fake tensors cannot be used from the start."""
        devices = {t.device.type for t in [*self.parameters.values(), *(t for _, t in tensors_in(self.batch))]}
        return any(is_lazy(p) for p in self.model.parameters()) or not devices <= {"cpu", "cuda"}

    def fake_pass(
        self, batch: Any = None, *, backward: bool = True, training: bool = True, also: Callable[..., Any] | None = None
    ) -> Pass:
        """Run a pass without values; the twin is kept, so that later passes cost less. `also` is a rewrite to try."""
        if self._fake is None:
            self._fake = self._fake_job()
        twin, job = self._fake
        if batch is not None:
            job = self._job_with(twin, job, batch)
        changes = [*self.rewrites, *([also] if also is not None else [])]
        return run_pass(
            job, twin, backward=backward, training=training, limit_s=max(2.0, self.left_s), batch_size=self.batch_size,
            rewrite=_first_of(changes) if changes else None,
        )  # fmt: skip

    @property
    def fake_model(self) -> nn.Module:
        """The model of the fake twin, on which repairs are tried."""
        if self._fake is None:
            self._fake = self._fake_job()
        return self._fake[1].model

    def _fake_job(self) -> tuple[Twin, Job]:
        twin = Twin.fake()
        with torch.no_grad():
            return twin, self._job(twin, self.batch)

    def real_pass(self, batch: Any, *, backward: bool = True, training: bool = True) -> Pass:
        """Run a pass with values, on the CPU, on fresh copies."""
        twin, job = self.real_job(batch)
        return run_pass(
            job, twin, backward=backward, training=training, limit_s=self.left_s, batch_size=self.batch_size
        )

    def real_job(self, batch: Any) -> tuple[Twin, Job]:
        """Return copies with values on the CPU."""
        twin = Twin()
        return twin, self._job(twin, batch)

    def _job(self, twin: Twin, batch: Any) -> Job:
        model = twin.copy(self.model)
        others = {path: twin.copy(module) for path, module in self.unregistered.items()}
        job = Job(model, None, Plan(), twin.copy(self.loss), twin.copy(self.forward), others)
        return self._job_with(twin, job, batch)

    def _job_with(self, twin: Twin, job: Job, batch: Any) -> Job:
        copied = twin.copy(batch)
        own = self.forward is not None
        made = Plan((copied,), target=MISSING) if own else plan(self.model, copied, loss=self.loss)
        if twin.is_fake:
            for (_, old), (_, new) in zip(tensors_in(batch), tensors_in(copied), strict=False):
                if not old.is_floating_point() and 0 < old.numel() <= _SHADOWED:
                    put_tag(new, Tag(real=old.detach().cpu()))
        return Job(job.model, copied, made, job.loss, job.forward, job.unregistered, self.arrange)

    @cached_property
    def training(self) -> Pass:
        """A training pass over the whole batch: without values if that is possible, else a real one of few samples."""
        if not self.needs_values:
            made = self.fake_pass()
            if not made.needs_values:
                return made
            self.notes.append("control flow depends on values, so a few samples were computed for real")
        few = self.sliced(min(self.batch_size, 4)) if self.is_sliceable else self.batch
        return self.real_pass(few)

    @cached_property
    def samples(self) -> int:
        """How many samples a real pass can take in the time that is left; 0 if none."""
        sizes = sum(p.numel() * p.element_size() for p in self.parameters.values())
        if sizes > REAL_BYTES:
            return 0
        if not self.training.is_fake or not self.training.is_complete:
            return min(self.batch_size, 4) or 1
        per_sample_s = 4 * self.forward_s(1)  # forward, backward (twice as much), and an evaluation
        affordable = int((0.6 * self.left_s - sizes / BYTES_PER_S) / max(per_sample_s, 1e-9))
        if not self.is_sliceable:
            return self.batch_size if affordable >= self.batch_size else 0
        return max(0, min(self.batch_size, _SAMPLES, affordable))

    def forward_s(self, samples: int) -> float:
        """Return about how many seconds a forward pass of some samples takes here."""
        return samples * self.training.observer.macs / max(1, self.batch_size) / (EFFICIENCY * _speed())

    @cached_property
    def values(self) -> Pass | None:
        """A training pass with values over some samples; None where that takes too long or fails on our side."""
        if not self.training.is_complete:
            return None
        if not self.training.is_fake and not self.is_sliceable:
            return self.training
        if self.samples < min(2, self.batch_size):
            self.notes.append("values were not looked at: one sample takes too long")
            return None
        few = self.sliced(self.samples) if self.is_sliceable else self.batch
        made = self.real_pass(few)
        if made.timed_out:
            self.notes.append("values were not looked at: the pass took too long")
            return None
        return made

    @cached_property
    def evaluation(self) -> Pass | None:
        """A pass in evaluation mode, without values if that is possible; None where there is nothing to compare."""
        if not self.training.is_complete:
            return None
        if self.training.is_fake:
            made = self.fake_pass(backward=False, training=False)
            return None if made.needs_values else made
        few = self.sliced(min(self.batch_size, 4)) if self.is_sliceable else self.batch
        return self.real_pass(few, backward=False, training=False)

    def probe(self, seed: int) -> Pass | None:
        """Return a pass in evaluation mode with values, on a copy in which no weight is constant; None if it fails.

        A head that starts at 0 gives something there, so that it can be seen what its output depends on.
        """
        if self.values is None or not self.values.is_complete or self.left_s <= LEAST_S:
            return None
        twin, job = self.shaken_job(self.sliced(self.samples) if self.is_sliceable else self.batch)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            done = run_pass(job, twin, backward=False, training=False, limit_s=self.left_s)
        return done if done.is_complete else None

    def shaken_job(self, batch: Any) -> tuple[Twin, Job]:
        """Return copies on the CPU in which no weight is constant; the model is copied once."""
        if self._shaken is None:
            self._shaken = self.real_job(batch)
            _shake(self._shaken[1].model)
            return self._shaken
        twin, job = self._shaken
        return twin, self._job_with(twin, job, batch)

    def forget(self) -> None:
        """Let go of all copies."""
        self._fake = self._shaken = self.prober = None
        for name in ("training", "values", "evaluation"):
            vars(self).pop(name, None)


def _speed() -> float:
    """Return how many multiplications and additions per second this machine makes now, in a matrix product."""
    square, took_s = torch.ones(256, 256), 1.0
    with torch.no_grad():
        for _ in range(3):
            began = time.perf_counter()
            square @ square
            took_s = min(took_s, time.perf_counter() - began)
    return 256**3 / max(took_s, 1e-6)


def _first_of(changes: list[Callable[..., Any]]) -> Callable[..., Any]:
    def rewrite(name: str, args: Any, kwargs: Any) -> Any:
        return next((found for change in changes if (found := change(name, args, kwargs)) is not None), None)

    return rewrite


def all_modules(model: nn.Module) -> Iterator[nn.Module]:
    """Iterate over a model and the modules in it, even where some were never constructed."""
    seen: set[int] = set()
    todo: list[nn.Module] = [model]
    while todo:
        module = todo.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        yield module
        children = vars(module).get("_modules") or {}
        todo += [child for child in children.values() if isinstance(child, nn.Module)]


def is_constant(p: Tensor) -> bool:
    """Return whether all values of a parameter are equal; a few are looked at first, which nearly always differ."""
    flat = p.detach().flatten()
    return bool((flat[:64] == flat[0]).all()) and bool((flat == flat[0]).all())


def _shake(model: nn.Module) -> None:
    """Add a little noise to the weights that are constant."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            if not is_lazy(p) and p.is_floating_point() and p.numel() and is_constant(p):
                p.add_(torch.randn(p.shape, generator=generator).to(p.dtype), alpha=NOISE)


def unregistered_in(model: nn.Module) -> dict[str, nn.Module]:
    """Return modules that a model reaches through lists, dicts or plain attributes only, by path: ``layers[0]``."""
    known = {id(m) for m in model.modules()}
    found: dict[str, nn.Module] = {}
    for path, owner in model.named_modules():
        for name, value in vars(owner).items():
            if name in ("_parameters", "_buffers", "_modules") or "hook" in name:
                continue
            for inner, module in _modules_in(value, f"{path}.{name}" if path else name):
                if id(module) not in known:
                    found.setdefault(inner, module)
    return found


def _modules_in(value: Any, path: str, depth: int = 3) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(value, nn.Module):
        yield path, value
    elif depth and isinstance(value, Mapping):
        for key, item in value.items():
            yield from _modules_in(item, f"{path}[{key}]", depth - 1)
    elif depth and isinstance(value, list | tuple | set):
        for i, item in enumerate(value):
            yield from _modules_in(item, f"{path}[{i}]", depth - 1)
