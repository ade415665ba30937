"""One seed for all random generators of this process, and what the runs of this process are told of it.

torch is never loaded here: what a notebook has loaded is seeded, and what it has not is said.
"""

from __future__ import annotations

import operator
import os
import random
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbops.core.display import Shown
from nbops.core.errors import InvalidInput
from nbops.core.records import Run, replace
from nbops.store.context import current_run
from nbops.store.workspace import workspace

NAME = "seed"  # of the parameter, and of the entry in a run's context
MAX_SEED = (1 << 32) - 1  # of NumPy's global generator; the others take more
_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
_last: int | None = None  # of this process; runs that open later get it


@dataclass(frozen=True)
class Seeded(Shown):
    """The answer of `seed`.

    Attributes
    ----------
    value : int
    generators : tuple of str
        What was seeded: ``random``, ``numpy``, ``torch on the CPU`` …
    settings : tuple of str
        What was set so that equal seeds give equal results.
    left_out : tuple of str
        What still differs from process to process, and what to do about it.
    run : str or None
        Id of the open run whose parameter it became.
    """

    value: int
    generators: tuple[str, ...]
    settings: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    run: str | None = None


def seed(value: int, *, deterministic: bool = True) -> Seeded:
    """Seed the random generators of this process: Python's, NumPy's and, where it is loaded, torch's on all devices.

    The open run gets it as its parameter ``seed``; runs that open later in this process, without such a parameter
    of their own, have it in their context.

    Parameters
    ----------
    value : int
        0 to 4,294,967,295.
    deterministic : bool
        Also let torch use deterministic algorithms, with a warning where it has none, and let cuDNN choose its
        own by no measurement. They can be slower; False leaves these settings as they are.

    Returns
    -------
    Seeded
        What was seeded, and what could not be.

    Raises
    ------
    InvalidInput
        The value is no whole number in that range.

    Examples
    --------
    >>> import nbops as nb
    >>> nb.seed(42).generators
    ('random', 'numpy')
    """
    global _last
    number = _checked(value)
    random.seed(number)
    import numpy as np

    np.random.seed(number)
    generators, settings, left_out = ["random", "numpy"], [], []
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "manual_seed"):  # or it is being loaded by another thread
        left_out.append("torch is not loaded yet: seed again after the import of it")
    else:
        torch.manual_seed(number)
        generators += _devices(torch)
        settings += _calm(torch, left_out) if deterministic else []
    if not _hashes_alike():
        left_out.append("hash() of text, and so the order of sets, was chosen when Python started: set PYTHONHASHSEED")
    _last = number
    return Seeded(number, tuple(generators), tuple(settings), tuple(left_out), _told(number))


def known_seed(params: Mapping[str, Any]) -> dict[str, int]:
    """Return what the context of a run that opens now gets: the seed, unless the run's own parameters name one."""
    return {} if _last is None or NAME in params else {NAME: _last}


def _checked(value: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if isinstance(value, bool) or not 0 <= number <= MAX_SEED:
        raise InvalidInput(f"{value!r} is no seed", hint=f"Pass a whole number from 0 to {MAX_SEED:,}.")
    return number


def _devices(torch: Any) -> list[str]:
    """Return the devices whose generators `torch.manual_seed` has seeded."""
    found = ["torch on the CPU"]
    count = torch.cuda.device_count()
    if count:
        found.append(f"torch on {count} GPU{'s' if count > 1 else ''}")
    if torch.backends.mps.is_available():
        found.append("torch on Apple's GPU")
    return found


def _calm(torch: Any, left_out: list[str]) -> list[str]:
    """Let torch compute the same way each time; tell `left_out` what comes too late for that."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    settings = ["torch uses deterministic algorithms, and warns where it has none"]
    if torch.cuda.device_count():
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        settings.append("cuDNN does not choose algorithms by measuring them")
        if _CUBLAS not in os.environ:  # cuBLAS reads it when its first handle is made
            if torch.cuda.is_initialized():
                left_out.append(f"cuBLAS is in use already: seed before, or set {_CUBLAS}=:4096:8 for the kernel")
            os.environ[_CUBLAS] = ":4096:8"
    return settings


def _hashes_alike() -> bool:
    """Return whether text has the same hash in the next process; what was set after the start has no effect."""
    if not sys.flags.hash_randomization:
        return True
    try:
        block = Path("/proc/self/environ").read_bytes().split(b"\0")
        given = next((line.partition(b"=")[2].decode() for line in block if line.startswith(b"PYTHONHASHSEED=")), "")
    except OSError:  # no such file but on Linux
        given = os.environ.get("PYTHONHASHSEED", "")
    return given.isdecimal()


def _told(number: int) -> str | None:
    """Let the open run, if there is one, have the seed as its parameter; return its id."""
    id = current_run()
    if id is not None:
        workspace().outbox.update(Run, id, lambda run: replace(run, params={**run.params, NAME: number}))
    return id
