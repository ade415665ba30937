"""What the cells that ran say: statements that learn from all rows, before the split that comes after them."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# classes of scikit-learn and its relatives whose fit learns numbers from rows; others (encoders of categories, hashing,
# row-wise normalizers, polynomials) learn none, or none that tells of single rows
_LEARNS = re.compile(
    r"(StandardScaler|MinMaxScaler|MaxAbsScaler|RobustScaler|PowerTransformer|QuantileTransformer|KBinsDiscretizer"
    r"|Imputer|PCA|TruncatedSVD|NMF|FastICA|FactorAnalysis|LinearDiscriminantAnalysis|LatentDirichletAllocation"
    r"|SelectKBest|SelectPercentile|SelectFpr|SelectFdr|SelectFromModel|SequentialFeatureSelector|RFE|RFECV"
    r"|VarianceThreshold|TargetEncoder|LeaveOneOutEncoder|CatBoostEncoder|JamesSteinEncoder|WOEEncoder"
    r"|TfidfVectorizer|TfidfTransformer|CountVectorizer)$"
)
# these bring the labels of test rows into training, or the rows themselves: noise gets a splendid score
_GRAVE = re.compile(r"^(Select|Sequential|RFE|TargetEnc|LeaveOneOut|CatBoost|JamesStein|WOE|LinearDisc)|copies|groups")
_COPIES = re.compile(r"^(fit_resample|resample)$")
_FUNCTIONS = re.compile(r"^(scale|minmax_scale|maxabs_scale|robust_scale|power_transform|quantile_transform|zscore)$")
_FIGURES = frozenset({"mean", "std", "var", "min", "max", "median", "quantile", "mode", "sum"})
_SPLITS = frozenset({"train_test_split", "split", "random_split"})
_ROWWISE = {"axis": (1, "columns")}
_BLOCKS = (ast.If, ast.For, ast.With, ast.Try, ast.While)
_MOST_CELLS = 400


@dataclass(frozen=True)
class Learned:
    """One statement that learned from all rows.

    Attributes
    ----------
    where : str
        ``cell [3], line 2``, or ``line 12``.
    code : str
        The statement.
    what : str
        What it does, in words.
    split : str
        Where the split is that came after.
    """

    where: str
    code: str
    what: str
    split: str

    @property
    def is_grave(self) -> bool:
        """Whether labels of test rows, or the rows themselves, get into training; else figures of them do."""
        return bool(_GRAVE.search(self.what))


@dataclass(frozen=True)
class _Line:
    """A statement with its place."""

    node: ast.stmt
    where: str
    code: str


def learned_before_split(cells: Sequence[tuple[str, str]] | None = None, *, is_now: bool = False) -> list[Learned]:
    """Return the statements before a split that learn from all of its rows, in the order of the code.

    Looked at is the split that made what the last ``nb.leaks`` is about, or the last one; so a cell that was mended and
    ran again counts as it is now.

    Parameters
    ----------
    cells : sequence of (str, str), optional
        Name and source of each cell in the order in which they ran; those of this notebook, or this script, if None.
    is_now : bool
        The split is being made by the last cell: nothing is said if there is none in it.
    """
    ran = list(cells if cells is not None else ran_cells())[-_MOST_CELLS:]
    for flow in _flows(ran):
        splits = [(number, call) for number, line in enumerate(flow) for call in _splits(line.node)]
        if is_now:
            cell = flow[-1].where.partition(",")[0] if flow else ""
            splits = [(n, call) for n, call in splits if flow[n].where.partition(",")[0] == cell]
        else:
            splits = _asked_for(flow, splits)[-1:]
        found = {(one.where, one.code): one for number, call in splits for one in _before(flow, number, call)}
        if found:
            return list(found.values())
    return []


def ran_cells() -> list[tuple[str, str]]:
    """Return the cells that ran in this kernel, the present one too; the script's source where there is no kernel."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None:
        typed = list(shell.history_manager.input_hist_parsed)
        return [(f"cell [{n}]", source) for n, source in enumerate(typed) if source.strip()]
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    try:
        return [("", Path(path).read_text(encoding="utf-8"))] if path and str(path).endswith(".py") else []
    except (OSError, UnicodeDecodeError):
        return []


