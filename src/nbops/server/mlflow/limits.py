"""What MLflow's interface refuses, with its own sentences; nbops itself would store more."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable

from nbops.server.mlflow.errors import MlflowError

METRICS, PARAMS, ENTITIES = 1000, 100, 1000
KEY, PARAM, TAG, EXPERIMENT_NAME, EXPERIMENT_TAG, REGISTRY_TAG, ALIAS = 250, 6000, 8000, 500, 20_000, 100_000, 255
DATASET = {"name": 500, "digest": 36, "source": 65_535, "schema": 1_048_575, "profile": 16_777_215}
DATASET_TAG = {"key": 255, "value": 500}
OWN = "nbops."  # tags that keep our own account of a run

_NAME = re.compile(r"[/\w.\- :]*")
_ALIAS = re.compile(r"[\w\-]*")
_ALIAS_OF_VERSION = re.compile(r"[vV]\d+")


def key(text: str, path: str = "key", *, own: bool = False) -> str:
    """Return the name of a metric, param or tag, or refuse it."""
    if not _NAME.fullmatch(text):
        raise _refused(
            path,
            text,
            "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), "
            "spaces ( ), colon(:) and slashes (/).",
        )
    normal = posixpath.normpath(text)
    if normal != text or normal == "." or normal.startswith(("..", "/")):
        raise _refused(
            path,
            text,
            "Names may be treated as files in certain cases, and must not resolve to other names "
            f"when treated as such. This name would resolve to {normal!r}",
        )
    if len(text) > KEY:
        raise too_long(path, KEY)
    if text.startswith(OWN) and not own:
        raise _refused(path, text, f"Names that begin with '{OWN}' belong to the workspace.")
    return text


def is_own(tag: str) -> bool:
    """Return whether a tag is one that keeps our own account."""
    return tag.startswith(OWN)


def length(text: str, most: int, path: str) -> str:
    """Return a text of at most `most` characters, or refuse it."""
    if len(text) > most:
        raise too_long(path, most)
    return text


def batch(metrics: int, params: int, tags: int) -> None:
    """Refuse a batch with too much of something."""
    counts = (
        ("metrics", METRICS, metrics),
        ("params", PARAMS, params),
        ("tags", PARAMS, tags),
        ("metrics, params, and tags", ENTITIES, metrics + params + tags),
    )
    for what, most, count in counts:
        if count > most:
            raise MlflowError(
                f"A batch logging request can contain at most {most} {what}. Got {count} {what}. "
                f"Please split up {what} across multiple requests and try again."
            )


def unique(keys: Iterable[str]) -> None:
    """Refuse a batch that names a param twice."""
    seen: set[str] = set()
    twice = [name for name in keys if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    if twice:
        raise MlflowError(
            f"Duplicate parameter keys have been submitted: {twice}. Please ensure "
            "the request contains only one param value per param key."
        )


def alias(name: str) -> str:
    """Return the alias of a registered model, or refuse it."""
    if not name:
        raise MlflowError("Registered model alias name cannot be empty.")
    if not _ALIAS.fullmatch(name):
        raise MlflowError(
            f"Invalid alias name: '{name}'. Names may only contain alphanumerics, underscores (_), and dashes (-)."
        )
    if len(name) > ALIAS:
        raise too_long("Registered model alias name", ALIAS)
    if name.lower() == "latest":
        raise MlflowError("'latest' alias name (case insensitive) is reserved.")
    if _ALIAS_OF_VERSION.fullmatch(name):
        raise MlflowError(f"Version alias name '{name}' is reserved.")
    return name


def model_name(name: str) -> str:
    """Return the name of a model, or refuse it."""
    if not name:
        raise MlflowError("Missing value for required parameter 'name'.")
    if any(letter in name for letter in "/:"):
        raise MlflowError(f"Invalid model name: '{name}'. Model name cannot contain '/' or ':'.")
    return length(name, 256, "name")


def page(size: int, most: int, name: str = "max_results") -> int:
    """Return a page size from 1 to `most`, or refuse it."""
    if not 1 <= size <= most:
        raise MlflowError(
            f"Invalid value {size} for parameter '{name}' supplied. It must be at least 1 and at most {most}."
        )
    return size


def too_long(path: str, most: int) -> MlflowError:
    """Return the error for a text longer than `most`."""
    return MlflowError(f"'{path}' exceeds the maximum length of {most} characters")


def _refused(path: str, value: str, why: str) -> MlflowError:
    shown = json.dumps(value)
    return MlflowError(f"Invalid value {shown} for parameter '{path}' supplied: {why}")
