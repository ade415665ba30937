"""Where data comes from, as far as that can be told: what the source calls its version, and the code that read it.

git is asked for commit and changes of a file and of the working directory; DVC's own files and Delta's log are read.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import yaml

from nbops.core.records import Source
from nbops.data.delta import delta_of
from nbops.data.sources import is_path, is_query

_TIME_LIMIT_S = 5.0
_QUIET = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


def told_source(data: Any) -> Source:
    """Return what can be told of the source of some data, without being told by the user."""
    origin, versions = "", {}
    delta = delta_of(data)
    if delta is not None:
        origin, versions = delta.place, {"delta": str(delta.version)}
    elif isinstance(data, str | os.PathLike) and (is_path(data) or Path(data).is_dir()):
        origin = os.fspath(data)
        versions = {**_git_of(Path(data)), **_dvc_of(Path(data))}
    elif is_query(data):
        url: Any = getattr(data[0], "url", None)
        shown = url.render_as_string(hide_password=True) if hasattr(url, "render_as_string") else ""
        origin = f"{shown} {data[1]}".strip()
    commit, dirty = _git_status(Path.cwd(), [])
    code = f"{commit}{' (dirty)' if dirty else ''}" if commit else ""
    return Source(origin=origin, extraction_code=code, entry_point=_entry_point(), versions=versions)


def completed(given: Source | None, data: Any, *, before: Source | None = None) -> Source:
    """Return a source in which what the user left empty is filled as far as it can be told.

    `before` is what was recorded with the same content: of the same origin it tells the rest.
    """
    source = given or Source()
    is_known = before is not None and source.origin in ("", before.origin)
    told = before if before is not None and is_known else told_source(data)
    filled = {name: getattr(source, name) or getattr(told, name) for name in Source.__struct_fields__}
    return msgspec.structs.replace(source, **{**filled, "versions": {**told.versions, **source.versions}})


def _entry_point() -> str:
    """Return the notebook or the script that runs; a script of an installed package is a tool, not an entry point."""
    path = os.environ.get("JPY_SESSION_NAME") or (sys.argv[0] if sys.argv else "")
    if not path.endswith((".py", ".ipynb")) or Path(path).absolute().is_relative_to(sys.prefix):
        return ""
    try:
        return str(Path(path).absolute().relative_to(Path.cwd()))
    except ValueError:
        return path


# ---- git -------------------------------------------------------------------------------------------------------------


def _git_of(path: Path) -> dict[str, str]:
    """Return commit, state and path of a file or folder that lies in a repository and is known to git."""
    folder = (path if path.is_dir() else path.parent).absolute()
    inside = _ask(folder, ["ls-files", "--full-name", "-z", "--", str(path.absolute())])
    if not inside:  # no repository, or a file that git does not know
        return {}
    commit, dirty = _git_status(folder, [str(path.absolute())])
    if not commit:
        return {}
    name = inside.split("\0")[0]
    if path.is_dir():
        prefix = _ask(path.absolute(), ["rev-parse", "--show-prefix"]).strip()
        name = prefix.rstrip("/") or "."
    return {"git": commit, "git_dirty": "yes" if dirty else "no", "git_path": name}


def _git_status(folder: Path, paths: list[str]) -> tuple[str, bool]:
    """Return the commit of a checkout, and whether tracked files (of some paths) differ from it."""
    told = _ask(folder, ["status", "--porcelain=v2", "--branch", "--untracked-files=no", "-z", "--", *paths])
    lines = [line for line in told.split("\0") if line]
    heads = [line.removeprefix("# branch.oid ") for line in lines if line.startswith("# branch.oid ")]
    commit = heads[0] if heads and heads[0] != "(initial)" else ""
    return commit, any(not line.startswith("#") for line in lines)


def _ask(folder: Path, words: list[str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 (the arguments are ours)
            ["git", *words], cwd=folder, env={**os.environ, **_QUIET}, capture_output=True,  # noqa: S607 (as found)
            timeout=_TIME_LIMIT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):  # no git, or a repository too large to ask
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


# ---- DVC -------------------------------------------------------------------------------------------------------------


def _dvc_of(path: Path) -> dict[str, str]:
    """Return DVC's digest and the revision of the file or folder that it tracks: ``data.csv.dvc``, or ``dvc.lock``."""
    whole = path.absolute()
    beside = whole.with_name(f"{whole.name}.dvc")
    outs = [out for out in _list(_yaml(beside), "outs") if out.get("path") == whole.name]
    where = beside
    if not outs:
        for folder in whole.parents:
            where = folder / "dvc.lock"
            if where.is_file():
                stages = _yaml(where).get("stages") or {}
                all_outs = [out for stage in stages.values() for out in _list(stage, "outs")]
                outs = [out for out in all_outs if folder / str(out.get("path")) == whole]
                break
    if not outs:
        return {}
    named = next(((key, outs[0][key]) for key in ("md5", "etag", "checksum") if outs[0].get(key)), None)
    found = {} if named is None else {f"dvc_{named[0]}": str(named[1])}
    commit, dirty = _git_status(where.parent, [str(where)])
    return found | ({"dvc_rev": f"{commit}{' (dirty)' if dirty else ''}"} if commit else {})


def _yaml(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError):  # not there, or not DVC's
        return {}
    return found if isinstance(found, dict) else {}


def _list(found: Any, name: str) -> list[dict[str, Any]]:
    items = found.get(name) if isinstance(found, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