def _flows(cells: Sequence[tuple[str, str]]) -> Iterator[list[_Line]]:
    """Yield the statements of the cells one after the other, and those of each function by themselves."""
    main: list[_Line] = []
    for name, source in cells:
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError):  # a cell that failed, or is no Python
            continue
        lines = list(_lines(tree.body, name, source))
        main += lines
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield list(_lines(node.body, name, source))
    yield main


def _lines(body: Sequence[ast.stmt], cell: str, source: str) -> Iterator[_Line]:
    for node in body:
        if isinstance(node, _BLOCKS):
            for part in ("body", "orelse", "finalbody"):
                yield from _lines(getattr(node, part, []), cell, source)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            code = " ".join((ast.get_source_segment(source, node) or "").split())
            yield _Line(node, f"{cell}, line {node.lineno}" if cell else f"line {node.lineno}", code[:160])


def _asked_for(flow: Sequence[_Line], splits: list[tuple[int, ast.Call]]) -> list[tuple[int, ast.Call]]:
    """Return the splits that what the last ``leaks`` is asked about was made by; all if it is not in the code."""
    for number in range(len(flow) - 1, -1, -1):
        for call in ast.walk(flow[number].node):
            if isinstance(call, ast.Call) and _name(call.func) == "leaks":
                wanted = set(_names(call))
                for at in range(number - 1, -1, -1):
                    made, value = _assigned(flow[at].node)
                    if not made & wanted:
                        continue
                    here = [one for one in splits if one[0] == at]
                    if here:
                        return here
                    wanted |= set(_names(value)) if value is not None else set()
                return []
    return splits


def _splits(node: ast.stmt) -> Iterator[ast.Call]:
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and _name(call.func) in _SPLITS and call.args:
            owner = call.func.value if isinstance(call.func, ast.Attribute) else None
            is_text = _name(call.func) == "split" and (owner is None or _root(owner) not in ("nb", "nbops"))
            if not is_text:
                yield call


def _before(flow: Sequence[_Line], number: int, call: ast.Call) -> Iterator[Learned]:
    """Walk back from a split through what its data was made of."""
    wanted = {name for arg in call.args for name in _names(arg)}
    places: list[Learned] = []
    for at in range(number - 1, -1, -1):
        line = flow[at]
        made, value = _assigned(line.node)
        uses = wanted & set(_names(value)) if value is not None else set()
        touches = bool(made & wanted)
        if touches and value is not None:
            what = _what(value, wanted | made, flow, at)
            if what:
                places.append(Learned(line.where, line.code, what, flow[number].where))
            if not isinstance(line.node, ast.AugAssign) and _is_plain(line.node):
                wanted -= made
            wanted |= set(_names(value))
        elif not made and uses and value is not None and (what := _fits(value, wanted, flow, at)):
            places.append(Learned(line.where, line.code, what, flow[number].where))
    yield from reversed(places)


def _assigned(node: ast.stmt) -> tuple[set[str], ast.expr | None]:
    """Return the roots of the names that a statement sets, and what it sets them to."""
    if isinstance(node, ast.Assign):
        return {root for target in node.targets for root in _roots(target)}, node.value
    if isinstance(node, ast.AugAssign):
        return set(_roots(node.target)), ast.BinOp(node.target, node.op, node.value)
    if isinstance(node, ast.AnnAssign):
        return set(_roots(node.target)), node.value
    if isinstance(node, ast.Expr):
        call = node.value
        in_place = isinstance(call, ast.Call) and any(
            key.arg == "inplace" and isinstance(key.value, ast.Constant) and key.value.value is True
            for key in call.keywords
        )
        return (set(_roots(call.func)) if in_place and isinstance(call, ast.Call) else set()), node.value
    return set(), None


