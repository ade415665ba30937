"""Starting an endpoint's process and ending it. Knows files and processes; no records."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from nbops.core.errors import EndpointError, NotFound
from nbops.serving import descriptor as runtime_file
from nbops.serving.descriptor import Descriptor, Paths

_POLL_S = 0.02
_TAIL_LINES = 12


def launch(paths: Paths, *, start_timeout_s: float = 60.0) -> Descriptor:
    """Start the process of the descriptor in `paths` and return the descriptor once it listens.

    It runs in a session of its own, so it gets neither the interrupt of a kernel nor the signals
    of its restart; and it is no child of this process.

    Raises
    ------
    EndpointError
        It died or failed before it was ready (with the end of its log), or took too long.
    """
    until = time.monotonic() + start_timeout_s
    fd = os.open(paths.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        # -P: the working directory must not shadow a module
        subprocess.run(  # noqa: S603  (our own interpreter and module)
            [sys.executable, "-P", "-m", "nbops.serving.process", os.fspath(paths.descriptor)],
            stdin=subprocess.DEVNULL,
            stdout=fd,
            stderr=fd,
            start_new_session=True,
            check=False,
            timeout=start_timeout_s,
        )
        while time.monotonic() < until:
            known = runtime_file.read(paths.descriptor)
            if known.state == "ready":
                return known
            if known.state == "failed" or not known.is_alive:
                raise _failed(paths, known.error or "its process ended")
            time.sleep(_POLL_S)
        raise _failed(paths, f"not ready within {start_timeout_s:g} s")
    except BaseException as error:  # an interrupt too must leave no half-started process
        end(paths, grace_s=0.0)
        if isinstance(error, subprocess.TimeoutExpired):
            raise _failed(paths, f"not ready within {start_timeout_s:g} s") from None
        raise
    finally:
        os.close(fd)


def end(paths: Paths, *, grace_s: float) -> None:
    """End the process and remove its runtime files; SIGTERM, and SIGKILL after `grace_s`. Twice is fine."""
    try:
        known = runtime_file.read(paths.descriptor)
    except NotFound:
        return
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 10.0)):
        if not known.is_alive:
            break
        if wait_s:
            _signal(known, number, wait_s)
    runtime_file.remove(paths)


def _signal(known: Descriptor, number: int, wait_s: float) -> None:
    try:
        os.kill(known.pid, number)
    except ProcessLookupError:
        return
    until = time.monotonic() + wait_s
    while known.is_alive and time.monotonic() < until:
        time.sleep(_POLL_S)


def tail(paths: Paths, lines: int = _TAIL_LINES) -> str:
    """Return the last lines of the log, or an empty string."""
    if not paths.log.exists():
        return ""
    return "\n".join(paths.log.read_text(errors="replace").splitlines()[-lines:])


def _failed(paths: Paths, why: str) -> EndpointError:
    log = tail(paths)
    return EndpointError(
        f"the endpoint did not start: {why}" + (f"\n{log}" if log else ""), hint=f"Read its log: {paths.log}"
    )
