"""Fixtures for all tests: a fresh workspace, a real PostgreSQL, no network, nothing left behind."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

# Shared cores are slow at times: no deadline. The same examples each time, so that a red run can be repeated.
hypothesis.settings.register_profile("nbops", deadline=None, derandomize=True)
hypothesis.settings.load_profile("nbops")

SUPPORT = Path(__file__).parent / "support"
sys.path.insert(0, str(SUPPORT))

pytest_plugins = ["pytester", "tools", "leak_check", "postgres_server"]

if TYPE_CHECKING:
    from nbops.store.workspace import Workspace

# Before anything is imported: few threads on shared cores, no question to a model hub, folders that do not exist yet
# in a user's home stay away.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("MPLCONFIGDIR", str(Path(tempfile.gettempdir()) / "nbops-test-mpl"))
for name in ("NBOPS_WORKSPACE", "NBOPS_STORE_URL", "NBOPS_ARTIFACTS_URL"):
    os.environ.pop(name, None)


def _block_network() -> None:
    """Block all but this machine, here and in every Python process that inherits the environment."""
    folder = SUPPORT / "no_network"
    spec = importlib.util.spec_from_file_location("nbops_no_network", folder / "sitecustomize.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


_block_network()


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test works in a folder of its own, with a home of its own for IPython and Jupyter."""
    monkeypatch.chdir(tmp_path)
    home = tmp_path.parent / f"{tmp_path.name}-home"
    home.mkdir(exist_ok=True)
    for variable in (
        "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "XDG_STATE_HOME",
    ):  # fmt: skip
        monkeypatch.setenv(variable, str(home / variable.lower()))


def _forget() -> None:
    """End open runs, close the current workspace, forget the run, the cell and what this process read."""
    runs: Any = sys.modules.get("nbops.tracking.runs")
    for live in reversed(runs.open_runs() if runs is not None else []):
        live.finish()
    loaded: Any = sys.modules.get("nbops.store.workspace")
    if loaded is not None and loaded.is_open():
        loaded.workspace().close()
    context: Any = sys.modules.get("nbops.store.context")
    if context is not None:
        context.set_default_run(None)
        context.set_cell(None)
    using: Any = sys.modules.get("nbops.store.using")
    if using is not None:
        using.forget()
    inputs: Any = sys.modules.get("nbops.tracking.capture.inputs")
    if inputs is not None:
        inputs.switch_off()


@pytest.fixture(autouse=True)
def _no_shared_workspace() -> Iterator[None]:
    """No test sees the workspace of the one before it, even where it opened one without saying so."""
    yield
    _forget()


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A fresh workspace in `tmp_path`, current in this process and named to the processes it starts."""
    from nbops.store.workspace import init

    opened = init(tmp_path)
    monkeypatch.setenv("NBOPS_WORKSPACE", str(opened.path))
    yield opened
    _forget()


@pytest.fixture
def shell() -> Iterator[Any]:
    """A fresh IPython shell in this process, with nbops loaded."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    from nbops.magics import unload

    main = sys.modules["__main__"]
    config = Config()
    config.HistoryManager.enabled = False
    InteractiveShell.clear_instance()
    made = InteractiveShell.instance(config=config)
    made.run_cell("%load_ext nbops").raise_error()
    yield made
    unload(made)
    InteractiveShell.clear_instance()
    sys.modules["__main__"] = main