def _is_plain(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return all(isinstance(target, ast.Name | ast.Tuple) for target in targets)


def _what(value: ast.expr, wanted: set[str], flow: Sequence[_Line], at: int) -> str:
    """Return what an expression learns from the rows of `wanted`, in words; an empty text if nothing."""
    for call in (node for node in ast.walk(value) if isinstance(node, ast.Call)):
        name = _name(call.func)
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        if _COPIES.match(name):
            return "copies rows, some of which end up on both sides"
        if name == "fit_transform" and owner is not None and _learns(owner, flow, at):
            return f"{_class(owner, flow, at)} learns from all rows"
        if name == "transform" and owner is not None and isinstance(owner, ast.Call) and _name(owner.func) == "fit":
            inner = owner.func.value if isinstance(owner.func, ast.Attribute) else owner
            if _learns(inner, flow, at):
                return f"{_class(inner, flow, at)} learns from all rows"
        if _FUNCTIONS.match(name) and not _is_rowwise(call):
            return f"{name} takes mean and spread of all rows"
        if name == "transform" and isinstance(owner, ast.expr) and "groupby" in ast.dump(owner) and _is_figure(call):
            return "figures of groups are taken over all rows"
    return _scaled(value, wanted)


def _fits(value: ast.expr, wanted: set[str], flow: Sequence[_Line], at: int) -> str:
    """Return what a statement such as ``scaler.fit(X)`` learns."""
    for call in (node for node in ast.walk(value) if isinstance(node, ast.Call)):
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        if (
            _name(call.func) == "fit" and owner is not None and call.args
            and wanted & set(_names(call.args[0])) and _learns(owner, flow, at)
        ):  # fmt: skip
            return f"{_class(owner, flow, at)} learns from all rows"
    return ""


def _scaled(value: ast.expr, wanted: set[str]) -> str:
    """Return whether numbers are moved, divided or filled by figures of the very rows."""
    for node in ast.walk(value):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub | ast.Div):
            since = (
                isinstance(node.op, ast.Sub) and isinstance(node.right, ast.Call) and _name(node.right.func) == "min"
            )
            sides = ((node.left, node.right), (node.right, node.left))
            if not since and any(_has_figure(side, wanted | set(_names(other))) for side, other in sides):
                return "rows are scaled by figures of all rows"
        elif isinstance(node, ast.Call) and _name(node.func) in ("fillna", "fill_null", "nan_to_num", "clip"):
            given = [*node.args, *(key.value for key in node.keywords)]
            if any(_has_figure(arg, wanted | set(_names(node.func))) for arg in given):
                return "gaps are filled by figures of all rows"
    return ""


def _has_figure(node: ast.expr, wanted: set[str]) -> bool:
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and _name(call.func) in _FIGURES and not _is_rowwise(call):
            owner = call.func.value if isinstance(call.func, ast.Attribute) else None
            of = [*([owner] if owner is not None else []), *call.args]
            if any(wanted & set(_names(part)) for part in of):
                return True
    return False


def _is_rowwise(call: ast.Call) -> bool:
    for key in call.keywords:
        if key.arg == "axis" and isinstance(key.value, ast.Constant):
            return key.value.value in _ROWWISE["axis"]
        if key.arg == "axis" and isinstance(key.value, ast.UnaryOp):
            return True  # the last axis
    return False


def _is_figure(call: ast.Call) -> bool:
    return any(isinstance(arg, ast.Constant) and arg.value in _FIGURES for arg in call.args)


def _learns(owner: ast.expr, flow: Sequence[_Line], at: int) -> bool:
    return bool(_LEARNS.search(_class(owner, flow, at)))


def _class(owner: ast.expr, flow: Sequence[_Line], at: int) -> str:
    """Return the class of an object by the call that made it, also within a pipeline's list."""
    if isinstance(owner, ast.Call):
        inner = [_name(call.func) for call in ast.walk(owner) if isinstance(call, ast.Call)]
        return next((name for name in inner if _LEARNS.search(name)), inner[0] if inner else "")
    root = _root(owner)
    for line in reversed(flow[:at]):
        made, value = _assigned(line.node)
        if root in made and isinstance(value, ast.Call):
            return _class(value, flow, at)
    return ""


def _name(func: ast.expr) -> str:
    return func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""


def _root(node: ast.expr) -> str:
    return next(iter(_roots(node)), "")


def _roots(node: ast.AST) -> Iterator[str]:
    """Yield the names at the root of targets: ``df`` of ``df.loc[:, "a"]``, both of ``a, b``."""
    if isinstance(node, ast.Tuple | ast.List):
        for part in node.elts:
            yield from _roots(part)
    elif isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        yield from _roots(node.value)
    elif isinstance(node, ast.Call):
        yield from _roots(node.func)
    elif isinstance(node, ast.Name):
        yield node.id


def _names(node: ast.AST) -> Iterator[str]:
    return (part.id for part in ast.walk(node) if isinstance(part, ast.Name))
