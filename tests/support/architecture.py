"""The rules of the code's shape, as functions of a source tree: each returns one line per violation.

They read syntax trees and import nothing. Imports inside functions count; those under ``if TYPE_CHECKING:`` do not,
for they never run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FILE_LINES = 400
FUNCTION_LINES = 60
# `memory`, `preflight` and `preflight_space` are asked before any run; `replay` and `diagnose` outlive a watch.
ROOT_NAMES = 66

FLOORS: dict[str, int] = {
    "core": 0,
    "store": 1,
    "tracking": 2, "data": 2, "debugging": 2,
    "models": 3, "features": 3,
    "quality": 4, "serving": 4,
    "monitoring": 5, "pipelines": 5,
    "view": 6,
    "verbs": 7, "server": 7,
    "magics": 8, "cli": 8,
    "testing": 9, "__main__": 9,
}  # fmt: skip

# library -> the only folders that may import it, even inside a function
HOMES: dict[str, frozenset[str]] = {
    **dict.fromkeys(("sqlalchemy", "alembic", "fsspec"), frozenset({"store"})),
    **dict.fromkeys(("duckdb", "narwhals"), frozenset({"data"})),
    **dict.fromkeys(("plotly", "ipywidgets"), frozenset({"view"})),
    **dict.fromkeys(("jupyter_server", "jupyter_events", "tornado"), frozenset({"server"})),
    **dict.fromkeys(("onnx", "onnxruntime", "onnxscript"), frozenset({"models", "serving"})),
    "torch": frozenset({"debugging", "models", "serving"}),
    **dict.fromkeys(("papermill", "nbformat", "nbclient"), frozenset({"pipelines"})),
    **dict.fromkeys(("uvicorn", "httptools", "uvloop", "httpx"), frozenset({"serving"})),
}


@dataclass(frozen=True)
class Import:
    """One import statement: who, what, where, and whether it runs when the module is loaded."""

    importer: str
    target: str
    line: int
    at_load: bool


def package_of(module: str) -> str:
    """Return the part of ``nbops.PART.…``, or an empty string for the root itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


