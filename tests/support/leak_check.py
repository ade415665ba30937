"""Nothing may outlive a test: no thread, no child process, no open file, pipe or socket.

What a library opens once and keeps for good (a thread pool of torch, tqdm's monitor) is listed here with its reason.
A test that cannot keep the rule says why: ``@pytest.mark.leaks("reason")``.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE_S = 3.0
DESCRIPTORS = Path("/proc/self/fd")

# Threads of libraries that live as long as the process, by the beginning of their names.
LASTING_THREADS = (
    "tqdm",
    "TMonitor",  # tqdm's monitor
    "pydevd",  # a debugger
    "pytest_timeout",
    "asyncio_",  # the default pool of an event loop that pytest-jupyter or anyio keeps
    "IPythonHistorySavingThread",
    "Profile",  # distributed's profiler, one per process
    "Dask-",
    "TCP-Executor",
    "Comm-Executor",
)
# Descriptors that say nothing about a test: devices, event and timer handles, shared memory, caches of the interpreter.
LASTING_TARGETS = ("/dev/", "anon_inode:", "/memfd:", "/proc/", "/sys/")
LASTING_SUFFIXES = (".so", ".pyc", ".py", ".ttf", ".zip")


@dataclass
class Held:
    """What this process holds at one moment."""

    threads: dict[int, str] = field(default_factory=dict)
    children: dict[int, str] = field(default_factory=dict)
    descriptors: dict[str, str] = field(default_factory=dict)

    def since(self, before: Held) -> list[str]:
        """Return one line per thing that is new since `before`."""
        lines = [f"thread {name}" for key, name in self.threads.items() if key not in before.threads]
        lines += [f"child process {pid}: {what}" for pid, what in self.children.items() if pid not in before.children]
        fresh = [target for key, target in self.descriptors.items() if before.descriptors.get(key) != target]
        return lines + [f"open descriptor {target}" for target in fresh]


def _threads() -> dict[int, str]:
    alive = (t for t in threading.enumerate() if t is not threading.main_thread() and t.is_alive())
    return {id(t): t.name for t in alive if not t.name.startswith(LASTING_THREADS)}


def _children() -> dict[int, str]:
    found = {}
    for child in psutil.Process().children(recursive=True):
        try:
            if child.status() != psutil.STATUS_ZOMBIE:
                found[child.pid] = " ".join(child.cmdline())[:160]
        except psutil.Error:  # it ended while we looked
            continue
    return found


def _descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir(DESCRIPTORS) if DESCRIPTORS.exists() else ():
        try:
            target = os.readlink(DESCRIPTORS / name)
        except OSError:  # the listing's own descriptor
            continue
        if not target.startswith(LASTING_TARGETS) and not target.removesuffix(" (deleted)").endswith(LASTING_SUFFIXES):
            found[name] = target
    return found


def held() -> Held:
    """Return what this process holds now."""
    return Held(_threads(), _children(), _descriptors())


def leaked(before: Held, *, grace_s: float = GRACE_S) -> list[str]:
    """Return what is held beyond `before`, after `grace_s` seconds in which it could go away."""
    end = time.monotonic() + grace_s
    left = held().since(before)
    while left and time.monotonic() < end:
        gc.collect()
        time.sleep(0.05)
        left = held().since(before)
    return left


def endpoints_left(folder: Path) -> list[str]:
    """Return the endpoint processes of workspaces in `folder`: they detach, so they are nobody's children."""
    found = []
    for file in [*folder.glob(".nbops/endpoints/*.json"), *folder.glob("*/.nbops/endpoints/*.json")]:
        try:
            pid = int(json.loads(file.read_text()).get("pid") or 0)
        except (OSError, ValueError):  # it ended while we looked
            continue
        if pid and psutil.pid_exists(pid):
            found.append(f"endpoint process {pid} of {file.name}")
    return found


@pytest.fixture(autouse=True)
def _signals_stay() -> Iterator[None]:
    """Put handlers of signals back, whatever a test did: one that swallows SIGINT would spoil a later test."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler and handler is not None:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _nothing_leaks(request: pytest.FixtureRequest, tmp_path: Path, _signals_stay: None) -> Iterator[None]:
    marker = request.node.get_closest_marker("leaks")
    if marker is not None:
        if not marker.args:
            raise pytest.UsageError("pytest.mark.leaks needs the reason")
        yield
        return
    if "kernel" in request.fixturenames:  # Jupyter's client keeps one event loop for the process
        from jupyter_core.utils import ensure_event_loop

        ensure_event_loop()
    before = held()
    yield
    left = leaked(before) + endpoints_left(tmp_path)
    if left:
        pytest.fail("left behind by the test:\n  " + "\n  ".join(left), pytrace=False)
