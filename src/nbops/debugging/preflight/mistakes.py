"""What errors of plain Python in the forward pass mean: names that are not there, a tuple where a tensor is needed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor, nn

from nbops.core.errors import did_you_mean
from nbops.debugging.calling import forward_takes
from nbops.debugging.places import methods_of, place_of_method, user_classes
from nbops.debugging.preflight.explaining import Explanation
from nbops.debugging.preflight.mending import line_patch, unpacked
from nbops.debugging.preflight.passes import Crash, Pass
from nbops.debugging.preflight.repairs import Repair
from nbops.debugging.preflight.speaking import first_line, made
from nbops.debugging.preflight.subject import Subject
from nbops.debugging.specs import spec

_NO_ATTRIBUTE = re.compile(r"'(?P<kind>\w+)' object has no attribute '(?P<name>\w+)'")
_NO_TENSOR = re.compile(r"must be Tensor, not (?P<kind>[\w.]+)")
_RETURNS_STATE = ("RNN", "LSTM", "GRU", "MultiheadAttention")


def explain_mistake(subject: Subject, crash: Crash, done: Pass) -> Explanation:
    """Return what an error that is none of torch's operations means; in the plainest case what Python said."""
    for explain in (_no_forward, _tuple, _none, _no_tensor, _attribute, _arguments, _unpacking):
        found = explain(subject, crash, done)
        if found is not None:
            return found
    return made(
        subject,
        crash,
        "error-in-forward",
        f"{type(crash.error).__name__}: {first_line(crash.error)}",
        expected="a forward pass that returns",
        got=f"{type(crash.error).__name__} with {_given(crash)}",
    )


def _given(crash: Crash) -> str:
    return ", ".join(spec(a) for a in [*crash.args, *crash.kwargs.values()])


def _no_forward(subject: Subject, crash: Crash, done: Pass) -> Explanation | None:
    if not isinstance(crash.error, NotImplementedError) or "forward" not in str(crash.error):
        return None
    module = crash.module or subject.model
    kind = type(module).__name__
    if isinstance(module, nn.ModuleList | nn.ModuleDict | nn.ParameterList):
        fix = Repair(
            f"a {kind} only holds modules; it cannot be called",
            "Loop over it, or use nn.Sequential.",
            "for layer in self.layers:\n    x = layer(x)",
            0.9,
            name="wrong-call",
        )
        return made(
            subject,
            crash,
            "wrong-call",
            f"'{crash.path}' is a {kind} and was called",
            fix,
            expected="a loop over its modules",
            got=f"a call with {_given(crash)}",
        )
    names = {name for one in user_classes(type(module)) for name, _ in methods_of(one)}
    near = next((name for name in names if _is_near(name, "forward")), "")
    fix = Repair(
        f"the method is called '{near}'" if near else "the class has no method forward",
        f"Rename '{near}' to 'forward'."
        if near
        else "Define forward(self, x) in the class, not inside another method.",
        "def forward(self, x):",
        0.95,
        patch=_renamed(type(module), near),
        name="wrong-call",
    )
    explanation = made(
        subject,
        crash,
        "wrong-call",
        f"{kind} has no forward()",
        fix,
        expected="a method forward",
        got=f"the methods {', '.join(sorted(names)) or 'none'}",
    )
    place = place_of_method(type(module), near) if near else subject.place_of(crash.path)
    return replace(explanation, place=place or explanation.place)


def _renamed(kind: type, name: str) -> str:
    place = place_of_method(kind, name) if name else None
    return line_patch(place, place.code.replace(f"def {name}(", "def forward(", 1)) if place is not None else ""


def _is_near(name: str, wanted: str) -> bool:
    return bool(did_you_mean(name.strip("_").lower(), [wanted])) and name != wanted


