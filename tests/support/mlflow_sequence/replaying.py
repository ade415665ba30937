"""Asks a sequence of requests of any server that speaks MLflow's interface, and makes the answers comparable."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

API = "/api/2.0/mlflow/"
AT = 1_700_000_000_000  # a time that the requests give themselves
_RECENT_MS = 1_750_000_000_000  # no time that the requests give is later
_LONG = 500
_TIMES = re.compile(r".*(time|timestamp|timestamp_ms)$")


@dataclass(frozen=True)
class Ask:
    """One request.

    Attributes
    ----------
    name : str
        What it shows; the answer is kept under it.
    method, path : str
        The path is below ``api/2.0/mlflow/`` unless it begins with a slash. ``{word}`` is what an answer gave before.
    fields : any
        Query of a GET, JSON of the body of others; bytes as they are.
    keep : mapping
        Word to the place in the answer that it stands for, with dots.
    """

    name: str
    method: str
    path: str
    fields: Any = None
    keep: Mapping[str, str] = field(default_factory=dict)


def get(name: str, path: str, fields: Any = None, **keep: str) -> Ask:
    """Return a GET."""
    return Ask(name, "GET", path, fields, keep)


def post(name: str, path: str, fields: Any = None, **keep: str) -> Ask:
    """Return a POST."""
    return Ask(name, "POST", path, fields, keep)


def send(method: str, name: str, path: str, fields: Any = None) -> Ask:
    """Return a request of another method."""
    return Ask(name, method, path, fields)


def pairs(**values: str) -> list[dict[str, str]]:
    """Return a list of {key, value}."""
    return [{"key": key, "value": value} for key, value in values.items()]


def filled(value: Any, words: Mapping[str, str]) -> Any:
    """Return a value with every ``{word}`` in it replaced."""
    if isinstance(value, str):
        return re.sub(r"\{(\w+)\}", lambda match: words.get(match[1], match[0]), value)
    if isinstance(value, dict):
        return {filled(key, words): filled(item, words) for key, item in value.items()}
    return [filled(item, words) for item in value] if isinstance(value, list) else value


def replay(uri: str, asks: Iterable[Ask], *, headers: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """Return status and comparable answer of each request, by its name."""
    words: dict[str, str] = {}
    found: dict[str, dict[str, Any]] = {}
    place = urlsplit(uri)
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=60)
    try:
        for ask in asks:
            status, answer = _asked(connection, place.path, ask, words, headers or {})
            if ask.name in found:
                raise ValueError(f"two requests are called {ask.name!r}")
            for word, where in ask.keep.items():
                words[word] = _at(answer, where, ask.name)
            found[ask.name] = {"status": status, "answer": comparable(answer, words)}
    finally:
        connection.close()
    return found


def _asked(
    connection: http.client.HTTPConnection, root: str, ask: Ask, words: Mapping[str, str], headers: Mapping[str, str]
) -> tuple[int, Any]:
    path, fields = filled(ask.path, words), filled(ask.fields, words)
    path = root + (path if path.startswith("/") else API + path)
    body: bytes | None = None
    head = {**headers, "Content-Type": "application/json"}
    if isinstance(fields, bytes):
        body = fields
    elif ask.method == "GET" and fields:
        path += "?" + urlencode(fields, doseq=True)
    elif fields is not None:
        body = json.dumps(fields).encode()
    connection.request(ask.method, path, body=body, headers=head)
    answer = connection.getresponse()
    text = answer.read() or b"{}"
    try:
        return answer.status, json.loads(text)
    except ValueError:
        return answer.status, {"text": text.decode(errors="replace")[:200]}


def _at(answer: Any, where: str, name: str) -> str:
    found = answer
    for part in where.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    if found is None:
        raise ValueError(f"{name!r} was answered without {where}: {answer}")
    return str(found)


def comparable(value: Any, words: Mapping[str, str], name: str = "") -> Any:
    """Return an answer with ids, times and tokens as placeholders, and lists without an order of their own sorted.

    What is empty is left out: a client cannot tell an empty list from one that is absent, nor does MLflow's server.
    """
    if isinstance(value, dict):
        found = {key: comparable(item, words, key) for key, item in sorted(value.items())}
        return {key: item for key, item in found.items() if item not in ([], {})}
    if isinstance(value, list):
        return _ordered([comparable(item, words) for item in value], name)
    if isinstance(value, str):
        if name == "next_page_token":
            return "<token>"
        for word, text in sorted(words.items(), key=lambda pair: -len(pair[1])):
            value = value.replace(text, f"<{word}>") if len(text) > 5 else value
        if value[:2] in ("[{", '{"'):
            value = json.dumps(comparable(json.loads(value), words), sort_keys=True)
        return value if len(value) <= _LONG else f"<{len(value)} letters>"
    recent = isinstance(value, int | float) and value > _RECENT_MS
    return "<time>" if recent and _TIMES.fullmatch(name) else value


def differences(
    theirs: Any, ours: Any, *, where: str = "", less: Iterable[str] = (), more: Iterable[str] = ()
) -> list[str]:
    """Return a line for each place where two answers differ.

    Parameters
    ----------
    theirs, ours : any
        Comparable answers.
    where : str
        The place in the answer.
    less, more : iterable of str
        Fields that may be absent in ours, and in theirs.
    """
    rest = {"less": less, "more": more}
    if isinstance(theirs, dict) and isinstance(ours, dict):
        lacking = [f"{where}.{key}: only MLflow has it" for key in theirs.keys() - ours.keys() - set(less)]
        added = [f"{where}.{key}: only nbops has it" for key in ours.keys() - theirs.keys() - set(more)]
        both = sorted(theirs.keys() & ours.keys())
        inside = [line for key in both for line in differences(theirs[key], ours[key], where=f"{where}.{key}", **rest)]
        return sorted([*lacking, *added]) + inside
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        pairs_ = enumerate(zip(theirs, ours, strict=True))
        return [line for i, (a, b) in pairs_ for line in differences(a, b, where=f"{where}[{i}]", **rest)]
    is_same = theirs == ours and isinstance(theirs, bool) == isinstance(ours, bool)
    return [] if is_same else [f"{where}: MLflow {json.dumps(theirs)[:200]}, nbops {json.dumps(ours)[:200]}"]


def _ordered(items: list[Any], name: str) -> list[Any]:
    """Sort what has no order of its own: tags, params and newest metrics by key, aliases, files. Points keep theirs."""
    for key in ("key", "alias", "path", *(["version"] if name == "latest_versions" else [])):
        if items and all(isinstance(item, dict) and key in item for item in items):
            return sorted(items, key=lambda item: str(item[key]))
    return items
