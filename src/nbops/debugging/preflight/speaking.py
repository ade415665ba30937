"""How explanations at a line of ``forward()`` are put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbops.debugging.preflight.explaining import Explanation
from nbops.debugging.preflight.passes import Crash
from nbops.debugging.preflight.repairs import Repair
from nbops.debugging.preflight.subject import Subject
from nbops.debugging.specs import spec

Rewrite = Callable[[str, tuple[Any, ...], dict[str, Any]], Any]


def made(
    subject: Subject,
    crash: Crash,
    check: str,
    what: str,
    *repairs: Repair,
    expected: str = "",
    got: str = "",
    why: str = "",
) -> Explanation:
    """Return an explanation at a line of ``forward()``."""
    before = crash.before
    if not why and before is not None:
        why = f"The last layer before it, '{before.path or subject.name}' ({before.kind}), gave {before.gave}."
    evidence: dict[str, Any] = {"error": crash.message}
    if crash.call is not None:
        evidence["operation"] = crash.call.name
    if before is not None:
        evidence |= {"previous_layer": before.path, "previous_output": before.gave}
    return Explanation(
        check,
        subject.called(crash.path),
        what,
        why=why,
        expected=expected,
        got=got,
        repairs=tuple(repairs),
        place=crash.place or subject.place_of(crash.path),
        called=crash.place,
        evidence=evidence,
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without a full stop."""
    return str(error).strip().partition("\n")[0][:200].rstrip(".")


def at_call(crash: Crash, change: Callable[[tuple[Any, ...], dict[str, Any]], Any]) -> Rewrite:
    """Return a rewrite of the calls that look like the failed one."""
    failed = crash.call
    name = failed.name if failed is not None else ""
    looks = _looks(failed.args if failed is not None else ())

    def rewrite(called: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return change(args, kwargs) if called == name and _looks(args) == looks else None

    return rewrite


def _looks(args: tuple[Any, ...]) -> list[Any]:
    return [spec(a) for a in args]
