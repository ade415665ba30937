"""`nb.diagnose`: what is wrong, likeliest first, and which remedy helps: each is tried before it is advised."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from nbops.core.errors import InvalidInput, NotFound
from nbops.core.records import Cause, Diagnosis
from nbops.debugging.blackbox import snapshots
from nbops.debugging.diffs import apply_patch, is_patch
from nbops.debugging.handle import Watch
from nbops.debugging.places import caller_frames
from nbops.debugging.session import Session, last_session
from nbops.debugging.tensors import unwrap
from nbops.debugging.trying import forking
from nbops.debugging.trying.records import FAILED, HELPS, SAME, WORSE, Advice, Course, Trial, judged

_TRIED = 3  # remedies
_ORDER = (HELPS, SAME, WORSE, FAILED)
_STATUSES = ("error", "warning")


def diagnose(watch: Watch | None = None, *, try_fixes: bool = True, steps: int = 100, budget_s: float = 60.0) -> Advice:
    """Say what is wrong with a watched training, and try the remedies: the same steps with each patch and without.

    The cell (or script) that holds the loop runs again, as it is and with each of up to three patches, in a process of
    its own for some steps, from the weights with which the watch began; your variables stay as they are. What the code
    writes into files it writes again.

    Parameters
    ----------
    watch : Watch, optional
        The last watch of this kernel by default.
    try_fixes : bool
        Whether to try them; else the findings are only ranked.
    steps : int
        Optimizer steps that each may take.
    budget_s : float, seconds
        How long all of it may take.

    Returns
    -------
    Advice
        ``best``, ``trials`` (each with ``verdict``, ``why``, ``patch`` and its losses), ``findings``, ``notes``.

    Raises
    ------
    NotFound
        Nothing was watched yet.
    InvalidInput
        Fewer than ten steps, or a budget that is no positive number.
    """
    if forking.is_trial:  # the cell that is tried calls us again
        raise forking.Enough
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 10:
        raise InvalidInput(f"steps is {steps!r}", hint="Give a whole number from 10.")
    if isinstance(budget_s, bool) or not isinstance(budget_s, int | float) or not budget_s > 0:
        raise InvalidInput(f"budget_s is {budget_s!r}", hint="Give a number of seconds above 0.")
    session = watch._session if watch is not None else last_session()
    if session is None:
        raise NotFound("nothing was watched yet", hint="Call nb.watch(model) before the training loop.")
    found = sorted(
        (d for d in session.judge.findings.diagnoses if d.status in _STATUSES),
        key=lambda d: (_STATUSES.index(d.status), -d.confidence, d.step),
    )
    name = session.label or session.model_name
    if not try_fixes or not found:
        return Advice(name, tuple(found), notes=() if found else ("nothing was found",))
    return _tried(session, name, found, _namespace(session), steps=steps, budget_s=budget_s)


def _tried(
    session: Session, name: str, found: list[Diagnosis], namespace: Mapping[str, Any], *, steps: int, budget_s: float
) -> Advice:
    source, notes = session.source(), []
    wanted = list(_variants(found, source))[:_TRIED] if source else []
    problem = forking.refusal() or _problem(session, source, wanted)
    if problem:
        return Advice(name, tuple(found), notes=(problem,))
    if session.box.start is None:
        notes.append("the weights of the beginning were not kept, so a model that the cell does not make goes on")
    limit_s = budget_s / (1 + len(wanted))

    def run(text: str) -> Course:
        return forking.run_forked(
            _plain(text), namespace, file=session.loop_file or "<cell>", begin=_beginning(session), steps=steps,
            limit_s=limit_s,
        )  # fmt: skip

    before = run(source)
    if not before.losses and not before.error:
        return Advice(name, tuple(found), notes=("the code that holds the loop takes no step when it runs by itself",))
    trials = []
    for diagnosis, cause, text in wanted:
        after = run(text)
        verdict, why = judged(before, after)
        trials.append(Trial(diagnosis.name, cause.name, cause.fix or diagnosis.fix, cause.patch, after, verdict, why))
    trials.sort(key=lambda one: (_ORDER.index(one.verdict), -one.course.fall if one.course.is_whole else 0.0))
    return Advice(name, tuple(found), before, tuple(trials), steps, tuple(notes))


def _variants(found: list[Diagnosis], source: str) -> Iterator[tuple[Diagnosis, Cause, str]]:
    """Iterate over the patched sources: the first cause of each finding, then the others; each patch once."""
    ranked = sorted(
        ((place, number, d, c) for number, d in enumerate(found) for place, c in enumerate(d.causes)),
        key=lambda one: (one[0], one[1]),
    )  # fmt: skip
    known: set[str] = set()
    for _, _, diagnosis, cause in ranked:
        if cause.patch in known or not is_patch(cause.patch):
            continue
        known.add(cause.patch)
        try:
            yield diagnosis, cause, apply_patch(source, cause.patch)
        except InvalidInput:  # of another cell, or of another text of it
            continue


def _problem(session: Session, source: str, wanted: list[Any]) -> str:
    if not source:
        return "the code that holds the training loop was not found"
    if len(session.steppers) > 1:
        return "several optimizers step here, so that the losses of two courses cannot be compared"
    if not wanted:
        return "no finding has a patch that fits the code of the loop; see the remedies in words"
    return ""


def _namespace(session: Session) -> dict[str, Any]:
    """Return the variables that the code of the loop is to find: the notebook's, or those of the script."""
    shell = _shell()
    if shell is not None:
        return dict(shell.user_ns)
    frames = list(caller_frames(sys._getframe(1)))
    own = next((f for f in frames if f.f_code.co_filename == session.loop_file), frames[-1] if frames else None)
    return dict(own.f_globals) if own is not None else {"__name__": "__main__"}


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def _plain(source: str) -> str:
    """Return a cell as Python: without the magic in its first line, with other magics as calls."""
    if source.lstrip().startswith("%%"):
        source = source.lstrip().partition("\n")[2]
    shell = _shell()
    return str(shell.transform_cell(source)) if shell is not None else source


def _beginning(session: Session) -> Callable[[], None]:
    """Return what puts a model and its optimizers back to the first step; to be called in the child."""

    def begin() -> None:
        model, start = session.model, session.box.start
        if model is None or start is None:
            return
        with torch.no_grad():
            snapshots.write(start, unwrap(model))
        for optimizer in session.steppers:
            optimizer.state.clear()
            optimizer.zero_grad()

    return begin
