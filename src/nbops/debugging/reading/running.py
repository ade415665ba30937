"""Reads the code around a call of the user, and says what its rules found; never raises into that code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

from torch import nn

from nbops.debugging.places import caller_frames
from nbops.debugging.preflight.found import Found
from nbops.debugging.reading.facts import read
from nbops.debugging.reading.noting import readings

_FRAMES = 6
_told: dict[tuple[str, str, int, str], tuple[str, int, int]] = {}  # rule, file, line, text: who, its frame, and where
_MOST_TOLD = 500


def findings(
    frame: FrameType | None = None, *, model: nn.Module | None = None, loss: Any = None, optimizers: Sequence[Any] = (),
    batch: Any = None, errors: list[str] | None = None,
) -> list[tuple[str, Found]]:  # fmt: skip
    """Return what the rules find in the code around a frame of the user's, by rule.

    Code that cannot be seen or parsed gives nothing; a rule that fails is noted in `errors`.

    Parameters
    ----------
    frame : FrameType, optional
        Where to begin; the caller's by default. Frames of libraries and of nbops are left out.
    """
    noted: list[str] = [] if errors is None else errors
    try:
        reading = read(_frames(frame or sys._getframe(1)), model=model, loss=loss, optimizers=optimizers, batch=batch)
    except Exception as error:  # what cannot be read is not our user's fault
        noted.append(f"reading: {type(error).__name__}: {error}")
        return []
    found: list[tuple[str, Found]] = []
    for name in readings:
        try:
            found += [(name, one) for one in readings[name](reading)]
        except Exception as error:  # one broken rule must not end a reading
            noted.append(f"reading rule {name}: {type(error).__name__}: {error}")
    reading.forget()
    return list({_key(name, one): (name, one) for name, one in found}.values())


def _frames(frame: FrameType) -> list[FrameType]:
    """Return the user's frames up to the first module or cell: what runs that is none of the training."""
    found: list[FrameType] = []
    for one in caller_frames(frame):
        found.append(one)
        if one.f_code.co_name == "<module>" or len(found) == _FRAMES:
            break
    return found


def untold(found: Sequence[tuple[str, Found]], frame: FrameType, *, by: str) -> list[tuple[str, Found]]:
    """Return what nobody has told of the same lines yet, and note that it is told now.

    What preflight told is not told by a watch again, and what either told is not told again further down in the same
    execution of the same code (a watch of each of two models); a cell that is run again tells everything again.
    """
    fresh = []
    for name, one in found:
        key = _key(name, one)
        who, where, at = _told.get(key, ("", 0, 0))
        is_known = (who == "preflight" and by == "watch") or (where == id(frame) and at < frame.f_lasti)
        if not is_known:
            fresh.append((name, one))
            _told[key] = by, id(frame), frame.f_lasti
    while len(_told) > _MOST_TOLD:
        del _told[next(iter(_told))]
    return fresh


def _key(name: str, found: Found) -> tuple[str, str, int, str]:
    place = found.place
    return (name, place.file, place.line, place.code) if place is not None else (name, "", 0, found.layer)
