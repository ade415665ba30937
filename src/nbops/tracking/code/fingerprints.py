"""The fingerprint of a run: a content hash for each of code, data, parameters, environment, model and results.

Times, ids and paths are in none of them, so a run that is repeated bit for bit has the same six.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from nbops.core.codec import digest_of
from nbops.core.display import Shown
from nbops.core.query import Compare, Field
from nbops.core.records import Artifact, Dataset, ModelVersion, Run
from nbops.store.traces import MEDIA_TYPE
from nbops.store.workspace import Workspace, workspace
from nbops.tracking.capture.background import drain
from nbops.tracking.capture.surroundings import PATCH
from nbops.tracking.code.history import EXECUTED, executions, run_of
from nbops.tracking.machine.seeding import NAME as SEED

PARTS = ("code", "data", "params", "environment", "model", "results")
_MODEL = "model.onnx"  # and its external data: the other files of a bundle hold times
# What nbops measures of the machine is no result; which steps of a training it measures depends on time.
_SAMPLED = ("system/", "watch/")
_EXECUTED_FILE = "executed/"  # a step's notebook, which holds times
# Cells that are no part of what a run computes: its parameters, which are hashed apart, and the loading of nbops.
_INJECTED = "injected-parameters"
_LOADS = re.compile(r"\s*(%(re)?load_ext nbops|import nbops( as \w+)?)\s*")


@dataclass(frozen=True)
class Part:
    """One of the six.

    Attributes
    ----------
    name : str
    digest : str
        sha256 in hex.
    of : str
        What it was made of, in words; empty where nothing of that sort is recorded.
    """

    name: str
    digest: str
    of: str = ""


@dataclass(frozen=True)
class Fingerprint(Shown):
    """The answer of `fingerprint`.

    Attributes
    ----------
    run : Run
    parts : tuple of Part
        ``code``, ``data``, ``params``, ``environment``, ``model``, ``results``.
    hardware : str
        The kind of machine, which is in no hash: the same run may be repeated on another.
    """

    run: Run
    parts: tuple[Part, ...]
    hardware: str = ""

    @property
    def digests(self) -> dict[str, str]:
        """The six hashes by name."""
        return {part.name: part.digest for part in self.parts}

    @property
    def digest(self) -> str:
        """One hash over the six."""
        return digest_of(self.digests)

    def differing(self, other: Fingerprint) -> list[str]:
        """Return the names of the parts that `other` has otherwise."""
        mine, theirs = self.digests, other.digests
        return [name for name in PARTS if mine[name] != theirs[name]]

    def __repr__(self) -> str:
        return f"Fingerprint({self.run.name!r}, {self.digest[:12]})"


def fingerprint(run: Any) -> Fingerprint:
    """Return a content hash for each of what made a run and what came out of it, and one over all.

    The code is each executed cell of the notebook with its last source; without any, git's commit and patch. The data
    are the datasets that it used and the files that it read. The parameters include the seed that was set before it.
    The environment is all packages, Python, operating system and architecture. The model is the model files of the
    versions that it produced, and the results are every point of every metric and the bytes of its files.

    Parameters
    ----------
    run : Run, LiveRun or str
        The run, its id, or its name (the newest of that name).

    Raises
    ------
    NotFound
        No such run.
    """
    ws = workspace()
    drain()  # digests of packages and of files that were read are found out beside the run
    return taken(ws, run_of(ws, run))


def taken(ws: Workspace, run: Run) -> Fingerprint:
    """Return the fingerprint of a stored run."""
    made = (_code(ws, run), _data(ws, run), _params(run), _environment(run), _model(ws, run), _results(ws, run))
    return Fingerprint(run, made, _hardware(run))


def _code(ws: Workspace, run: Run) -> Part:
    sources: dict[str, str] = {}
    for e in executions(ws, run):
        if e.cell.status == "ok" or e.is_inside:
            sources[e.id] = "" if _is_apart(e.id, e.cell.source) else e.cell.source_digest
    digests = [digest for digest in sources.values() if digest]
    if digests:
        return Part("code", digest_of(digests), _count(len(digests), "cell"))
    git = run.context.get("git", {})
    found = {name: git[name] for name in ("commit", "diff") if name in git}
    said = f"commit {found['commit'][:7]}" if "commit" in found else ""
    return Part("code", digest_of(found), said + (" with a patch" if "diff" in found else ""))


def _is_apart(id: str, source: str) -> bool:
    lines = [line for line in source.splitlines() if line.strip()]
    return id.startswith(_INJECTED) or all(_LOADS.fullmatch(line) for line in lines)


def _data(ws: Workspace, run: Run) -> Part:
    ids = [link.source for link in ws.store.links(run.id) if link.relation == "used_by" and link.target == run.id]
    datasets = sorted([d.name, d.digest] for d in _with_ids(ws, Dataset, ids))
    read = run.context.get("inputs", {})
    files = sorted([PurePath(f["path"]).name, f.get("digest") or str(f["size_bytes"])] for f in read.get("files", []))
    urls = sorted(entry["url"] for entry in read.get("urls", []))
    counts = ((len(datasets), "dataset"), (len(files), "file"), (len(urls), "address"))
    return Part("data", digest_of([datasets, files, urls]), _counts(counts))


def _with_ids(ws: Workspace, kind: type[Any], ids: Iterable[str]) -> list[Any]:
    wanted = tuple(ids)
    return ws.store.find(kind, Compare(Field("id"), "in", wanted)) if wanted else []


def _params(run: Run) -> Part:
    seed = {SEED: run.context[SEED]} if SEED in run.context else {}
    said = _count(len(run.params), "parameter") + (f", seed {seed[SEED]}" if seed else "")
    return Part("params", digest_of({**seed, **run.params}), said if seed or run.params else "")


def _environment(run: Run) -> Part:
    packages = run.context.get("packages", {})
    found = {"packages": packages.get("digest"), **{name: run.context.get(name) for name in ("python", "platform")}}
    words = [f"Python {found['python']}"] if found["python"] else []
    words += [_count(packages["count"], "package")] if packages.get("count") else []
    return Part("environment", digest_of(found), ", ".join(words))


def _model(ws: Workspace, run: Run) -> Part:
    versions = ws.store.find(ModelVersion, Compare(Field("parent"), "==", run.id))
    found = sorted([version.name, _model_files(ws, version)] for version in versions)
    return Part("model", digest_of(found), ", ".join(sorted(version.ref for version in versions)))


def _model_files(ws: Workspace, version: ModelVersion) -> list[list[str]]:
    """Return names and digests of the model itself; of a version that names no files, the digest of its bundle."""
    kept = ws.store.find(Artifact, Compare(Field("parent"), "==", version.id))
    files = sorted([file.name, file.digest] for file in kept if file.name.startswith(_MODEL))
    return files or [["", version.digest]]


def _results(ws: Workspace, run: Run) -> Part:
    metrics = sorted(name for name in run.summary if not name.startswith(_SAMPLED))
    points = {name: _points(ws, run.id, name) for name in metrics}
    kept = ws.store.find(Artifact, Compare(Field("parent"), "==", run.id))
    kept = [file for file in kept if file.media_type != MEDIA_TYPE]
    files = sorted([file.name, file.digest] for file in kept if not _is_surrounding(run, file.name))
    count = sum(run.summary[name].count for name in metrics)
    said = f"{_count(count, 'point')} of {_count(len(metrics), 'metric')}" if metrics else ""
    return Part("results", digest_of([points, files]), ", ".join(filter(None, (said, _counts([(len(files), "file")])))))


def _points(ws: Workspace, run: str, metric: str) -> str:
    """Return the digest of all points of a metric, bit for bit; when they were logged does not matter."""
    points = ws.store.points(run, metric)
    hasher = hashlib.sha256(points.steps)
    hasher.update(points.values)
    return hasher.hexdigest()


def _is_surrounding(run: Run, name: str) -> bool:
    return name == PATCH or (run.type in EXECUTED and name.startswith(_EXECUTED_FILE))


def _hardware(run: Run) -> str:
    known = run.context.get("hardware", {})
    gpus = [str(gpu.get("name", "GPU")) if isinstance(gpu, dict) else str(gpu) for gpu in known.get("gpus") or ()]
    several = (f"{gpus.count(name)} × {name}" for name in dict.fromkeys(gpus))
    return ", ".join(filter(None, (str(known.get("cpu") or ""), *several)))


def _counts(counts: Iterable[tuple[int, str]]) -> str:
    return ", ".join(_said(counts))


def _said(counts: Iterable[tuple[int, str]]) -> Iterator[str]:
    for count, noun in counts:
        if count:
            yield _count(count, noun)


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}{'es' if noun.endswith('s') else 's'}"
