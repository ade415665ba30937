"""Saying once what goes wrong beside the work: to the log, which a notebook shows under the cell."""

from __future__ import annotations

import logging

_log = logging.getLogger("nbops")
_said: set[str] = set()


def say_once(about: str, text: str) -> None:
    """Say `text`, unless something was said about the same thing that has not changed since."""
    if about not in _said:
        _said.add(about)
        _log.warning("nbops: %s", text)


def say_changed(about: str, text: str) -> None:
    """Say that what was said about something is over; nothing if nothing was said."""
    if about in _said:
        _said.discard(about)
        _log.warning("nbops: %s", text)