class Tree:
    """The modules of one source tree that holds the package `nbops`."""

    def __init__(self, src: Path) -> None:
        self.src = src
        self.files: dict[str, Path] = {}
        for path in sorted((src / "nbops").rglob("*.py")):
            parts = path.relative_to(src).with_suffix("").parts
            self.files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        self.trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in self.files.items()}
        self.imports = [found for name in self.files for found in self._imports_of(name)]

    def _imports_of(self, module: str) -> Iterator[Import]:
        yield from self._walk(module, self.trees[module].body, at_load=True)

    def _walk(self, module: str, body: list[ast.stmt], *, at_load: bool) -> Iterator[Import]:
        for node in body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield from (Import(module, target, node.lineno, at_load) for target in self._targets(module, node))
                continue
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                yield from self._walk(module, node.orelse, at_load=at_load)
                continue
            inside = not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for field in ("body", "orelse", "finalbody"):
                yield from self._walk(module, getattr(node, field, []), at_load=at_load and inside)
            for part in [*getattr(node, "handlers", []), *getattr(node, "cases", [])]:
                yield from self._walk(module, part.body, at_load=at_load)

    def _targets(self, module: str, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            return
        base = node.module or ""
        if node.level:
            is_package = self.files[module].name == "__init__.py"
            parts = module.split(".")
            parents = parts[: len(parts) - node.level + is_package]
            base = ".".join([*parents, *filter(None, [base])])
        for alias in node.names:
            longer = f"{base}.{alias.name}"
            # The version is a plain constant of the root, so everybody may read it there.
            yield longer if longer in self.files or longer == "nbops.__version__" else base

    def own_imports(self) -> Iterator[Import]:
        """Yield imports from one module of ours to another."""
        return (i for i in self.imports if i.target == "nbops" or i.target.startswith("nbops."))

    def where(self, module: str, line: int) -> str:
        """Return ``path:line`` relative to the source tree."""
        return f"{self.files[module].relative_to(self.src)}:{line}"


def broken_floors(tree: Tree) -> list[str]:
    """No module imports from a higher floor or from another package on its own floor."""
    found = [f"{name}: package '{package_of(name)}' has no floor" for name in tree.files
             if package_of(name) and package_of(name) not in FLOORS]  # fmt: skip
    for one in tree.own_imports():
        low, high = package_of(one.importer), package_of(one.target)
        if not low or not high or low == high or {low, high} - FLOORS.keys():
            continue
        if FLOORS[high] >= FLOORS[low]:
            where = tree.where(one.importer, one.line)
            found.append(f"{where}: {low} (floor {FLOORS[low]}) imports {one.target} (floor {FLOORS[high]})")
    return found


def root_imports(tree: Tree) -> list[str]:
    """The root imports nothing of ours when it is loaded, and nobody imports from the root."""
    found = []
    for one in tree.own_imports():
        if one.importer == "nbops" and one.at_load:
            found.append(f"{tree.where(one.importer, one.line)}: the root imports {one.target} at load")
        if one.importer != "nbops" and one.target == "nbops":
            found.append(f"{tree.where(one.importer, one.line)}: import from the defining module, not from nbops")
    return found


def cycles(tree: Tree) -> list[str]:
    """No group of modules imports itself in a ring, counting imports inside functions."""
    graph: dict[str, set[str]] = {name: set() for name in tree.files}
    for one in tree.own_imports():
        # The root's table of names is lazy by design, and each module is loaded after it.
        if "nbops" not in (one.importer, one.target) and one.target in graph and one.target != one.importer:
            graph[one.importer].add(one.target)
    return [" <-> ".join(sorted(ring)) for ring in _rings(graph)]


def _rings(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """Return the strongly connected components of more than one node: who reaches whom, both ways."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        todo = list(graph[start])
        while todo:
            node = todo.pop()
            if node not in seen:
                seen.add(node)
                todo.extend(graph[node])
        reach[start] = seen
    rings = {frozenset({b for b in reach[a] if a in reach[b]}) for a in graph if a in reach[a]}
    return [set(ring) for ring in sorted(rings, key=sorted)]


def foreign_imports(tree: Tree) -> list[str]:
    """A heavy library is imported only in the folders that are its home."""
    found = []
    for one in tree.imports:
        library = one.target.split(".")[0]
        homes = HOMES.get(library)
        if homes is not None and package_of(one.importer) not in homes:
            found.append(f"{tree.where(one.importer, one.line)}: {library} belongs to {', '.join(sorted(homes))}")
    return found


def long_files(files: Mapping[str, str], *, limit: int = FILE_LINES) -> list[str]:
    """No source file is longer than `limit` lines."""
    return [f"{name}: {n} lines" for name, text in files.items() if (n := len(text.splitlines())) > limit]


def long_functions(tree: Tree, *, limit: int = FUNCTION_LINES) -> list[str]:
    """No function is longer than `limit` lines, its docstring included."""
    found = []
    for module, root in tree.trees.items():
        for node in ast.walk(root):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                if size > limit:
                    found.append(f"{tree.where(module, node.lineno)}: {node.name} has {size} lines")
    return found


def shadowed_names(tree: Tree, public: set[str]) -> list[str]:
    """No public name of the root is also a module of the root, which an import would put in its place."""
    modules = {name.split(".")[1] for name in tree.files if name.count(".") >= 1}
    return [f"nbops.{name} is a public name and a module" for name in sorted(modules & public)]


# In pieces, so that this file does not name them.
_HOSTS = [("registry", "npmjs"), ("registry", "yarnpkg"), ("pypi", "org"), ("deb", "debian")]
_HOSTS.append(("files", "python" + "hosted"))
_HOST = re.compile("|".join(re.escape(".".join(pieces)) for pieces in _HOSTS))
_MACHINE = re.compile(r"(?<![\w.~-])/(?:root|work|Users|home/(?!jovyan)\w+)/[\w.-]+")


def registry_hosts(files: Mapping[str, str]) -> list[str]:
    """No committed file names the host of a package registry."""
    return [f"{name}: {found[0]}" for name, text in files.items() if (found := _HOST.search(text))]


def machine_paths(files: Mapping[str, str], *, also: tuple[str, ...] = ()) -> list[str]:
    """No committed file holds a path of somebody's machine."""
    found = [f"{name}: {hit[0]}" for name, text in files.items() if (hit := _MACHINE.search(text))]
    return found + [f"{name}: {path}" for name, text in files.items() for path in also if path in text]


def undeclared(tree: Tree, declared: set[str], known: Mapping[str, list[str]], stdlib: frozenset[str]) -> list[str]:
    """Every library that is imported is declared; `known` maps import names to distributions."""
    found = set()
    for one in tree.imports:
        library = one.target.split(".")[0]
        if library in stdlib or library == "nbops":
            continue
        if not {name.lower().replace("_", "-") for name in known.get(library, [library])} & declared:
            found.add(f"{library}, first at {tree.where(one.importer, one.line)}")
    return sorted(found)