def _tuple(subject: Subject, crash: Crash, done: Pass) -> Explanation | None:
    """Explain a tuple (of an RNN, of attention) where a tensor is needed."""
    text = str(crash.error)
    given = next((a for a in crash.args if isinstance(a, list | tuple)), None)
    is_called_with = given is not None and isinstance(crash.error, TypeError | AttributeError)
    if not is_called_with and "not tuple" not in text and "'tuple' object" not in text:
        return None
    source = next((v for v in reversed(done.visits) if v.gave.startswith("tuple")), crash.before)
    if source is None:
        return None
    path = source.path or subject.name
    hint = " (output, state)" if source.kind in _RETURNS_STATE else ""
    fix = Repair(
        f"'{path}' ({source.kind}) returns a tuple{hint}",
        "Unpack it: x, _ = …; inside nn.Sequential write a small module for it.",
        f"x, _ = self.{path}(x)",
        0.9,
        patch=unpacked(crash.place, source.path, is_last_step=_wants_last_step(subject, source.path)),
        name="output-not-tensor",
    )
    return made(
        subject,
        crash,
        "wrong-call",
        f"a tuple reached {_where(subject, crash)}, which takes a tensor",
        fix,
        expected="a tensor",
        got=source.gave,
    )


def _wants_last_step(subject: Subject, path: str) -> bool:
    """Return whether there is one target for a whole sequence, which the layer reads batch first."""
    target = next((t for _, t in subject.targets), None)
    x = next((t for _, t in subject.inputs), None)
    if target is None or x is None or x.ndim != 3 or not getattr(subject.module(path), "batch_first", False):
        return False
    return target.ndim == 1 or (target.ndim == 2 and target.shape[1] != x.shape[1])


def _where(subject: Subject, crash: Crash) -> str:
    return f"'{crash.path}'" if crash.path else f"forward() of {subject.name}"


def _none(subject: Subject, crash: Crash, done: Pass) -> Explanation | None:
    """Explain a module that returns nothing."""
    text = str(crash.error)
    if "NoneType" not in text and "None" not in text:
        return None
    source = next((v for v in reversed(done.visits) if v.gave == "None" and not v.path.startswith("loss")), None)
    if source is None:
        return None
    return explain_no_output(subject, crash, source.path)


def explain_no_output(subject: Subject, crash: Crash, path: str) -> Explanation:
    """Return the explanation of a forward() without ``return``."""
    module = subject.module(path)
    fix = Repair(
        f"forward() of {type(module).__name__} has no return",
        "End forward() with: return x",
        "return x",
        0.95,
        name="wrong-call",
    )
    explanation = made(
        subject,
        crash,
        "wrong-call",
        f"forward() of {type(module).__name__} returns None",
        fix,
        expected="a tensor",
        got="None",
    )
    place = place_of_method(type(module), "forward")
    return replace(explanation, place=place or explanation.place, layer=subject.called(path))


def _no_tensor(subject: Subject, crash: Crash, done: Pass) -> Explanation | None:
    """Explain an array, a list or a number where a tensor is needed."""
    match = _NO_TENSOR.search(str(crash.error))
    if match is None or not isinstance(crash.error, TypeError):
        return None
    kind = match["kind"].rpartition(".")[2]
    fix = Repair(
        f"the data set gives {kind} objects, which only a loader's collate_fn turns into tensors",
        "Make a tensor of it: torch.as_tensor(x, dtype=torch.float32).", "x = torch.as_tensor(x, dtype=torch.float32)",
        0.9, name="dtype-mismatch",
    )  # fmt: skip
    what = f"{_where(subject, crash)} was given a {kind}, where it takes a tensor"
    return made(subject, crash, "wrong-call", what, fix, expected="a tensor", got=match["kind"])


