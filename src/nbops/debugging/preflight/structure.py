"""Checks of how the model is put together: constructors, what is registered, overridden methods, tied weights."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from nbops.core.records import Cause
from nbops.debugging.places import Place, methods_of, place_of_attribute, place_of_class, place_of_method, user_classes
from nbops.debugging.preflight.found import Found, because, check
from nbops.debugging.preflight.subject import Subject, all_modules
from nbops.debugging.preflight.twins import is_lazy

_MISSPELT = re.compile(r"^_*(init|inti|int|initt|innit|ini|new_init)_*$", re.IGNORECASE)
_OVERRIDABLE = ("train", "eval")
told_of: WeakSet[nn.Module] = WeakSet()  # models whose hidden layers preflight looked for: a watch does not again
_METHODS = {"parameters": "(recurse=True)", "state_dict": "()", "zero_grad": "()", "modules": "()", "children": "()"}


@check("constructor-error", stage="structure")
def constructor_error(subject: Subject) -> Iterator[Found]:
    """Find models and optimizers that cannot be made.

    What it measures
        Whether a model or an optimizer that is given as a function raises when it is made; which of torch's
        constructors raised, and which of its settings is not legal.
    Why it matters
        Nothing can be trained.
    When it is wrong
        The function needs something that only exists later.
    Fix
        A legal setting; what is legal is shown.
    References
        The parameter sections of torch's layers and optimizers.
    """
    yield from ()  # found while they are made, in nbops.debugging.preflight.building


@check("no-constructor", stage="structure")
def no_constructor(subject: Subject) -> Iterator[Found]:
    """Find modules whose constructor never ran.

    What it measures
        Whether ``nn.Module.__init__`` has run for each module, and whether a class has a method that looks like a
        misspelt ``__init__`` and none that is spelt right.
    Why it matters
        The module has no parameters: the optimizer gets an empty list, or the first call fails.
    When it is wrong
        A method that is called ``init`` on purpose, in a class that needs no constructor.
    Fix
        ``def __init__(self):`` with two underscores on both sides, and ``super().__init__()`` as its first line.
    References
        torch.nn.Module.
    """
    for module in all_modules(subject.model):
        kind = type(module)
        if "_parameters" not in vars(module) or "_modules" not in vars(module):
            place = place_of_method(kind, "__init__") or place_of_class(kind)
            yield Found(
                kind.__name__, "error", f"nn.Module.__init__ has not run for {kind.__name__}",
                "Without it a module can hold no parameters and cannot be called.",
                "Write super().__init__() as the first line of __init__.", 0.99, place=place, blocks=True,
                expected="super().__init__()", got="no call of it",
                causes=(Cause(text="__init__ does not call super().__init__()", fix="Add it as the first line.",
                              example="super().__init__()", confidence=0.95, name="constructor-not-run"),),
            )  # fmt: skip
            return
    for kind in dict.fromkeys(type(m) for m in subject.model.modules()):
        for one in user_classes(kind):
            names = [name for name, _ in methods_of(one)]
            wrong = [name for name in names if name != "__init__" and _MISSPELT.match(name)]
            if wrong and "__init__" not in names and not any(True for _ in _own(subject, kind)):
                yield Found(
                    kind.__name__, "error", f"{kind.__name__} defines {wrong[0]}, which Python never calls",
                    "The constructor is spelt __init__; so nothing in it was made.",
                    f"Rename {wrong[0]} to __init__.", 0.97, place=place_of_method(one, wrong[0]), blocks=True,
                    expected="__init__", got=wrong[0],
                    causes=(Cause(text=f"{wrong[0]} is misspelt", fix="Rename it to __init__.",
                                  example="def __init__(self):", confidence=0.97, name="constructor-not-run"),),
                )  # fmt: skip


def _own(subject: Subject, kind: type) -> Iterator[Any]:
    for module in subject.model.modules():
        if type(module) is kind:
            yield from [*module._modules.values(), *module._parameters.values()]


@check("no-parameters", stage="structure")
def no_parameters(subject: Subject) -> Iterator[Found]:
    """Find models without anything to train.

    What it measures
        Whether the model has parameters, and whether one of them requires a gradient.
    Why it matters
        An optimizer gets an empty list, or nothing changes.
    When it is wrong
        A model that is only to be evaluated.
    Fix
        Register layers as attributes of the module; call ``requires_grad_(True)`` on what is to be trained.
    References
        torch.nn.Module.parameters.
    """
    model = subject.model
    if any(True for _ in model.parameters()):
        if not subject.trainable and not any(is_lazy(p) for p in model.parameters()):
            name = next(iter(subject.parameters))
            yield Found(
                "(all)", "error", f"all {len(subject.parameters)} parameters are frozen",
                "requires_grad is False everywhere, so there is no gradient.",
                "Call requires_grad_(True) on the layers that are to be trained.", 0.95, measured=0.0,
                expected="at least one parameter with requires_grad", got=f"'{name}' and all others are frozen",
                place=subject.place_of(""), causes=_causes(
                    "everything was frozen", "for p in model.head.parameters():\n    p.requires_grad_(True)",
                    name="frozen-by-accident",
                ), blocks=False,
            )  # fmt: skip
        return
    hidden = next(iter(subject.unregistered), "")
    place = subject.place_of(hidden) if hidden else place_of_class(type(model)) or subject.place_of("")
    yield Found(
        "(all)", "error", f"{subject.name} has no parameters",
        f"Its layers are kept in '{hidden}', where the module does not see them." if hidden else "It holds no layers.",
        "Keep layers in attributes, nn.ModuleList or nn.ModuleDict.", 0.9, measured=0.0, place=place,
        expected="parameters", got="none",
        causes=_causes("the layers are not registered", "self.layers = nn.ModuleList(layers)",
                       name="modules-not-registered"),
    )  # fmt: skip


def _causes(text: str, example: str, *, name: str) -> tuple[Cause, ...]:
    return (Cause(text=text, fix=text, example=example, confidence=0.8, name=name),)


@check("unregistered-module", stage="structure")
def unregistered_module(subject: Subject) -> Iterator[Found]:
    """Find layers that are kept where the module does not see them.

    What it measures
        Modules with parameters in lists, tuples, sets, dicts or plain attributes that are in no ``modules()``.
    Why it matters
        They are missing from ``parameters()``, ``state_dict()``,
        ``to(device)`` and ``train()``: they are never trained,
        moved or saved.
    When it is wrong
        A frozen helper (a teacher, a metric) that is hidden on purpose.
    Fix
        ``nn.ModuleList`` for a list, ``nn.ModuleDict`` for a dict.
    References
        torch.nn.ModuleList.
    """
    told_of.add(subject.model)
    yield from hidden_layers(
        subject.unregistered, {id(p) for p in subject.optimized}, module=subject.module, place_of=subject.place_of
    )


def hidden_layers(
    unregistered: Mapping[str, nn.Module], held: set[int], *, module: Callable[[str], Any],
    place_of: Callable[[str], Place | None],
) -> Iterator[Found]:  # fmt: skip
    """Return what is wrong with modules that are not registered, by their path; `held` by an optimizer they may be."""
    groups: dict[str, list[str]] = {}
    for path, one in unregistered.items():
        own = list(one.parameters())
        if not own or all(id(p) in held for p in own) or not any(p.requires_grad for p in own):
            continue
        groups.setdefault(path.partition("[")[0], []).append(path)
    for holder, paths in groups.items():
        count = sum(p.numel() for path in paths for p in unregistered[path].parameters() if not is_lazy(p))
        owner, _, name = holder.rpartition(".")
        kind = type(module(owner))
        container = (
            "ModuleDict" if not paths[0].endswith("]") or not paths[0].split("[")[1][:-1].isdigit() else "ModuleList"
        )
        place = place_of_attribute(kind, name) or place_of(holder)
        yield Found(
            holder, "error", f"{len(paths)} modules in '{holder}' are not registered ({count:,} values)",
            f"A plain {container[6:].lower()} hides them from parameters(), to() and state_dict().",
            f"Keep them in nn.{container}.", 0.95, measured=float(len(paths)), limit=0.0, place=place,
            expected=f"nn.{container}", got=", ".join(paths[:4]),
            causes=(Cause(text=f"'{name}' is a plain container", test=f"list(model.{holder})",
                          fix=f"Use nn.{container}.",
                          example=f"self.{name} = nn.{container}(…)", confidence=0.95, name="modules-not-registered"),),
            evidence={"paths": paths[:20], "values": count},
        )  # fmt: skip


@check("unregistered-parameter", stage="structure")
def unregistered_parameter(subject: Subject) -> Iterator[Found]:
    """Find tensors that are to be trained and are no parameters of the module.

    What it measures
        Plain attributes, lists and dicts of each module with tensors that require a gradient, or with ``nn.Parameter``.
    Why it matters
        They are missing from ``parameters()`` and ``state_dict()``: no optimizer changes them.
    When it is wrong
        Tensors that are given to the optimizer by themselves (these are left out), or made anew in each step.
    Fix
        ``self.w = nn.Parameter(…)``; ``nn.ParameterList`` for a list; ``register_buffer`` for what is not trained.
    References
        torch.nn.Parameter; torch.nn.Module.register_buffer.
    """
    held = {id(p) for p in subject.optimized} | {id(p) for p in subject.model.parameters()}
    for path, module in subject.model.named_modules():
        for name, value in vars(module).items():
            if name.startswith("_") or (type(module).__module__.startswith("torch.") and isinstance(value, Tensor)):
                continue
            for tensor in _tensors(value):
                if id(tensor) in held or not (tensor.requires_grad and tensor.is_leaf):
                    continue
                many = not isinstance(value, Tensor)
                right = "nn.ParameterList" if many else "nn.Parameter"
                place = place_of_attribute(type(module), name) or subject.place_of(path)
                yield Found(
                    f"{path}.{name}" if path else name, "error",
                    f"'{name}' of {type(module).__name__} requires a gradient but is no parameter",
                    "The module does not see it, so no optimizer gets it and it is not saved.",
                    f"Make it an {right}.", 0.9, place=place,
                    expected=right, got=f"a plain {type(value).__name__}",
                    causes=(Cause(text=f"it was not wrapped in {right}", fix=f"Wrap it in {right}.",
                                  example=f"self.{name} = {right}(…)", confidence=0.9,
                                      name="parameter-not-registered"),),
                )  # fmt: skip
                break


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        yield from (item for item in value if isinstance(item, Tensor))
    elif isinstance(value, dict):
        yield from (item for item in value.values() if isinstance(item, Tensor))


@check("overridden-method", stage="structure")
def overridden_method(subject: Subject) -> Iterator[Found]:
    """Find classes that override a method of ``nn.Module`` that training relies on.

    What it measures
        Whether ``train`` can still be called as ``train(mode)`` and ``eval`` without arguments; whether after
        ``eval()`` every module of a copy is in evaluation mode; whether ``parameters`` and its kin can be called.
    Why it matters
        ``model.train()`` and ``model.eval()`` then do something else: dropout and batch normalisation stay in the wrong
        mode, and tools that call them fail.
    When it is wrong
        Methods that call ``super()`` and keep some layers in evaluation mode are left alone.
    Fix
        Another name: ``fit`` in place of ``train``.
    References
        The class in question 77 of Shah et al. (2024); torch.nn.Module.train.
    """
    for path, module in subject.model.named_modules():
        kind = type(module)
        for name in (*_OVERRIDABLE, *_METHODS):
            owner = next((one for one in user_classes(kind) if name in vars(one)), None)
            if owner is None:
                continue
            problem = _override_problem(module, name)
            if problem:
                right = {"train": "fit", "eval": "evaluate"}.get(name, f"my_{name}")
                yield Found(
                    subject.called(path), "error", f"{owner.__name__}.{name} replaces nn.Module.{name}: {problem}",
                    f"model.{name}() no longer does what torch and the tools around it expect.",
                    f"Give it another name, such as {right}.", 0.93, place=place_of_method(owner, name),
                    expected=f"{name}{'(mode=True)' if name == 'train' else '()'}",
                    got=f"{name}{inspect.signature(vars(owner)[name])}" if callable(vars(owner)[name]) else name,
                    causes=(Cause(text=f"a method of one's own is called {name}", fix=f"Rename it to {right}.",
                                  example=f"def {right}(self, …):", confidence=0.93, name="train-method-overridden"),),
                )  # fmt: skip


def _override_problem(module: nn.Module, name: str) -> str:
    """Return why an override is no good, empty if it is; nothing is called that may do more than set modes."""
    function = getattr(module, name)
    if not callable(function):
        return "it is no method"
    try:
        signature = inspect.signature(function)
        arguments = (True,) if name == "train" else ()
        signature.bind(*arguments)
        signature.bind()
    except (TypeError, ValueError) as error:
        return str(error)
    if name not in _OVERRIDABLE:
        return ""
    code = function.__func__.__code__
    calls_super = "super" in code.co_names or "super" in code.co_freevars or "__class__" in code.co_freevars
    calls_base = "Module" in code.co_names and name in code.co_names
    sets_mode = "training" in code.co_names or "train" in code.co_names
    if calls_super or calls_base or sets_mode:
        return ""
    return f"it does not call super().{name}()"


@check("shadowed-module", stage="structure")
def shadowed_module(subject: Subject) -> Iterator[Found]:
    """Find layers whose name is one of a method of ``nn.Module``.

    What it measures
        The names of all registered modules and parameters against the methods of their class.
    Why it matters
        ``self.half(x)`` calls ``nn.Module.half``, not the layer that is kept under that name.
    When it is wrong
        Layers in ``nn.ModuleDict`` are reached by key and left out.
    Fix
        Another name.
    References
        torch.nn.Module.
    """
    for path, module in subject.model.named_modules():
        if isinstance(module, nn.ModuleDict | nn.ParameterDict):
            continue
        for name in [*module._modules, *module._parameters]:
            if hasattr(type(module), name) and callable(getattr(type(module), name)):
                full = f"{path}.{name}" if path else name
                yield Found(
                    full, "error", f"'{name}' is also a method of {type(module).__name__}",
                    f"self.{name} is the method, so the layer is out of reach.",
                    f"Give it another name: {name}_layer.", 0.95,
                    place=subject.place_of(full), expected="a name of its own", got=f"nn.Module.{name}",
                    causes=(because(f"the layer is called like the method {name}", "Rename it.",
                                    f"self.{name}_layer = …", name="wrong-call"),),
                )  # fmt: skip


@check("broken-tie", stage="structure")
def broken_tie(subject: Subject) -> Iterator[Found]:
    """Find weights that were meant to be shared and are two copies.

    What it measures
        Whether a class ties two weights (``self.head.weight = self.embed.weight``, or ``_tied_weights_keys``) that are
        different objects now; and tables and output layers whose weights are equal value by value without being one.
    Why it matters
        Each copy is trained by itself: more parameters, and what the tie was for is lost. It happens when a part of a
        model is deep-copied, moved or loaded by itself.
    When it is wrong
        A head that is only initialised with the table.
    Fix
        Tie them again after copying or loading, before the optimizer is built.
    References
        Press and Wolf, Using the output embedding to improve language models (EACL 2017).
    """
    tables = [(n, m) for n, m in subject.model.named_modules() if isinstance(m, nn.Embedding)]
    heads = [(n, m) for n, m in subject.model.named_modules() if isinstance(m, nn.Linear)]
    for table, embedding in tables:
        for head, linear in heads:
            one, other = embedding.weight, linear.weight
            if one is other or is_lazy(one) or is_lazy(other) or one.shape != other.shape or one.device != other.device:
                continue
            if one.numel() and one.dtype == other.dtype and bool(torch.equal(one.detach(), other.detach())):
                yield Found(
                    f"{head}.weight", "warning", f"'{head}.weight' equals '{table}.weight' but is another tensor",
                    "They were one, or one was filled from the other; now each is trained by itself.",
                    f"Tie them: model.{head}.weight = model.{table}.weight, before the optimizer is built.", 0.8,
                    place=subject.place_of(head), expected="one tensor", got="two tensors with the same values",
                    causes=(Cause(text="a part of the model was copied or loaded by itself",
                                  test=f"model.{head}.weight is model.{table}.weight", fix="Tie them again.",
                                  example=f"model.{head}.weight = model.{table}.weight", confidence=0.8,
                                      name="tie-broken"),),
                )  # fmt: skip
