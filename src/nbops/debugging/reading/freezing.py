"""Rules about frozen layers: random ones, and normalisations whose statistics go on moving."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nbops.debugging.preflight.found import Found
from nbops.debugging.reading.facts import Reading, Round
from nbops.debugging.reading.kinds import kind
from nbops.debugging.reading.layers import writings
from nbops.debugging.reading.noting import noted, patch, readings
from nbops.debugging.reading.scopes import Scope
from nbops.debugging.source import name_of


@readings.register("frozen-and-random")
def frozen_and_random(reading: Reading) -> Iterator[Found]:
    """Find layers that are frozen although nothing was loaded into them.

    What it measures
        Linear layers, convolutions and embeddings without ``requires_grad`` whose weights still have the spread of
        their random start, in code that loads nothing and trains nothing before.
    Why it matters
        Freezing is for features that were learned; random ones stay random.
    When it is wrong
        Random features that are meant.
    Fix
        ``requires_grad_(True)``, or load weights first; ``nn.Embedding.from_pretrained(…, freeze=False)``.
    References
        ``from_pretrained`` freezes by default.
    """
    model = reading.model
    if model is None or not reading.rounds or _may_be_learned(reading):
        return
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor) or weight.requires_grad or not isinstance(weight, nn.Parameter):
            continue
        if not _is_at_its_start(module, weight):
            continue
        frozen = next(((s, n) for s in writings(reading) for n in s.nodes if _freezes(n)), None)
        if frozen is None or _ON_PURPOSE.search(reading.path_of(module)):
            continue
        scope, node = frozen
        is_table = isinstance(node, ast.Call) and name_of(node.func) == "from_pretrained"
        text = scope.text(node)
        yield noted(
            scope, node, "frozen-by-accident", layer=reading.path_of(module), status="warning", confidence=0.88,
            patch=patch(scope, swap=[(node, f"{text[:-1]}, freeze=False)")]) if is_table else
            patch(scope, swap=[(_false(node), "True")]),
            what=f"'{reading.path_of(module)}' is frozen, and holds random weights",
            why="Nothing was loaded into it and nothing trained it, so its features stay random.",
            fix="Pass freeze=False." if is_table else "Let it learn, or load weights into it first.",
            expected="weights that were learned, or requires_grad=True", got=text[:80],
        )  # fmt: skip
        return


_ON_PURPOSE = re.compile(r"random|reservoir|fixed|frozen|target|teacher|ema|fourier|hash", re.I)


def _false(node: ast.AST) -> ast.expr:
    return node.value if isinstance(node, ast.Assign) else node.args[0]  # type: ignore[attr-defined]


def _freezes(node: ast.AST) -> bool:
    """Return whether a node freezes: ``requires_grad_(False)``, ``p.requires_grad = False``, or a table as it is."""
    if isinstance(node, ast.Assign):
        is_flag = isinstance(node.targets[0], ast.Attribute) and node.targets[0].attr == "requires_grad"
        return is_flag and isinstance(node.value, ast.Constant) and node.value.value is False
    if not isinstance(node, ast.Call):
        return False
    if name_of(node.func) == "from_pretrained":
        return all(k.arg != "freeze" for k in node.keywords)
    given = node.args[0] if node.args and name_of(node.func) == "requires_grad_" else None
    return isinstance(given, ast.Constant) and given.value is False


def _thaws(scope: Scope) -> bool:
    """Return whether anything is unfrozen in a body."""
    for node in scope.nodes:
        if isinstance(node, ast.Call) and name_of(node.func) == "requires_grad_" and not _freezes(node):
            return True
        is_flag = isinstance(node, ast.Assign) and getattr(node.targets[0], "attr", "") == "requires_grad"
        if is_flag and not _freezes(node):
            return True
    return False


_LOADS = ("load", "load_state_dict", "load_model", "load_file", "hub", "get_model", "create_model", "fit", "pretrain")


def _may_be_learned(reading: Reading) -> bool:
    """Return whether the code loads weights, or trains more than one round: the frozen part may have been learned."""
    rounds = [one for one in reading.rounds if not isinstance(one.block, ast.FunctionDef)]
    if len(rounds) > 1 or any(map(_thaws, reading.scopes)):
        return True
    calls = [call for scope in reading.scopes for call in scope.calls()]
    return any(name_of(c.func) in _LOADS or any(k.arg in ("weights", "pretrained") for k in c.keywords) for c in calls)


def _is_at_its_start(module: nn.Module, weight: Tensor) -> bool:
    """Return whether weights are spread as torch's default initialisation spreads them, or as a random table."""
    few = weight.detach().float().flatten()[:20_000]
    if few.numel() < 16 or few.device.type != "cpu":
        return False
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
        bound = 1 / math.sqrt(weight[0].numel())
        spread = float(few.abs().max()) / bound
        return 0.8 < spread <= 1.0001 and abs(float(few.std()) * math.sqrt(3) / bound - 1) < 0.2
    if isinstance(module, nn.Embedding) and len(few) >= 64:
        std = float(few.std())
        if abs(float(few.mean())) > 4 * std / math.sqrt(len(few)):
            return False
        kurtosis = float(((few - few.mean()) / std).pow(4).mean())
        rows = weight.detach().float()
        norms = rows.norm(dim=1) / math.sqrt(rows.shape[1])
        is_even = float(norms.std() / norms.mean()) < 2 / math.sqrt(2 * rows.shape[1])
        return is_even and abs(kurtosis - 3) < 6 * math.sqrt(24 / len(few))
    return False


