"""A remedy as a cell of its own, to edit and to run: nothing is changed behind anybody's back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbops.core.errors import NotFound, did_you_mean
from nbops.core.records import Cause, Diagnosis
from nbops.debugging.diffs import apply_patch, fits


def remedy(found: Sequence[Diagnosis], rule: str, *, cause: str | None = None, source: str = "") -> str:
    """Return the remedy of the last finding of a rule as code: what was found as a comment, then what to run.

    That is the cell with the patch applied. A patch that does not fit the cell stands in the comment, and it says so.

    Parameters
    ----------
    found : sequence of Diagnosis
    rule : str
    cause : str, optional
        Name of one of its causes; the likeliest that has a patch by default, else the likeliest.
    source : str
        The text of the cell as it is now; "" where there is none.

    Raises
    ------
    NotFound
        The rule found nothing, or has no such cause.
    """
    one = next((d for d in reversed(found) if d.name == rule), None)
    if one is None:
        names = sorted({d.name for d in found})
        raise NotFound(f"'{rule}' found nothing", hint=did_you_mean(rule, names) or "Look at watch.diagnoses.")
    chosen = _chosen(one, cause)
    when = f"at step {one.step:,}" if one.step >= 0 else "before the first step"
    said = [f"{one.name} {when} in {one.layer}: {one.what}", f"Fix: {(chosen.fix if chosen else '') or one.fix}"]
    code = chosen.example if chosen is not None else ""
    if chosen is not None and chosen.patch:
        code = apply_patch(source, chosen.patch) if fits(source, chosen.patch) else ""
        said += [chosen.patch] if code else ["The patch does not fit this code; make the change by hand:", chosen.patch]
    comment = "\n".join(f"# {line}" for text in said for line in text.splitlines())
    return f"{comment}\n{code}".rstrip() + "\n"


def _chosen(one: Diagnosis, name: str | None) -> Cause | None:
    if name is None:
        with_code = [c for c in one.causes if c.patch] or [c for c in one.causes if c.example] or one.causes
        return with_code[0] if with_code else None
    for cause in one.causes:
        if cause.name == name:
            return cause
    names = [cause.name for cause in one.causes]
    raise NotFound(f"'{one.name}' has no cause '{name}'", hint=f"Use one of: {', '.join(names)}.")


def insert_below(code: str) -> bool:
    """Put a cell with `code` under the one that executes, not run; return whether there is a notebook to do so."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell: Any = get_ipython()
    if getattr(shell, "kernel", None) is None:
        return False
    shell.set_next_input(code)
    return True
