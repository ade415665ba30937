"""Build hook: packs the JupyterLab extension into sdist and wheel.

A wheel or sdist gets the production bundle, built with jlpm unless it is there already. An editable install
builds nothing: `make` builds the bundle and links it, and a developer who touches only Python needs no Node.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatch_jupyter_builder.utils import npm_builder
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = "labextension"
OUTPUT = "src/nbops/labextension"
SHARE = "share/jupyter/labextensions/nbops"


class LabextensionHook(BuildHookInterface[Any]):
    """Put the built front end where JupyterLab looks for prebuilt extensions."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the bundle if it is missing, and add it to the wheel's shared data."""
        if version == "editable":
            return
        root = Path(self.root)
        if not (root / OUTPUT / "package.json").exists():
            npm_builder(self.target_name, version, path=str(root / SOURCE), build_cmd="build:prod", npm=["jlpm"])
        if not (root / OUTPUT / "package.json").exists():
            raise RuntimeError(f"the front end was built but {OUTPUT}/package.json is not there")
        if self.target_name == "wheel":
            build_data["shared_data"][str(root / OUTPUT)] = SHARE
            build_data["shared_data"][str(root / SOURCE / "install.json")] = f"{SHARE}/install.json"
