"""The table of what can be asked: method and path to a function of a desk and the fields of the request."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from nbops.core.roles import Action
from nbops.server.mlflow.desk import Desk
from nbops.server.mlflow.wire import Args

Answer = Callable[[Desk, Args], dict[str, Any]]

fixed: dict[tuple[str, str], Answer] = {}
patterns: list[tuple[str, re.Pattern[str], Answer]] = []
actions: dict[Answer, Action] = {}


def route(methods: str, path: str, *, does: Action) -> Callable[[Answer], Answer]:
    """Return a decorator that puts a function into the table.

    Parameters
    ----------
    methods : str
        ``"GET POST"``.
    path : str
        Below ``api/2.0/mlflow/``; ``{name}`` matches one part and becomes a field of the request.
    does : Action
        What it does, which says who may ask for it; a search by POST reads.
    """

    def add(function: Answer) -> Answer:
        actions[function] = does
        for method in methods.split():
            if "{" in path:
                pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))
                patterns.append((method, pattern, function))
            else:
                fixed[method, path] = function
        return function

    return add