@readings.register("frozen-norm-in-training")
def frozen_norm_in_training(reading: Reading) -> Iterator[Found]:
    """Find frozen batch normalisations whose statistics go on moving.

    What it measures
        Batch normalisations whose weight and bias do not require gradients, in training mode, while layers behind them
        learn, in code that never puts a part of the model into evaluation mode before its loop.
    Why it matters
        Freezing parameters does not freeze running statistics: small batches of other data wash them away.
    When it is wrong
        Statistics that are to follow the new data.
    Fix
        ``norm.eval()`` after each ``model.train()``.
    References
        torch's forum on fine-tuning with batch normalisation.
    """
    model = reading.model
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)] if model is not None else []
    frozen = [m for m in norms if m.affine and m.training and _has_statistics(m)
              and not any(p.requires_grad for p in m.parameters())]  # fmt: skip
    if not frozen or len(frozen) < len(norms) or not reading.rounds or model is None:
        return
    one: Round = reading.rounds[-1]
    if any(True for s in reading.scopes for c in s.calls("eval") if c.args or _is_part(s, c, model)) or not any(
            p.requires_grad for p in model.parameters()):  # fmt: skip
        return
    forward = next(
        (c for c in one.scope.calls() if one.scope.inside(c, one.block) and kind(one.scope, c) == "output"), None
    )
    yield noted(
        one.scope, forward if forward is not None else one.acts[0].node, "running-stats-wrong", "frozen-by-accident",
        layer=reading.path_of(frozen[0]), status="warning", confidence=0.85,
        what=f"'{reading.path_of(frozen[0])}' is frozen, and its running statistics go on moving",
        why="They follow each batch in training mode, whatever requires_grad says.",
        fix="Put frozen normalisations into evaluation mode after model.train().", expected="evaluation mode",
        got="training mode",
    )  # fmt: skip


def _is_part(scope: Scope, call: ast.Call, model: nn.Module) -> bool:
    """Return whether ``eval()`` is called on a part of a model, or on each of several modules."""
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    if not isinstance(owner, ast.Name):
        return isinstance(owner, ast.Attribute | ast.Subscript)
    value = scope.variables.get(owner.id)
    is_inner = isinstance(value, nn.Module) and value is not model and any(value is m for m in model.modules())
    return is_inner or owner.id in ("m", "mod", "module", "layer", "bn", "norm")


def _has_statistics(norm: _BatchNorm) -> bool:
    return norm.track_running_stats and norm.num_batches_tracked is not None and int(norm.num_batches_tracked) > 0
