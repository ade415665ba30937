"""A crashed module with all that an explanation of it needs, and what holds for each: type, device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from nbops.debugging.places import Place
from nbops.debugging.preflight.explaining import Explanation
from nbops.debugging.preflight.mending import changed_input, resized_call
from nbops.debugging.preflight.passes import Crash, Pass
from nbops.debugging.preflight.repairs import Repair, resized, with_dtype, with_input
from nbops.debugging.preflight.subject import Subject
from nbops.debugging.specs import dtype_name, listed, shape_of, spec


class Site:
    """A crashed module with all that an explanation of it needs."""

    def __init__(self, subject: Subject, crash: Crash, made: Pass) -> None:
        if crash.module is None:
            raise ValueError("no module was running")
        self.subject = subject
        self.crash = crash
        self.made = made
        self.module: nn.Module = crash.module
        self.path = crash.path
        self.kind = next(k for k in type(crash.module).__mro__ if k.__module__.startswith("torch.")).__name__
        self.x: Any = crash.args[0] if crash.args else next(iter(crash.kwargs.values()), None)

    @property
    def place(self) -> Place | None:
        """The line that made the module."""
        return self.subject.place_of(self.path)

    @property
    def after(self) -> str:
        """``, which layer 'conv2' gave``, or that it is the batch."""
        before = self.crash.before
        if before is None:
            return ", which is the batch"
        return f", after layer '{before.path or self.subject.name}' ({before.kind}) gave {before.gave}"

    def shape(self, what: str, *repairs: Repair, expected: str, **more: Any) -> Explanation:
        """Return the explanation of a wrong shape; the line to change is the one that made the module."""
        return self.explained("shape-mismatch", what, *repairs, expected=expected, **more)

    def explained(self, check: str, what: str, *repairs: Repair, expected: str, **more: Any) -> Explanation:
        """Return an explanation at this module."""
        ordered = sorted(repairs, key=lambda repair: -repair.confidence)
        before = self.crash.before
        evidence: dict[str, Any] = {"module": self.kind}
        if before is not None:
            evidence |= {"previous_layer": before.path, "previous_output": before.gave}
        return Explanation(
            check, self.subject.called(self.path), what, why=f"It was given {spec(self.x)}{self.after}.",
            got=spec(self.x), expected=expected, repairs=tuple(ordered), place=self.place, called=self.crash.place,
            evidence=evidence, **more,
        )  # fmt: skip

    def size(self, setting: str, old: Any, new: Any, *, confidence: float, text: str = "",
             name: str = "shape-mismatch", **also: Any) -> Repair:  # fmt: skip
        """Return the repair that gives the module another size."""
        settings = {setting: new, **also}
        words = ", ".join(f"{name}={value}" for name, value in settings.items())
        return Repair(
            text or f"{setting} of '{self.path}' is {old}, and what it is given has {new}",
            f"Set {words} in '{self.path}'.", f"nn.{self.kind}({words}, …)", confidence,
            apply=resized(self.path, **settings), name=name,
            patch=resized_call(self.place, self.kind, {setting: old}, settings),
        )  # fmt: skip

    def input(
        self, text: str, code: str, change: Callable[[Tensor], Any], *, confidence: float, name: str = "axes-swapped"
    ) -> Repair:
        """Return the repair that changes what the module is given."""
        call = f"{code}  # before '{self.path}'"
        return Repair(
            text,
            f"Write {code} before '{self.path}'.",
            call,
            confidence,
            apply=with_input(self.path, change),
            name=name,
            patch=changed_input(self.crash.place, self.place, self.path, code),
        )


def explain_device(site: Site, x: Tensor) -> Explanation | None:
    """Return the explanation of an input on another device than the weights."""
    weight = next(iter(site.module.parameters()), None)
    if weight is None or weight.device == x.device:
        return None
    fix = Repair(
        f"the model is on {weight.device}, and its input on {x.device}", f"Move the batch: x.to('{weight.device}').",
        f"x = x.to('{weight.device}')", 0.9, name="device-mismatch",
    )  # fmt: skip
    return site.explained(
        "device-mismatch", f"'{site.path}' is on {weight.device} and was given a tensor on {x.device}", fix,
        expected=f"a tensor on {weight.device}",
    )  # fmt: skip


def explain_dtype(site: Site, x: Tensor) -> Explanation | None:
    """Return the explanation of an input of another type than the weights."""
    weight = next((p for p in site.module.parameters() if p.is_floating_point()), None)
    if weight is None or weight.dtype == x.dtype:
        return None
    want, have = dtype_name(weight.dtype), dtype_name(x.dtype)
    cast = {"float32": ".float()", "float64": ".double()", "float16": ".half()"}.get(want, f".to(torch.{want})")
    repairs = [Repair(
        f"the input is {have} where the weights are {want}" + ("; NumPy makes float64" if have == "float64" else ""),
        f"Convert it: x{cast}, best where the data set makes its tensors.", f"x = x{cast}", 0.9,
        apply=with_dtype(site.path, weight.dtype), name="dtype-mismatch",
    )]  # fmt: skip
    if have == "uint8":
        repairs[0] = Repair("the images are bytes from 0 to 255", "Convert and scale them: x.float() / 255.",
                            "x = x.float() / 255", 0.95, apply=with_dtype(site.path, weight.dtype),
                                name="inputs-not-scaled")  # fmt: skip
    if have in ("float64", "float16", "bfloat16"):
        repairs.append(Repair(f"the model should compute in {have}", f"Convert the model: model.to(torch.{have}).",
                              f"model = model.to(torch.{have})", 0.3, name="dtype-mismatch"))  # fmt: skip
    what = f"'{site.path}' ({site.kind}) has {want} weights and was given {have}"
    return site.explained("dtype-mismatch", what, *repairs, expected=f"{want} {listed(shape_of(x))}")
