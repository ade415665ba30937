"""The shape of the code: floors, cycles, who may import what, and size budgets. Each rule is shown to fire."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, packages_distributions
from pathlib import Path

import architecture as rules
import pytest

import nbops

ROOT = Path(__file__).resolve().parent.parent
SOURCE = (".py", ".ts", ".tsx")

# Declared because they must be there, though no line of ours imports them: what each is for is in
# docs/explanation/dependencies.md
NEEDED_UNIMPORTED = {"jupyterlab", "ipykernel", "onnxscript", "httptools", "uvloop", "onnxruntime"}


@pytest.fixture(scope="module")
def tree() -> rules.Tree:
    return rules.Tree(ROOT / "src")


@pytest.fixture(scope="module")
def committed() -> dict[str, str]:
    """All text files that are or would be committed, by path."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = {}
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file():
            data = path.read_bytes()
            if b"\0" not in data[:8192]:
                found[name] = data.decode("utf-8")
    assert "pyproject.toml" in found
    return found


def plant(folder: Path, **files: str) -> rules.Tree:
    """Write modules (``a__b`` is nbops/a/b.py) into `folder` and read them as a source tree."""
    (folder / "nbops").mkdir(exist_ok=True)
    (folder / "nbops" / "__init__.py").touch()
    for name, text in files.items():
        path = folder / "nbops" / Path(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text)
    return rules.Tree(folder)


# ---- the code keeps the rules ----------------------------------------------------------------------------------------


def test_floors(tree: rules.Tree) -> None:
    assert rules.broken_floors(tree) == []


def test_no_import_cycles(tree: rules.Tree) -> None:
    assert rules.cycles(tree) == []


def test_root_is_a_lazy_table(tree: rules.Tree) -> None:
    assert rules.root_imports(tree) == []


def test_heavy_libraries_stay_at_home(tree: rules.Tree) -> None:
    assert rules.foreign_imports(tree) == []


def test_file_budget(committed: dict[str, str]) -> None:
    sources = {n: t for n, t in committed.items() if n.startswith(("src/", "labextension/src/")) and n.endswith(SOURCE)}
    assert rules.long_files(sources) == []


def test_function_budget(tree: rules.Tree) -> None:
    assert rules.long_functions(tree) == []


def test_public_root_is_small_and_all_of_it_resolves() -> None:
    assert len(nbops.__all__) <= rules.ROOT_NAMES
    assert len(set(nbops.__all__)) == len(nbops.__all__)
    assert [name for name in nbops.__all__ if not hasattr(nbops, name)] == []


def test_public_names_and_modules_are_disjoint(tree: rules.Tree) -> None:
    assert rules.shadowed_names(tree, set(nbops.__all__)) == []


def test_no_machine_paths(committed: dict[str, str]) -> None:
    assert rules.machine_paths(committed, also=(f"{ROOT}/",)) == []


def test_no_registry_hosts(committed: dict[str, str]) -> None:
    assert rules.registry_hosts(committed) == []


def test_one_version(committed: dict[str, str]) -> None:
    assert json.loads(committed["labextension/package.json"])["version"] == nbops.__version__
    assert re.search(rf"^## {re.escape(nbops.__version__)}\b", committed["CHANGELOG.md"], re.MULTILINE)


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\s\[<>=!;~]", line, maxsplit=1)[0].lower().replace("_", "-") for line in requirements}


def test_dependencies_are_declared_and_used(tree: rules.Tree) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = _names(project["dependencies"])
    optional = _names([line for extra in project["optional-dependencies"].values() for line in extra])
    known = dict(packages_distributions())
    assert rules.undeclared(tree, needed | optional, known, sys.stdlib_module_names) == []
    used = {one.target.split(".")[0] for one in tree.imports}
    brought = {name.lower().replace("_", "-") for library in used for name in known.get(library, [library])}
    assert needed - brought - NEEDED_UNIMPORTED == set(), "declared in pyproject.toml and imported nowhere"


def test_entry_points_lead_somewhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"console_scripts": project["scripts"], **project["entry-points"]}
    for group, points in groups.items():
        assert {p.name: p.value for p in entry_points(group=group) if p.value.startswith("nbops")} == points, (
            "the installed package is stale: run make install"
        )
        for value in points.values():
            module, _, name = value.partition(":")
            assert callable(getattr(importlib.import_module(module), name)), value


