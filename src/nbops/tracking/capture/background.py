"""One thread for what a run remembers but must not wait for: it works while there is work and goes soon after.

Jobs get no time from the caller. Closing a workspace waits for its jobs, a few seconds at most.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable

PATIENCE_S = 10.0
_LINGER_S = 2.0  # to start a thread takes longer than to wake one
_SOON_S = 0.01
_DELAY_S = 0.05  # a run's first moments are its own, and what a burst of runs leaves behind is done together
Job = Callable[[], None]

_log = logging.getLogger("nbops")
_lock = threading.Lock()
_jobs: deque[Job] = deque()
_thread: threading.Thread | None = None
_hurry = threading.Event()
_more = threading.Event()
_wait_s = 0.0
_said: set[str] = set()


def submit(job: Job, *, soon: bool = False) -> None:
    """Do `job` on the background thread, `soon` or when a moment has passed; at the interpreter's end, now."""
    global _thread, _wait_s
    delay_s = _SOON_S if soon else _DELAY_S
    with _lock:
        _wait_s = min(_wait_s, delay_s) if _jobs else delay_s
        _jobs.append(job)
        _more.set()
        if _thread is not None:
            return
        _thread = threading.Thread(target=_work, name="nbops-capture", daemon=True)
        try:
            _thread.start()
            return
        except RuntimeError:  # the interpreter ends: it starts no thread any more
            _thread = None
    _do_all()


def drain(patience_s: float = PATIENCE_S) -> bool:
    """Wait until all jobs are done; return whether they are."""
    thread = _thread
    if thread is not None and thread is not threading.current_thread():
        _hurry.set()
        _more.set()
        thread.join(patience_s)
    return not _jobs and _thread is None


def is_here() -> bool:
    """Return whether the calling thread is the background thread."""
    return threading.current_thread() is _thread


def tell_once(what: str, error: Exception) -> None:
    """Log that something could not be captured: once per kind of error."""
    said = f"{what}: {type(error).__name__}"
    if said not in _said:
        _said.add(said)
        _log.warning("nbops could not record %s: %s", what, str(error).partition("\n")[0])


def _work() -> None:
    global _thread
    is_idle = False
    while True:
        with _lock:
            if not _jobs and (is_idle or _hurry.is_set()):
                _thread = None
                _hurry.clear()
                return
            has_work, wait_s = bool(_jobs), _wait_s
            _more.clear()
        if has_work:
            _hurry.wait(wait_s)  # else it would take the interpreter's lock from the caller at once
            _do_all()
        is_idle = not has_work and not _hurry.is_set() and not _more.wait(_LINGER_S)


def _do_all() -> None:
    while True:
        with _lock:
            if not _jobs:
                return
            job = _jobs.popleft()
        try:
            job()
        except Exception as error:
            tell_once("part of a run's context", error)


def _after_fork() -> None:
    """A child has none of the parent's threads and does none of its jobs."""
    global _thread, _lock, _hurry, _more
    _lock, _thread, _hurry, _more = threading.Lock(), None, threading.Event(), threading.Event()
    _jobs.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
