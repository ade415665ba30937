"""The extension costs a server nothing until somebody asks."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ["sqlalchemy", "alembic", "torch", "onnxruntime", "plotly", "papermill", "nbformat", "duckdb", "numpy"]


def loaded_after(code: str) -> set[str]:
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in ran.stdout.split()}


def test_importing_the_package_loads_nothing() -> None:
    loaded = loaded_after("import nbops.server")
    assert "nbops" in loaded
    assert loaded.isdisjoint([*HEAVY, "jupyter_server", "tornado"])


def test_setting_up_loads_no_store() -> None:
    code = """
import logging, types
from jupyter_events import EventLogger
import nbops
(point,) = nbops._jupyter_server_extension_points()
assert point["module"] == "nbops"
web_app = types.SimpleNamespace(settings={"base_url": "/"}, add_handlers=lambda host, routes: None)
nbops._load_jupyter_server_extension(types.SimpleNamespace(
    root_dir=".", web_app=web_app, event_logger=EventLogger(), log=logging.getLogger("test")))
"""
    assert loaded_after(code).isdisjoint(HEAVY)
