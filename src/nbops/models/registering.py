"""Registering: a model becomes a numbered version, or nothing is left behind.

Export, parity and bundle are made before the transaction that gives the number; see `exporters`,
`parity` and `bundle`.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from nbops.core.errors import Conflict, InvalidInput, NotFound, UnfaithfulExport
from nbops.core.ids import new_id
from nbops.core.records import Artifact, ModelVersion, Run, Signature
from nbops.data.splits.sealing import look_tags
from nbops.models.aliases import move
from nbops.models.bundle import MEDIA_TYPE, Manifest, environment, pack, read_manifest
from nbops.models.cards import write_card
from nbops.models.exporters import Export, Exporter, check_rows, export_rows, exporter_for
from nbops.models.names import check_alias_name, check_model_name
from nbops.models.onnx_files import MODEL_FILE, check_onnx
from nbops.models.parity import ParityReport, compare
from nbops.models.references import newest
from nbops.models.runtimes import CPU, OnnxRuntime
from nbops.store.context import current_cell, current_run, run_of
from nbops.store.workspace import Workspace, workspace


def register(
    model: Any,
    name: str,
    *,
    example: Any,
    metrics: Mapping[str, float] | None = None,
    aliases: str | Iterable[str] = (),
    run: Any = None,
    tags: Mapping[str, str] | None = None,
    tolerance: float | None = None,
    exporter: str | Export | None = None,
    parity_rows: Any = None,
) -> ModelVersion:
    """Export a model to ONNX, prove that it still computes the same, and store it as the next version of `name`.

    Parameters
    ----------
    model : torch module, or path or bytes of an ONNX model
        A module is exported in eval mode and left as it was (mode, device, hooks).
    name : str
        Letters, digits, ``.``, ``_``, ``-``.
    example : array, tensor, tuple of these, or dict of these by input name
        Real input rows, first dimension the batch; better ten than one.
    metrics : mapping of str to float, optional
        What the model achieved; by default the last value of each metric of its run.
    aliases : str or iterable of str, set in the same transaction
    run : str or object with ``.id``, optional
        The run that made it; by default the open run, else the run in which it was watched.
    tags : mapping of str to str, optional
        Free labels, searchable: ``tags.team == "vision"``.
    tolerance : float, optional
        See `nb.parity`.
    exporter : str or callable, optional
        A name in ``nb.exporters``, or a function ``export(model, rows, path)`` of your own.
    parity_rows : like `example`, optional; other rows to compare on

    Returns
    -------
    ModelVersion
        In a notebook, running the same cell again with the same weights, run, metrics and tags gives the
        version that is there.

    Raises
    ------
    UnfaithfulExport
        The exported model computes something else, or answers only one batch size; the message
        names output, row, expected and got. Nothing is registered.
    InvalidInput, NotFound
        A name, an example or a model that cannot be registered; no such run or exporter.
    Conflict
        An alias is refused (see `promote`); the version is registered.
    """
    check_model_name(name)
    ws = workspace()
    source = _source_run(ws, model, run)
    asked = _Asked(name, source, _metrics(metrics, source), _tags(tags, source), _aliases(aliases))
    leaf = exporter_for(model, exporter)
    rows = leaf.bind(model, example)
    judged = rows if parity_rows is None else leaf.bind(model, parity_rows)
    return _export(ws, asked, leaf, model, rows=rows, judged=judged, tolerance=tolerance)


@dataclass(frozen=True)
class _Asked:
    """What the new version shall be called and carry."""

    name: str
    source: Run | None
    metrics: dict[str, float]
    tags: dict[str, str]
    aliases: list[str]


def _export(
    ws: Workspace, asked: _Asked, leaf: Exporter, model: Any, *, rows: Any, judged: Any, tolerance: float | None
) -> ModelVersion:
    """Export to a scratch folder, prove it on the `judged` rows, and store bundle and version."""
    check_rows(rows)
    source, created_at = asked.source, time.time()
    with tempfile.TemporaryDirectory(prefix="nbops-register-") as scratch:
        folder = Path(scratch)
        leaf.export(model, export_rows(rows), folder / MODEL_FILE)
        needed = check_onnx(folder / MODEL_FILE)
        for stray in {file.name for file in folder.iterdir()} - {MODEL_FILE, *needed}:
            (folder / stray).unlink()
        signature, report = _prove(leaf, model, folder / MODEL_FILE, judged, tolerance, asked.name)
        card = write_card(
            ws, name=asked.name, model=model, run=source, signature=signature, metrics=asked.metrics, parity=report,
            environment=environment(), created_at=created_at,
        )  # fmt: skip
        cell = current_cell()
        manifest, digest = pack(
            ws, folder, name=asked.name, signature=signature, card=card, created_at=created_at,
            run=source.id if source else None, cell=cell.cell_id if cell else None,
        )  # fmt: skip
    version = ModelVersion(
        id=new_id(ModelVersion.prefix), created_at=created_at, name=asked.name, number=0, digest=digest,
        signature=signature, size_bytes=manifest.size_bytes, parent=manifest.run, metrics=asked.metrics,
        tags=asked.tags, parity=msgspec.to_builtins(report), cell_id=manifest.cell or None,
    )  # fmt: skip
    return _record(ws, version, manifest, asked.aliases)


def _prove(
    leaf: Exporter, model: Any, path: Path, rows: Any, tolerance: float | None, name: str
) -> tuple[Signature, ParityReport]:
    """Return signature and parity of the exported file, or refuse it."""
    runtime = OnnxRuntime(path, providers=[CPU])
    try:
        for spec in runtime.signature.inputs:
            if not spec.shape or spec.shape[0] >= 0:
                size = f"a fixed batch of {spec.shape[0]}" if spec.shape else "no batch dimension"
                raise UnfaithfulExport(
                    f"model '{name}' was not registered: input '{spec.name}' has {size}",
                    hint="Export it with a dynamic first dimension; in forward, write x.shape[0] or -1, not a number.",
                )
        original = leaf.predict
        predict = None if original is None else lambda batch: original(model, batch)
        report = compare(predict, runtime, rows, tolerance=tolerance, original=leaf.name if predict else "")
    finally:
        runtime.close()
    if not report.passed:
        raise UnfaithfulExport(
            f"model '{name}' was not registered, its export is unfaithful: {report.message}",
            hint="Compare with nb.parity(model, 'file.onnx', rows=x); pass tolerance= only if this is no fault.",
        )
    return runtime.signature, report


def _record(ws: Workspace, version: ModelVersion, manifest: Manifest, aliases: list[str]) -> ModelVersion:
    refused: Conflict | None = None
    with ws.store.transaction():
        known = _same(ws, version, manifest)
        if known is None:
            number = ws.store.next_number(f"model/{version.name}")
            version = msgspec.structs.replace(version, number=number)
            ws.store.put(version, payload={"name": version.name, "number": number, "digest": version.digest})
            _keep_files(ws, version, manifest)
            if version.parent:
                ws.store.link(version.parent, "produced", version.id)
        for alias in aliases:
            try:
                move(ws, known or version, alias, reason="registered")
            except Conflict as error:  # the version stays: only the name is refused
                refused = error
    if refused is not None:
        raise refused
    return known or version


def _same(ws: Workspace, version: ModelVersion, manifest: Manifest) -> ModelVersion | None:
    """Return the newest version if the same notebook cell registered the same before: the cell was run again."""
    last = newest(ws, version.name) if manifest.cell else None
    if last is None or (last.parent, last.metrics, last.tags) != (version.parent, version.metrics, version.tags):
        return None
    before = read_manifest(ws, last.digest)
    is_same = before.cell == manifest.cell and _model_files(before) == _model_files(manifest)
    return last if is_same and last.signature == version.signature else None


def _model_files(manifest: Manifest) -> dict[str, str]:
    return {name: file.digest for name, file in manifest.files.items() if name.startswith(MODEL_FILE)}


def _keep_files(ws: Workspace, version: ModelVersion, manifest: Manifest) -> None:
    """Record the stored files of the version, so that what cleans the artifact store knows them."""
    types = {".json": "application/json", ".md": "text/markdown"}
    found = {name: (file.digest, file.size_bytes, types.get(Path(name).suffix, "application/octet-stream"))
             for name, file in manifest.files.items()}  # fmt: skip
    found["manifest.json"] = (version.digest, 0, MEDIA_TYPE)
    for name, (digest, size, media_type) in found.items():
        ws.store.put(
            Artifact(id=new_id(Artifact.prefix), created_at=version.created_at, name=name, digest=digest,
                     size_bytes=size, media_type=media_type, parent=version.id)
        )  # fmt: skip


def _source_run(ws: Workspace, model: Any, run: Any) -> Run | None:
    if run is not None:
        run_id = run if isinstance(run, str) else getattr(run, "id", None)
        if not isinstance(run_id, str):
            raise InvalidInput(f"run={run!r} is no run", hint="Pass the run's id, or what nb.run() returned.")
        ws.flush()
        return ws.store.get(Run, run_id)
    ws.flush()
    for found in (current_run(), run_of(model)):
        if found:
            try:
                return ws.store.get(Run, found)
            except NotFound:
                continue  # it was recorded in another workspace, which this one cannot point into
    return None


def _metrics(given: Mapping[str, float] | None, run: Run | None) -> dict[str, float]:
    if given is None:
        return {k: v for k, v in run.metrics.items() if not k.startswith("system")} if run else {}
    scores = {}
    for key, value in given.items():
        try:
            scores[str(key)] = float(value)
        except (TypeError, ValueError):
            raise InvalidInput(f"metric '{key}' is {value!r}, no number", hint="Pass plain numbers.") from None
        if not math.isfinite(scores[str(key)]):
            raise InvalidInput(f"metric '{key}' is {value!r}", hint="Leave out metrics that are not finite.")
    return scores


def _tags(tags: Mapping[str, str] | None, run: Run | None) -> dict[str, str]:
    """Return the tags that were given, and how often the sealed test set was looked at that the run looked at."""
    looks = look_tags(workspace(), run.id) if run else {}
    return {**looks, **{str(key): str(value) for key, value in (tags or {}).items()}}


def _aliases(given: str | Iterable[str]) -> list[str]:
    return [check_alias_name(name) for name in ([given] if isinstance(given, str) else given)]
