"""Checks of the optimizer's parameters against the model's: missing, foreign, of an older model, twice, frozen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch import Tensor

from nbops.core.records import Cause
from nbops.debugging.places import Place
from nbops.debugging.preflight.found import Found, check
from nbops.debugging.preflight.subject import Subject

_REBUILD = "optimizer = torch.optim.AdamW(model.parameters(), lr=…)"


def _place(subject: Subject) -> Place | None:
    return subject.definitions.of_variable(subject.optimizers[0]) if subject.optimizers else None


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


@check("optimizer-of-another-model", stage="structure")
def optimizer_of_another_model(subject: Subject) -> Iterator[Found]:
    """Find optimizers that hold none of the model's parameters, or also those of another object.

    What it measures
        The parameters in the groups against the model's, as objects; and whether those that are not the model's have
        the same shapes, which says that they belong to an older object of the same model.
    Why it matters
        ``step()`` changes weights that are used no more. It happens when a cell that builds the model runs again and
        the one that builds the optimizer does not, or when the model is copied or replaced after that.
    When it is wrong
        Parameters of a second network or of the loss in the same optimizer are told as a hint.
    Fix
        Build the optimizer after the last change of the model, from ``model.parameters()``.
    References
        TrainCheck (OSDI 2025), invariant "parameters change after step".
    """
    mine = {id(p) for p in subject.model.parameters()}
    hidden = {id(p) for module in subject.unregistered.values() for p in module.parameters()}
    for optimizer in subject.optimizers:
        held = [p for group in optimizer.param_groups for p in group["params"]]
        foreign = [p for p in held if id(p) not in mine and id(p) not in hidden]
        if not held or not foreign:
            continue
        place = subject.definitions.of_variable(optimizer)
        shapes = Counter(_shape(p) for p in subject.parameters.values())
        older = Counter(map(_shape, foreign))
        is_old = sum((older & shapes).values()) >= 0.8 * len(foreign)
        if len(foreign) == len(held):
            why = "They have the same shapes: it was built from an older object of the model." if is_old else (
                "It was built from another model.")  # fmt: skip
            yield Found(
                "optimizer", "error", f"{type(optimizer).__name__} holds none of the model's parameters", why,
                "Build the optimizer again, after the model.", 0.97, measured=0.0, limit=float(len(mine)), place=place,
                expected=f"the {len(mine)} parameters of this {subject.name}", got=f"{len(foreign)} of another object",
                causes=(Cause(text="the model was built again, copied or replaced after the optimizer",
                              test="next(model.parameters()) is optimizer.param_groups[0]['params'][0]",
                              fix="Build the optimizer again.", example=_REBUILD, confidence=0.95,
                                  name="optimizer-of-other-parameters"),),
            )  # fmt: skip
        else:
            yield Found(
                "optimizer", "warning" if is_old and len(foreign) > 1 and _lacks(subject) else "hint",
                f"{len(foreign)} of the {len(held)} parameters in {type(optimizer).__name__} are not the model's",
                "They belong to another module, or to a layer that was replaced after the optimizer was built.",
                "If a layer was replaced, build the optimizer again.", 0.6, measured=float(len(foreign)), limit=0.0,
                place=place, expected="parameters of this model", got=f"{len(foreign)} others",
                causes=(Cause(text="a layer was replaced after the optimizer was built", fix="Build it again.",
                              example=_REBUILD, confidence=0.6, name="optimizer-of-other-parameters"),),
            )  # fmt: skip


def _lacks(subject: Subject) -> bool:
    held = {id(p) for p in subject.optimized}
    return any(id(p) not in held for p in subject.trainable.values())


@check("parameters-not-in-optimizer", stage="structure")
def parameters_not_in_optimizer(subject: Subject) -> Iterator[Found]:
    """Find trainable parameters that no optimizer holds.

    What it measures
        The model's parameters with ``requires_grad`` against those in the groups of all optimizers that were given;
        those that get no gradient, as the slow copy of a model does, are left out.
    Why it matters
        They get gradients and never change.
    When it is wrong
        A part that is left out on purpose; ``requires_grad_(False)`` says so, and saves the time for its gradients.
    Fix
        Pass all parameters, or freeze what is meant to rest.
    References
        TrainCheck (OSDI 2025).
    """
    held = {id(p) for p in subject.optimized}
    mine = {id(p) for p in subject.trainable.values()}
    missing = [name for name, p in subject.trainable.items() if id(p) not in held]
    if not subject.optimizers or not missing or not held & mine:
        return
    gradients = subject.training.gradients if subject.training.is_complete else None
    missing = [name for name in missing if gradients is None or gradients.get(name) is not None]
    if not missing:
        return  # they are used without gradients, as a slow copy of the model is
    modules = list(dict.fromkeys(name.rpartition(".")[0] for name in missing))
    layer = modules[0] if len(modules) == 1 else modules[0].split(".")[0] if _same_root(modules) else "(several)"
    values = sum(subject.trainable[name].numel() for name in missing)
    yield Found(
        layer or subject.name, "warning",
        f"{len(missing)} trainable parameters are in no optimizer, '{missing[0]}' first ({values:,} values)",
        "They get gradients, but nothing changes them.",
        "Pass model.parameters(), or freeze what is meant to rest with requires_grad_(False).", 0.75,
        measured=float(len(missing)), limit=0.0, place=_place(subject), expected=f"{len(mine)} parameters",
        got=f"{len(mine) - len(missing)} of them",
        causes=(
            Cause(text="the layer was added or replaced after the optimizer was built", fix="Build it again.",
                  example=_REBUILD, confidence=0.5, name="parameters-not-in-optimizer"),
            Cause(text="only a part of the model was passed", fix="Pass all, or freeze the rest.",
                  example=f"model.{modules[0] or '…'}.requires_grad_(False)", confidence=0.45,
                      name="parameters-not-in-optimizer"),
        ),
        evidence={"parameters": missing[:20]},
    )  # fmt: skip


def _same_root(modules: list[str]) -> bool:
    return len({name.split(".")[0] for name in modules}) == 1


@check("odd-optimizer-parameters", stage="structure")
def odd_optimizer_parameters(subject: Subject) -> Iterator[Found]:
    """Find parameters that an optimizer holds twice, that are no leaves, or that are frozen.

    What it measures
        The tensors in the groups of all optimizers.
    Why it matters
        What two optimizers hold is stepped twice; a computed tensor gets no gradient; frozen ones never change.
    When it is wrong
        Alternating optimizers over the same weights. Frozen parameters do no harm, so they are a hint.
    Fix
        Pass each parameter once; filter by ``requires_grad``.
    References
        torch.optim.Optimizer.add_param_group.
    """
    held = subject.optimized
    place = _place(subject)
    twice = [key for key, count in Counter(map(id, held)).items() if count > 1]
    names = {id(p): name for name, p in subject.parameters.items()}
    if twice:
        yield Found(
            "optimizer", "warning" if len(subject.optimizers) > 1 else "error",
            f"{len(twice)} parameters are held twice, '{names.get(twice[0], '?')}' first",
            "Each step changes them twice.", "Pass each parameter once.", 0.85, measured=float(len(twice)), limit=0.0,
            place=place, expected="each parameter once", got=f"{len(twice)} of them twice",
            causes=(Cause(text="groups or optimizers overlap", fix="Pass each parameter once.", confidence=0.85,
                name="parameter-twice-in-optimizer"),),
        )  # fmt: skip
    computed = [p for p in held if not p.is_leaf]
    if computed:
        yield Found(
            "optimizer", "error", f"{len(computed)} tensors in the optimizer are results, not leaves",
            "They get no gradient of their own.", "Pass the parameters that they were computed from.", 0.95,
            measured=float(len(computed)), limit=0.0, place=place, expected="leaves", got="results of operations",
            causes=(Cause(text="the parameter was moved or scaled after it was made: nn.Parameter(…).cuda()",
                          fix="Make it on the device.", confidence=0.8, name="optimizer-of-other-parameters"),),
        )  # fmt: skip
    frozen = [p for p in held if not p.requires_grad]
    if frozen and len(frozen) < len(held):
        yield Found(
            names.get(id(frozen[0]), "optimizer").rpartition(".")[0] or "optimizer", "hint",
            f"{len(frozen)} parameters in the optimizer are frozen, '{names.get(id(frozen[0]), '?')}' first",
            "They never change.", "Pass (p for p in model.parameters() if p.requires_grad).", 0.6,
            measured=float(len(frozen)), place=place, expected="trainable parameters", got=f"{len(frozen)} frozen",
            causes=(Cause(text="they were frozen on purpose", fix="Leave them out.", confidence=0.8,
                          example="(p for p in model.parameters() if p.requires_grad)", name="frozen-by-accident"),),
        )  # fmt: skip
