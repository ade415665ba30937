"""The tree of errors. Each says what happened with the values in it, and one hint to act on.

NbopsError
├── NotFound            (LookupError)        no such run, model, dataset, verb …
├── InvalidInput        (ValueError)         a value that cannot be accepted
│   ├── QuerySyntaxError                     a `where` that cannot be parsed
│   ├── ParameterError                       a notebook parameter: unknown or ill-typed
│   └── SignatureMismatch                    inputs that a model does not take
├── Conflict            (RuntimeError)       two writers, or a name already taken
├── CorruptData         (ValueError)         stored bytes that do not match their digest
├── UnfaithfulExport    (ValueError)         an exported model that computes something else
├── CheckFailed         (ValueError)         a data gate that must stop the run
├── TrainingStopped     (RuntimeError)       the debugger stopped the training loop
│   └── StopAsked                            somebody asked it to
├── NotebookFailed      (RuntimeError)       a notebook step whose cell raised
├── EndpointError       (ConnectionError)    an endpoint that did not start or answer
├── StoreError          (OSError)            a workspace that cannot be read or written
│   └── StoreUnavailable                     it may be later: out of reach, locked, read-only, disk full
├── NotPermitted        (PermissionError)    a person whose role is not enough
└── MissingDependency   (ImportError)        an extra that is not installed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class NbopsError(Exception):
    """Base of all errors that nbops raises on purpose.

    Parameters
    ----------
    message : str
        What happened, with the values.
    hint : str
        One sentence that begins with a verb: what to do.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.hint)

    def _render_traceback_(self) -> list[str]:
        """Two lines in a notebook instead of a stack of our own frames."""
        lines = [f"{type(self).__name__}: {self.message}"]
        return [*lines, self.hint] if self.hint else lines


def _rebuild(kind: type[NbopsError], message: str, hint: str) -> NbopsError:
    return kind(message, hint=hint)


class NotFound(NbopsError, LookupError):
    """No record, file or name of that kind."""


class InvalidInput(NbopsError, ValueError):
    """A value that cannot be accepted."""


class QuerySyntaxError(InvalidInput):
    """A ``where`` expression that cannot be parsed."""


class ParameterError(InvalidInput):
    """A notebook parameter that is unknown or of the wrong type."""


class SignatureMismatch(InvalidInput):
    """Inputs that do not fit a model's signature."""


class Conflict(NbopsError, RuntimeError):
    """Another writer was first, or a name is taken."""


class CorruptData(NbopsError, ValueError):
    """Stored bytes that do not match their digest."""


class UnfaithfulExport(NbopsError, ValueError):
    """An exported model whose answers differ from the original's."""


class CheckFailed(NbopsError, ValueError):
    """A data check that was set to stop."""


class TrainingStopped(NbopsError, RuntimeError):
    """The debugger stopped a training loop before the step was taken."""


class StopAsked(TrainingStopped):
    """Somebody asked a training loop to stop: nothing went wrong in it."""


class NotebookFailed(NbopsError, RuntimeError):
    """A notebook step ended with an error in one of its cells."""


class EndpointError(NbopsError, ConnectionError):
    """An endpoint did not start, died, or cannot be reached."""


class StoreError(NbopsError, OSError):
    """A workspace that cannot be opened, read or written."""


class StoreUnavailable(StoreError):
    """A store out of reach, locked, read-only or on a full disk: what runs log is kept until it can be written to."""


class NotPermitted(NbopsError, PermissionError):
    """A person asks a server for what their role does not allow."""


class MissingDependency(NbopsError, ImportError):
    """A library of an extra is not installed."""

    @classmethod
    def of(cls, library: str, extra: str) -> MissingDependency:
        """Return the error for `library`, which the extra `extra` would install."""
        return cls(f"{library} is not installed", hint=f"Install it with: pip install 'nbops[{extra}]'")


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return ``Did you mean 'x'?`` for the nearest candidate, or an empty string."""
    near = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.5)
    return f"Did you mean '{near[0]}'?" if near else ""


def not_found(kind: str, name: str, candidates: Iterable[str] = (), *, hint: str = "") -> NotFound:
    """Return a `NotFound` for `name` with the nearest candidate as its hint."""
    return NotFound(f"no {kind} '{name}'", hint=did_you_mean(name, candidates) or hint)
