"""`import nbops` and `%load_ext nbops` stay light: no heavy library is loaded. `make bench` prints the times."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = [
    *("alembic", "duckdb", "fsspec", "httpx", "ipywidgets", "jupyter_server", "matplotlib", "narwhals", "nbclient"),
    *("nbformat", "onnx", "onnxruntime", "pandas", "papermill", "plotly", "polars", "pyarrow", "scipy", "sklearn"),
    *("sqlalchemy", "torch", "uvicorn"),
]

# A cell with an ordinary assignment runs too: the hooks around it must not load what loading avoided.
SHELL = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
before = set(sys.modules)
shell.run_line_magic("load_ext", "nbops")
"""


def loaded_by(code: str, *, before: str = "") -> list[str]:
    """Return which heavy libraries a fresh interpreter holds after `code`."""
    report = f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", f"import json, sys\n{before}\n{code}\n{report}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_import_loads_nothing_heavy() -> None:
    assert loaded_by("import nbops") == []


def test_import_of_the_root_loads_none_of_our_own_modules() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import nbops, sys; print([m for m in sys.modules if m.startswith('nbops.')])"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_the_directory_of_names_loads_nothing_heavy() -> None:
    assert loaded_by("import nbops; assert 'find' in dir(nbops); assert not hasattr(nbops, 'fnid')") == []


def test_loading_the_magics_loads_nothing_heavy() -> None:
    assert loaded_by(SHELL) == []


def test_the_command_line_shows_its_help_without_heavy_libraries() -> None:
    code = """
from nbops.cli import main
try:
    main(["--help"])
except SystemExit as end:
    assert not end.code, end.code
"""
    assert loaded_by(code) == []


@pytest.mark.parametrize("library", ["narwhals", "fsspec"])
def test_the_probe_sees_what_is_loaded(library: str) -> None:
    assert library in loaded_by(f"import {library}")