def _attribute(subject: Subject, crash: Crash, done: Pass) -> Explanation | None:
    match = _NO_ATTRIBUTE.search(str(crash.error))
    if match is None or not isinstance(crash.error, AttributeError):
        return None
    owner = crash.module or subject.model
    if match["kind"] == "NoneType" or type(owner).__name__ != match["kind"]:
        return None
    known = [*owner._modules, *owner._parameters, *owner._buffers, *(n for n in vars(owner) if not n.startswith("_"))]
    near = did_you_mean(match["name"], known)
    right = near.removeprefix("Did you mean '").removesuffix("'?")
    fix = Repair(
        f"it is called '{right}'" if near else "__init__ does not make it",
        near or f"Make self.{match['name']} in __init__, after super().__init__().",
        f"self.{match['name']} = …",
        0.9,
        patch=line_patch(crash.place, crash.place.code.replace(match["name"], right)) if near and crash.place else "",
        name="wrong-call",
    )
    return made(
        subject,
        crash,
        "wrong-call",
        f"{match['kind']} has no attribute '{match['name']}'",
        fix,
        expected=f"one of {', '.join(known) or 'none: it holds nothing'}",
        got=match["name"],
    )


def _arguments(subject: Subject, crash: Crash, done: Pass) -> Explanation | None:
    text = str(crash.error)
    if not isinstance(crash.error, TypeError) or not re.search(r"(positional|keyword|argument)", text):
        return None
    owner = crash.module or subject.model
    if "forward()" not in text:
        return None
    lacking = _without_self(subject, crash, owner)
    if lacking is not None:
        return lacking
    takes = forward_takes(owner)
    fixes = [Repair(f"forward takes {takes}", f"Call it with {takes}.", "", 0.7, name="wrong-call")]
    if not crash.path:
        fixes.append(
            Repair(
                "the batch reaches the model in another way in your loop",
                "Tell it: nb.preflight(model, batch, forward=lambda model, batch: …)",
                "forward=lambda model, batch: model(batch[0], batch[1])",
                0.6,
                name="wrong-call",
            )
        )
    if isinstance(owner, nn.Sequential):
        fixes.insert(
            0,
            Repair(
                "nn.Sequential passes one value on",
                "Write a class with a forward() for several inputs.",
                "class Net(nn.Module): …",
                0.8,
                name="wrong-call",
            ),
        )
    return made(
        subject,
        crash,
        "wrong-call",
        f"forward() of {type(owner).__name__} was called with other arguments: {first_line(crash.error)}",
        *fixes,
        expected=takes,
        got=_given(crash),
    )


def _without_self(subject: Subject, crash: Crash, owner: nn.Module) -> Explanation | None:
    code = getattr(type(owner).forward, "__code__", None)
    names = code.co_varnames[: code.co_argcount] if code is not None else ("self",)
    if not names or names[0] in ("self", "cls", "_") or len(names) > 1:
        return None
    fix = Repair("the first parameter of a method is self", f"Write def forward(self, {names[0]}):",
                 f"def forward(self, {names[0]}):", 0.95, name="wrong-call")  # fmt: skip
    what = f"forward() of {type(owner).__name__} has no self"
    found = made(
        subject, crash, "wrong-call", what, fix, expected="def forward(self, …)", got=f"def forward({names[0]})"
    )
    return replace(found, place=place_of_method(type(owner), "forward") or found.place)


def _unpacking(subject: Subject, crash: Crash, done: Pass) -> Explanation | None:
    text = str(crash.error)
    if not isinstance(crash.error, ValueError) or "unpack" not in text:
        return None
    given = next((a for a in crash.args if isinstance(a, Tensor)), None)
    fix = Repair(
        "the tensor has another number of axes than the names on the left",
        "Compare with the shape of what is unpacked.",
        "print(x.shape)",
        0.6,
        name="shape-mismatch",
    )
    return made(
        subject,
        crash,
        "wrong-call",
        first_line(crash.error),
        fix,
        expected=next(_numbers(text), ""),
        got=spec(given) if given is not None else _given(crash),
    )


def _numbers(text: str) -> Iterator[str]:
    yield from (f"{n} values" for n in re.findall(r"expected (?:at least )?(\d+)", text))
