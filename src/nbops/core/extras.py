"""Libraries of extras: imported when they are used, and asked for by name where they are absent."""

from __future__ import annotations

from typing import Any

from nbops.core.errors import MissingDependency


def pandas() -> Any:
    """Return the module pandas.

    Raises
    ------
    MissingDependency
        It is not installed; the hint says how to.
    """
    try:
        import pandas
    except ImportError:
        raise MissingDependency.of("pandas", "pandas") from None
    return pandas
