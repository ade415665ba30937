"""The wheel holds the front end, and an environment without Node is all it needs."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import nbops

ROOT = Path(__file__).resolve().parent.parent
BUNDLE = ROOT / "src" / "nbops" / "labextension" / "package.json"
SHARE = f"nbops-{nbops.__version__}.data/data/"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout with the bundle that make has built."""
    if not BUNDLE.exists():
        pytest.skip("the front end is not built; `make install` builds it")
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel in it; the dependencies are borrowed from the environment of the tests."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    site = next(folder.glob("lib/python*/site-packages"))
    install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # After our own folder on the path, so that nbops is the wheel's and all else is borrowed.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for command in entry_points(group="console_scripts"):
        if command.name.startswith("jupyter-"):
            script = folder / "bin" / command.name
            script.write_text(f"#!{folder}/bin/python\nfrom {command.module} import {command.attr}\n{command.attr}()\n")
            script.chmod(0o755)
    return folder


def run_there(environment: Path, *arguments: str) -> str:
    """Run a program of the new environment with no other on PATH, and return all that it prints."""
    lent = {"PATH": str(environment / "bin"), "JUPYTER_PREFER_ENV_PATH": "1", "JUPYTER_PLATFORM_DIRS": "1"}
    kept = {name: os.environ[name] for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "LANG") if name in os.environ}
    home = environment / "home"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [environment / "bin" / "python", *arguments],
        env={**lent, **kept, "HOME": str(home)}, cwd=home, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_wheel_holds_the_bundle_once_and_no_source_of_it(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert f"{SHARE}share/jupyter/labextensions/nbops/package.json" in names
    assert f"{SHARE}share/jupyter/labextensions/nbops/install.json" in names
    assert f"{SHARE}etc/jupyter/jupyter_server_config.d/nbops.json" in names
    assert any(name.startswith(f"{SHARE}share/jupyter/labextensions/nbops/static/remoteEntry") for name in names)
    assert "nbops/py.typed" in names
    assert not [name for name in names if name.startswith("nbops/labextension") or "node_modules" in name]
    assert not [name for name in names if name.startswith(("tests/", "labextension/"))]


def test_the_wheel_holds_the_migrations(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    versions = (ROOT / "src" / "nbops" / "store" / "migrations" / "versions").glob("*.py")
    assert {f"nbops/store/migrations/versions/{path.name}" for path in versions} - packed == set()


def test_the_wheel_names_one_onnxruntime_per_machine(wheel: Path) -> None:
    from packaging.requirements import Requirement

    text = zipfile.ZipFile(wheel).read(f"nbops-{nbops.__version__}.dist-info/METADATA").decode()
    lines = [
        line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("Requires-Dist: onnxruntime")
    ]
    machines = {
        ("linux", "x86_64"): "onnxruntime-gpu",
        ("win32", "AMD64"): "onnxruntime-gpu",
        ("linux", "aarch64"): "onnxruntime",
        ("darwin", "arm64"): "onnxruntime",
        ("darwin", "x86_64"): "onnxruntime",
    }
    for (system, machine), expected in machines.items():
        here = {"sys_platform": system, "platform_machine": machine}
        wanted = [r.name for r in map(Requirement, lines) if r.marker is None or r.marker.evaluate(here)]
        assert wanted == [expected], (system, machine)


def test_it_runs_from_the_wheel(environment: Path) -> None:
    place = run_there(environment, "-c", "import nbops; print(nbops.__file__)").strip()
    assert Path(place).is_relative_to(environment)
    assert "what it does" in run_there(environment, "-m", "nbops", "help")


def test_jupyterlab_finds_the_extension_without_node(environment: Path) -> None:
    listed = run_there(environment, "-m", "jupyter", "labextension", "list")
    line = next(line for line in listed.splitlines() if "nbops" in line and f"v{nbops.__version__}" in line)
    assert "enabled" in line
    assert "OK" in line


def test_jupyter_server_finds_the_extension(environment: Path) -> None:
    listed = run_there(environment, "-m", "jupyter", "server", "extension", "list")
    lines = [line for line in listed.splitlines() if "nbops" in line]
    assert any("enabled" in line for line in lines)
    assert any(nbops.__version__ in line and "OK" in line for line in lines), listed
