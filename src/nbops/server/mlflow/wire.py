"""Requests as MLflow's clients write them, and answers as they read them (JSON of protocol buffers)."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from nbops.server.mlflow.errors import MlflowError

Json = dict[str, Any]
_INT64 = 2**63
_GREATEST = sys.float_info.max
_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_PLAIN_INT = re.compile(r"-?[0-9]{1,19}")


class Args:
    """The fields of one request; unknown ones are ignored.

    Parameters
    ----------
    fields : mapping
        The JSON object of the body, or the query: a text per name, a list of them where a name comes repeatedly.
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = fields

    @classmethod
    def of_body(cls, body: bytes) -> Args:
        """Return the fields of a JSON body; an empty body has none."""
        try:
            fields = decoded(body) if body.strip() else {}
        except ValueError as error:
            raise MlflowError(f"The request body is not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise MlflowError("The request body must be a JSON object.")
        return cls(fields)

    def raw(self, name: str) -> Any:
        """Return a field as it came, None if it is absent."""
        return self.fields.get(name)

    def has(self, name: str) -> bool:
        """Return whether the field was sent."""
        return self.fields.get(name) is not None

    def text(self, name: str, default: str = "") -> str:
        """Return a text."""
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise invalid(name, value)
        return value

    def need(self, *names: str) -> str:
        """Return the text of the first name that was sent; the others are its older names."""
        for name in names:
            if self.text(name):
                return self.text(name)
        raise missing(names[0])

    def whole(self, name: str, default: int | None = None) -> int:
        """Return an int64."""
        value = self.raw(name)
        if value is None:
            if default is None:
                raise missing(name)
            return default
        return whole_of(name, value)

    def several(self, name: str) -> list[Any]:
        """Return a repeated field; empty if it is absent."""
        value = self.fields.get(name)
        if value is None:
            return []
        return list(value) if isinstance(value, list) else [value]

    def texts(self, name: str) -> list[str]:
        """Return a repeated field of texts."""
        found = self.several(name)
        if not all(isinstance(item, str) for item in found):
            raise invalid(name, found)
        return found

    def items(self, name: str) -> list[Args]:
        """Return a repeated field of objects."""
        found = self.several(name)
        for item in found:
            if not isinstance(item, dict):
                raise invalid(name, item)
        return [Args(item) for item in found]

    def pairs(self, name: str) -> list[tuple[str, str]]:
        """Return a repeated field of {key, value}."""
        return [(item.need("key"), item.text("value")) for item in self.items(name)]

    def choice(self, name: str, words: Mapping[int, str], default: str) -> str:
        """Return an enumerated value, given by name or by number."""
        value = self.raw(name)
        if value is None:
            return default
        word = words.get(int(value), "") if _PLAIN_INT.fullmatch(str(value)) else str(value)
        if word not in words.values():
            raise invalid(name, value)
        return word


def decoded(text: str | bytes) -> Any:
    """Return what JSON says.

    Raises
    ------
    ValueError
        It is not JSON, or lists and objects are nested beyond reading.
    """
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def whole_of(name: str, value: Any) -> int:
    """Return an int64 that came as a number or as text."""
    if _PLAIN_INT.fullmatch(value) if isinstance(value, str) else isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -_INT64 <= value < _INT64:
        raise invalid(name, value)
    return value


def double_of(name: str, value: Any) -> float:
    """Return a double that came as a number or as text; what is not finite comes as text."""
    if isinstance(value, str):
        if value in _WORDS:
            return _WORDS[value]
        try:
            return float(value)
        except ValueError:
            raise invalid(name, value) from None
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _GREATEST:
        raise invalid(name, value)
    return float(value)


def double(value: float) -> float | str:
    """Return a double as protocol buffers write it in JSON."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def pairs_of(tags: Mapping[str, Any]) -> list[Json]:
    """Return a map as a list of {key, value}."""
    return [{"key": key, "value": str(value)} for key, value in tags.items()]


def millis(seconds: float | None) -> int:
    """Return whole milliseconds; 0 for None."""
    return 0 if seconds is None else round(seconds * 1000)


def missing(name: str) -> MlflowError:
    """Return the error for a field that must be there."""
    tail = "See the API docs for more information about request parameters."
    return MlflowError(f"Missing value for required parameter '{name}'. {tail}")


def invalid(name: str, value: Any) -> MlflowError:
    """Return the error for a field of the wrong type."""
    shown = json.dumps(value, default=str)
    return MlflowError(
        f"Invalid value {shown} for parameter '{name}' supplied. "
        "See the API docs for more information about request parameters."
    )


def next_token(offset: int, *, count: int | None = None) -> str:
    """Return the token of the page that begins at `offset`, of the first `count` things if that is told."""
    told = {"offset": offset} if count is None else {"offset": offset, "count": count}
    return base64.b64encode(msgspec.json.encode(told)).decode()


def page_of(token: str) -> tuple[int, int | None]:
    """Return where a page begins, and of how many things it is if the token tells; (0, None) without a token."""
    if not token:
        return 0, None
    try:
        told = decoded(base64.b64decode(token, validate=True))
        offset, count = told["offset"], told.get("count")
    except (binascii.Error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MlflowError("Invalid page token, could not base64-decode") from error
    numbers = whole_of("page_token", offset), None if count is None else whole_of("page_token", count)
    if any(number is not None and number < 0 for number in numbers):
        raise MlflowError("Invalid page token: it points before the first page")
    return numbers


def offset_of(token: str) -> int:
    """Return where a page begins; 0 without a token."""
    return page_of(token)[0]
