"""Errors as MLflow's clients expect them: a code, a sentence, and a status that asks for no retry in vain."""

from __future__ import annotations

from nbops.core.errors import Conflict, InvalidInput, NbopsError, NotFound, NotPermitted

INVALID = "INVALID_PARAMETER_VALUE"
ABSENT = "RESOURCE_DOES_NOT_EXIST"
EXISTS = "RESOURCE_ALREADY_EXISTS"
BAD = "BAD_REQUEST"
NO_ENDPOINT = "ENDPOINT_NOT_FOUND"
DENIED = "PERMISSION_DENIED"

_STATUS = {
    INVALID: 400,
    BAD: 400,
    EXISTS: 400,
    "UNAUTHENTICATED": 401,
    DENIED: 403,
    ABSENT: 404,
    NO_ENDPOINT: 404,
    "RESOURCE_CONFLICT": 409,
    "INTERNAL_ERROR": 500,
    "TEMPORARILY_UNAVAILABLE": 503,
}
_CODES = {401: "UNAUTHENTICATED", 403: DENIED, 404: NO_ENDPOINT, 400: BAD, 405: NO_ENDPOINT, 413: BAD}


class MlflowError(InvalidInput):
    """A request that cannot be answered, with MLflow's code for it.

    Parameters
    ----------
    message : str
        MLflow's sentence, where it has one.
    code : str
        One of MLflow's error codes.
    """

    def __init__(self, message: str, code: str = INVALID) -> None:
        super().__init__(message)
        self.code = code

    @property
    def status(self) -> int:
        """The HTTP status that belongs to the code."""
        return _STATUS[self.code]


def absent(message: str) -> MlflowError:
    """Return the error for a thing that is not there."""
    return MlflowError(message, ABSENT)


def as_mlflow(error: NbopsError) -> MlflowError:
    """Return an error of ours as one of MLflow's."""
    if isinstance(error, MlflowError):
        return error
    if isinstance(error, NotFound):
        return MlflowError(str(error), ABSENT)
    if isinstance(error, Conflict):
        return MlflowError(str(error), "RESOURCE_CONFLICT")
    if isinstance(error, NotPermitted):
        return MlflowError(str(error), DENIED)
    return MlflowError(str(error), INVALID if isinstance(error, InvalidInput) else "TEMPORARILY_UNAVAILABLE")


def code_of(status: int) -> str:
    """Return MLflow's code for an HTTP status."""
    return _CODES.get(status, BAD if status < 500 else "INTERNAL_ERROR")
