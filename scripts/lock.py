"""Write the constraints file from what this environment holds: names and versions, and no address."""

from __future__ import annotations

import sys
from importlib.metadata import distributions
from pathlib import Path

HEADER = """\
# Versions with which nbops is built and tested; `make lock` writes this file. They bound what make installs,
# not what nbops accepts: that is in pyproject.toml.
"""
# Kept by the environment itself, or too tied to one machine to be a constraint for another.
LEFT_OUT = {"nbops", "pip", "setuptools", "wheel"}


def constraints() -> list[str]:
    """Return one ``name==version`` line per installed distribution, without local version labels."""
    found = {}
    for distribution in distributions():
        name = distribution.metadata["Name"].lower().replace("_", "-").replace(".", "-")
        if name not in LEFT_OUT:
            found[name] = distribution.version.split("+")[0]
    return [f"{name}=={version}" for name, version in sorted(found.items())]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(HEADER + "\n".join(constraints()) + "\n", encoding="utf-8")