def test_tests_mirror_the_packages(tree: rules.Tree) -> None:
    packages = {
        path.parent.name for name, path in tree.files.items() if name.count(".") == 1 and path.stem == "__init__"
    }
    assert {name for name in packages if not list((ROOT / "tests" / name).glob("test_*.py"))} == set()


# ---- each rule fires -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("importer", "line"),
    [
        ("store__a", "from nbops.tracking.b import x"),
        ("store__a", "def f():\n    from nbops.tracking.b import x"),
        ("data__a", "import nbops.tracking.b"),
        ("data__a", "try:\n    import nbops.tracking.b\nexcept ImportError:\n    raise"),
        ("core__a", "from ..tracking import b"),
    ],
)
def test_upward_and_sideways_imports_are_found(tmp_path: Path, importer: str, line: str) -> None:
    (found,) = rules.broken_floors(plant(tmp_path, tracking__b="x = 1", **{importer: line}))
    assert "imports nbops.tracking.b" in found


def test_downward_and_type_only_imports_are_allowed(tmp_path: Path) -> None:
    upward = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from nbops.tracking.b import x"
    tree = plant(tmp_path, core__a=upward, tracking__b="from nbops.core.a import y")
    assert rules.broken_floors(tree) == []
    assert rules.cycles(tree) == []


def test_a_package_without_a_floor_is_found(tmp_path: Path) -> None:
    assert "has no floor" in rules.broken_floors(plant(tmp_path, helpers__a="x = 1"))[0]


def test_cycles_are_found_even_inside_functions(tmp_path: Path) -> None:
    tree = plant(
        tmp_path,
        core__a="from nbops.core.b import x",
        core__b="from nbops.core import c",
        core__c="def f():\n    import nbops.core.a",
    )
    assert rules.cycles(tree) == ["nbops.core.a <-> nbops.core.b <-> nbops.core.c"]


def test_imports_from_the_root_are_found(tmp_path: Path) -> None:
    tree = plant(tmp_path, core__a="from nbops import find", core__b="import nbops")
    assert len(rules.root_imports(tree)) == 2
    (tmp_path / "nbops" / "__init__.py").write_text("from nbops.core.a import find\n")
    assert any("at load" in line for line in rules.root_imports(rules.Tree(tmp_path)))


def test_heavy_imports_away_from_home_are_found(tmp_path: Path) -> None:
    tree = plant(tmp_path, data__a="def f():\n    import torch.nn as nn", models__b="import torch", core__c="import os")
    (found,) = rules.foreign_imports(tree)
    assert found.startswith("nbops/data/a.py:2: torch belongs to")


def test_long_files_and_functions_are_found(tmp_path: Path) -> None:
    assert rules.long_files({"a.py": "x = 1\n" * 401, "b.py": "x = 1\n" * 400}) == ["a.py: 401 lines"]
    long = "def f():\n" + "    x = 1\n" * 60
    fit = "def g():\n" + '    """\n' + "    Told.\n" * 9 + '    """\n' + "    x = 1\n" * 48
    assert rules.long_functions(plant(tmp_path, core__a=long + fit)) == ["nbops/core/a.py:1: f has 61 lines"]


def test_a_module_with_a_public_name_is_found(tmp_path: Path) -> None:
    assert rules.shadowed_names(plant(tmp_path, serve__a="", data__b=""), {"serve"}) == [
        "nbops.serve is a public name and a module"
    ]


def test_machine_paths_and_hosts_are_found() -> None:
    slash = "/"
    files = {"a.md": f"see {slash}root{slash}notes", "b.md": "see https://example.org/work/x and src/work/y"}
    assert rules.machine_paths(files) == ["a.md: /root" + "/notes"]
    assert rules.machine_paths({"a": "in /srv/x/y"}, also=("/srv/x/",)) == ["a: /srv/x/"]
    host = ".".join(["registry", "npmjs"])
    assert rules.registry_hosts({"yarn.lock": f"https://{host}.org/a", "b": "registry of models"}) == [
        f"yarn.lock: {host}"
    ]


def test_undeclared_libraries_are_found(tmp_path: Path) -> None:
    tree = plant(tmp_path, core__a="import os\nimport yaml\nimport msgspec")
    known = {"yaml": ["PyYAML"], "msgspec": ["msgspec"]}
    assert rules.undeclared(tree, {"msgspec"}, known, sys.stdlib_module_names) == ["yaml, first at nbops/core/a.py:2"]
    assert rules.undeclared(tree, {"msgspec", "pyyaml"}, known, sys.stdlib_module_names) == []
