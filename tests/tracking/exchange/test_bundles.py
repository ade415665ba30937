"""Bundles: what another workspace opens is the same, and nothing that is there is changed."""

from __future__ import annotations

import json
import math
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from markup import EVIL, check_html

import nbops as nb
from nbops.core.codec import encode
from nbops.core.display import mimebundle
from nbops.core.errors import Conflict, InvalidInput, StoreError
from nbops.core.records import (
    Artifact,
    Cell,
    CheckReport,
    Dataset,
    Diagnosis,
    ModelVersion,
    Record,
    Run,
    RunStatus,
    Signature,
    replace,
)
from nbops.store.inspection import check_workspace
from nbops.store.maintenance import purge, sweep
from nbops.store.points import Columns
from nbops.store.sql import SqlStore
from nbops.store.workspace import Workspace, init
from nbops.testing import a_run, some_points
from nbops.tracking.capture.background import drain
from nbops.tracking.capture.surroundings import PACKAGES
from nbops.tracking.exchange import bundle_importing, bundle_writing
from nbops.verbs.grammar import Call, dispatch

ODD = [0.1, math.nan, math.inf, -math.inf, -0.0, 5e-324]
KINDS: tuple[type[Record], ...] = (Run, Cell, Artifact, CheckReport, Diagnosis, Dataset, ModelVersion)
Elsewhere = Callable[..., Workspace]


def fill(ws: Workspace) -> Run:
    """Record one run with some of everything, and return it."""
    data = nb.snapshot(pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": [0, 1, 0]}), "train")
    with nb.run("fit", params={"lr": 0.1, "bad": math.nan, "deep": {"a": [1]}}, tags={"team": "x"}, data=data) as live:
        nb.log_artifact({"classes": 10}, name="config")
        nb.check(pd.DataFrame({"x": [1, 1]}))
        with nb.run("inner"):
            nb.log(z=1.0)
    drain()
    run = live.record
    outputs, _ = ws.artifacts.put(b'[{"output_type": "stream"}]')
    base: dict[str, Any] = {"created_at": 5.0, "parent": run.id}
    ws.store.put(Cell(id="cell_1", cell_id="c1", execution_count=3, source_digest="s", source="fit()", outputs=outputs,
                      **base))  # fmt: skip
    ws.store.put(Diagnosis(id="dg_1", name="dead", status="error", step=4, layer="fc", measured=math.nan, limit=0.5,
                           what="w", why="y", fix="f", confidence=0.9, **base))  # fmt: skip
    version(ws, run, "net", b"weights")
    odd = Columns.of(some_points(run.id, "odd", ODD))
    odd = Columns(odd.steps, odd.times_ms, odd.values, ((0, "c1#a"), (2, ""), (4, "c1#b")))
    long = Columns(np.arange(20_000) * 3, np.arange(20_000) * 7 + 1_000, np.random.default_rng(0).normal(size=20_000))
    ws.store.add_points([odd.to_points(run.id, "odd"), long.to_points(run.id, "long")])
    return ws.store.get(Run, run.id)


def version(ws: Workspace, run: Run, name: str, weights: bytes) -> ModelVersion:
    """Register a version as `nb.register` leaves it: a manifest that names files, and their records."""
    number = ws.store.next_number(f"model/{name}")
    file, size = ws.artifacts.put(weights)
    manifest, _ = ws.artifacts.put(encode({"files": {"model.onnx": {"digest": file}}}))
    made = ModelVersion(id=f"mv_{run.id[-8:]}{number}", created_at=6.0, name=name, number=number, digest=manifest,
                        signature=Signature(inputs=[], outputs=[]), parent=run.id, metrics={"acc": 0.9})  # fmt: skip
    ws.store.put(made)
    ws.store.link(run.id, "produced", made.id)
    for file_name, digest in (("model.onnx", file), ("manifest.json", manifest)):
        ws.store.put(Artifact(id=f"art_{made.id[3:]}{len(file_name)}", created_at=6.0, name=file_name, digest=digest,
                              size_bytes=size, parent=made.id))  # fmt: skip
    return made


def everything(ws: Workspace) -> dict[str, Any]:
    """Return records, points, links and the bytes of files, as they compare."""
    records = [one for kind in KINDS for one in ws.store.find(kind)]
    kept = [one for one in records if getattr(one, "name", "") != PACKAGES]  # its record is the workspace's own
    found: dict[str, Any] = {one.id: encode(one) for one in kept}
    for run in ws.store.find(Run):
        for metric in run.summary:
            points = ws.store.points(run.id, metric)
            found[f"{run.id} {metric}"] = (*map(bytes, (points.steps, points.times_ms, points.values)), points.cells)
        if "packages" in run.context:
            found[f"packages of {run.id}"] = ws.artifacts.read(run.context["packages"]["digest"])
    for link in ws.store.links():
        found[f"{link.source} {link.relation} {link.target}"] = True
    for one in kept:
        if isinstance(one, Artifact):
            found[f"bytes of {one.digest}"] = ws.artifacts.read(one.digest)
        elif isinstance(one, Cell) and one.outputs:
            found[f"outputs of {one.id}"] = ws.artifacts.read(one.outputs)
    return found


@pytest.fixture
def elsewhere(tmp_path: Path) -> Elsewhere:
    """Return a function that opens another workspace and makes it the current one."""

    def other(name: str = "elsewhere", **urls: str) -> Workspace:
        return init(tmp_path / name, **urls)

    return other


def test_another_workspace_shows_the_same(workspace: Workspace, elsewhere: Elsewhere) -> None:
    run = fill(workspace)
    before, events = everything(workspace), workspace.store.last_event()
    report = nb.export_runs("shared.nbops.zip", format="bundle")
    assert (report.counts["runs"], report.is_well) == (2, True)
    assert report.counts["points"] == 20_000 + len(ODD) + 1 + sum(
        s.count for r in nb.find("runs") for name, s in r.summary.items() if name.startswith("system/")
    )
    assert workspace.store.last_event() == events  # reading only
    other = elsewhere()
    counts = nb.import_runs("shared.nbops.zip").counts
    assert (counts["runs"], counts["datasets"], counts["models"]) == (2, 1, 1)
    assert everything(other) == before
    assert other.store.get(Run, run.id).segments == run.segments
    assert [one.name for one in nb.lineage("net/1").nodes] == ["train", "fit", "net"]
    assert other.store.next_number("model/net") == 2
    assert check_workspace(other).is_well
    assert nb.audit().is_whole


def test_twice_adds_nothing(workspace: Workspace, elsewhere: Elsewhere) -> None:
    fill(workspace)
    nb.export_runs("shared.nbops.zip", format="bundle")
    assert nb.import_runs("shared.nbops.zip").counts == {"runs": 0, "already there": 2}  # nor here, where they are from
    other = elsewhere()
    nb.import_runs("shared.nbops.zip")
    before, events = everything(other), other.store.last_event()
    assert nb.import_runs("shared.nbops.zip").counts == {"runs": 0, "already there": 2}
    assert (everything(other), other.store.last_event()) == (before, events)
    nb.export_runs("again.nbops.zip", format="bundle")  # what was imported can be passed on
    third = elsewhere("third")
    nb.import_runs("again.nbops.zip")
    assert everything(third) == before


def test_who_made_it_and_when_comes_along(
    workspace: Workspace, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setenv("NBOPS_USER", "ada")
    with nb.run("fit") as live:
        pass
    made = workspace.store.events(subject=live.id)[0]
    nb.export_runs("shared.nbops.zip", format="bundle")
    monkeypatch.setenv("NBOPS_USER", "bob")
    for name in ("second", "third"):
        other = elsewhere(name)
        nb.import_runs("shared.nbops.zip")
        (event,) = [one for one in other.store.events(subject=live.id) if one.kind != "points.added"]
        assert (event.kind, event.actor, event.payload) == ("run.imported", "bob", {"by": "ada", "at": made.at})
        nb.export_runs("shared.nbops.zip", format="bundle")


def test_a_query_chooses_and_brings_the_runs_inside(workspace: Workspace, elsewhere: Elsewhere) -> None:
    fill(workspace)
    with nb.run("other"):
        pass
    nb.export_runs("fit.nbops.zip", where="tags.team == 'x'", format="bundle")
    other = elsewhere()
    nb.import_runs("fit.nbops.zip")
    assert {run.name for run in other.store.find(Run)} == {"fit", "inner"}
    with pytest.raises(InvalidInput, match="no run matches"):
        nb.export_runs("none.nbops.zip", where="name == 'nobody'", format="bundle")
    assert not Path("none.nbops.zip").exists()


def test_a_run_that_is_not_over_is_left_out(workspace: Workspace, elsewhere: Elsewhere) -> None:
    with nb.run("over"):
        pass
    with nb.run("open"):
        report = nb.export_runs("shared.nbops.zip", format="bundle")
    assert report.counts["runs"] == 1
    assert report.left_out[0].startswith("the run 'open' (run_")
    other = elsewhere()
    nb.import_runs("shared.nbops.zip")
    assert [run.name for run in other.store.find(Run)] == ["over"]


# ---- what is there already -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["note", "points"])
def test_a_run_with_other_content_is_told_and_left_alone(
    workspace: Workspace, elsewhere: Elsewhere, change: str
) -> None:  # fmt: skip
    run = fill(workspace)
    nb.export_runs("shared.nbops.zip", format="bundle")
    other = elsewhere()
    nb.import_runs("shared.nbops.zip")
    if change == "note":
        other.store.update(Run, run.id, lambda known: replace(known, note="mine"))
    else:  # the same count, extremes and ends; one value in between
        values = np.frombuffer(workspace_points(other, run.id, "long"), "<f8").copy()
        values[7] = values[8]
        points = other.store.points(run.id, "long")
        with other.store._work() as work:
            for table in ("series", "chunk"):
                work.connection.exec_driver_sql(f"delete from {table} where run = '{run.id}' and metric = 'long'")
        moved = Columns(Columns.of(points).steps, Columns.of(points).times_ms, values)
        other.store.add_points([moved.to_points(run.id, "long")])
        other.store.put(other.store.get(Run, run.id))
    other.store.delete(Cell, "cell_1")
    before, events = everything(other), other.store.last_event()
    report = nb.import_runs("shared.nbops.zip")
    assert report.counts == {"runs": 0, "already there": 1}  # the run inside
    assert report.problems == (f"the run 'fit' ({run.id}) is here with other content, which was left alone",)
    assert (everything(other), other.store.last_event()) == (before, events)


def workspace_points(ws: Workspace, run: str, metric: str) -> bytes:
    return bytes(ws.store.points(run, metric).values)


def test_what_belongs_to_a_known_run_and_is_missing_comes(workspace: Workspace, elsewhere: Elsewhere) -> None:
    fill(workspace)
    nb.export_runs("shared.nbops.zip", format="bundle")
    other = elsewhere()
    nb.import_runs("shared.nbops.zip")
    before = everything(other)
    other.store.delete(Cell, "cell_1")
    assert nb.import_runs("shared.nbops.zip").counts == {"runs": 0, "already there": 2}
    assert everything(other) == before


def test_what_is_in_the_trash_stays_there(workspace: Workspace, elsewhere: Elsewhere) -> None:
    run = fill(workspace)
    nb.export_runs("shared.nbops.zip", format="bundle")
    other = elsewhere()
    nb.import_runs("shared.nbops.zip")
    nb.trash(run.id)
    assert nb.import_runs("shared.nbops.zip").counts["in the trash"] >= 1
    assert other.store.count(Run) == 0
    purge(other.store, before=math.inf)
    nb.import_runs("shared.nbops.zip")  # deleted for ever: it can come again
    assert other.store.count(Run) == 2


def test_a_number_that_is_taken_is_not_given_twice(workspace: Workspace, elsewhere: Elsewhere) -> None:
    run = fill(workspace)
    third = version(workspace, run, "net", b"second") and version(workspace, run, "net", b"third")
    nb.export_runs("shared.nbops.zip", format="bundle")
    other = elsewhere()
    with nb.run("own") as own:
        mine = nb.snapshot(pd.DataFrame({"z": [9]}), "train")
    version(other, own.record, "net", b"mine")
    report = nb.import_runs("shared.nbops.zip")
    assert "model net/1 is net/2 here" in report.notes[0] or "dataset train/1 is train/2 here" in report.notes[0]
    assert {(v.number, v.parent) for v in other.store.find(ModelVersion)} == {
        (1, own.id), (2, run.id), (3, run.id), (4, run.id),
    }  # fmt: skip
    assert {(d.version, d.digest == mine.digest) for d in other.store.find(Dataset)} == {(1, True), (2, False)}
    assert other.store.get(ModelVersion, third.id).digest == third.digest
    assert check_workspace(other).is_well
    assert nb.import_runs("shared.nbops.zip").counts == {"runs": 0, "already there": 2}  # known by its id all the same


# ---- the file --------------------------------------------------------------------------------------------------------


def test_the_manifest_has_a_digest_for_every_entry(workspace: Workspace) -> None:
    fill(workspace)
    nb.export_runs("shared.nbops.zip", format="bundle")
    with zipfile.ZipFile("shared.nbops.zip") as archive:
        assert archive.testzip() is None
        manifest = json.loads(archive.read("manifest.json"))
        assert set(manifest["entries"]) == set(archive.namelist()) - {"manifest.json"}
        assert all(entry["size_bytes"] == archive.getinfo(n).file_size for n, entry in manifest["entries"].items())
    assert (manifest["format"], manifest["nbops"]) == (1, nb.__version__)


def test_an_export_that_fails_leaves_the_file_of_before(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(workspace)
    nb.export_runs("shared.nbops.zip", format="bundle")
    before = Path("shared.nbops.zip").read_bytes()
    monkeypatch.setattr(SqlStore, "links", lambda store, id="": (_ for _ in ()).throw(StoreError("gone")))
    with pytest.raises(StoreError, match="gone"):
        nb.export_runs("shared.nbops.zip", format="bundle")
    assert Path("shared.nbops.zip").read_bytes() == before
    assert [path.name for path in Path().glob(".*part")] == []


def test_bytes_that_are_gone_are_told_and_the_rest_is_written(workspace: Workspace, elsewhere: Elsewhere) -> None:
    fill(workspace)
    (config,) = nb.find("artifacts", "name == 'config.json'")
    workspace.artifacts.delete(config.digest)
    report = nb.export_runs("shared.nbops.zip", format="bundle")
    assert report.problems[0].startswith(f"'config.json' ({config.digest[:12]}…) is not in the bundle")
    other = elsewhere()
    report = nb.import_runs("shared.nbops.zip")
    assert report.problems == (f"the file 'config.json' of {config.parent} has no bytes in the bundle",)
    assert other.store.count(Run) == 2


def test_text_that_shrinks_far_is_stored_so_that_it_can_be_read(workspace: Workspace, elsewhere: Elsewhere) -> None:
    workspace.store.put(a_run(note="x" * 8_000_000, status=RunStatus.FINISHED))
    nb.export_runs("shared.nbops.zip", format="bundle")
    with zipfile.ZipFile("shared.nbops.zip") as archive:
        assert archive.getinfo("records/run.jsonl").compress_type == zipfile.ZIP_STORED
    other = elsewhere()
    nb.import_runs("shared.nbops.zip")
    assert len(other.store.find(Run)[0].note) == 8_000_000


def test_a_record_that_no_reader_would_take_is_not_written(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    workspace.store.put(a_run(note="x" * 5000, status=RunStatus.FINISHED))
    monkeypatch.setattr(bundle_writing, "MAX_LINE", 5000)
    with pytest.raises(InvalidInput, match="too large for a bundle"):
        nb.export_runs("shared.nbops.zip", format="bundle")


def test_a_folder_is_no_place_for_a_bundle(workspace: Workspace, tmp_path: Path) -> None:
    with nb.run("r"):
        pass
    with pytest.raises(InvalidInput, match="is a folder"):
        nb.export_runs(tmp_path, format="bundle")


def test_memory_does_not_grow_with_the_files(workspace: Workspace, elsewhere: Elsewhere) -> None:
    run = a_run(status=RunStatus.FINISHED)
    workspace.store.put(run)
    path = Path("large.bin")
    with path.open("wb") as stream:
        for _ in range(64):
            stream.write(np.random.default_rng(0).bytes(1 << 20))
    workspace.save_artifact(path, name="large.bin", parent=run.id)
    tracemalloc.start()
    try:
        nb.export_runs("shared.nbops.zip", format="bundle")
        elsewhere()
        nb.import_runs("shared.nbops.zip")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 24 << 20


# ---- nothing half --------------------------------------------------------------------------------------------------


def test_an_import_that_fails_leaves_no_record(
    workspace: Workspace, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    fill(workspace)
    nb.export_runs("shared.nbops.zip", format="bundle")
    other = elsewhere()
    events = other.store.last_event()
    with monkeypatch.context() as broken:
        broken.setattr(SqlStore, "link", lambda *_: (_ for _ in ()).throw(StoreError("the disk is full")))
        with pytest.raises(StoreError, match="disk is full"):
            nb.import_runs("shared.nbops.zip")
    assert [one for kind in KINDS for one in other.store.find(kind)] == []
    assert other.store.last_event() == events
    assert sweep(other.store, other.artifacts, grace_s=-1.0)[0] > 0  # files without a record are swept
    assert list(other.artifacts.blobs()) == []
    assert nb.import_runs("shared.nbops.zip").counts["runs"] == 2


def test_two_who_import_at_once_do_not_overwrite_each_other(
    workspace: Workspace, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    run = fill(workspace)
    nb.export_runs("shared.nbops.zip", format="bundle")
    other = elsewhere()
    choose = bundle_importing._Taker.choose

    def late(taker: Any) -> None:
        choose(taker)
        other.store.put(a_run(id=run.id, note="first"))

    monkeypatch.setattr(bundle_importing._Taker, "choose", late)
    with pytest.raises(Conflict, match="somebody else brings in the same records"):
        nb.import_runs("shared.nbops.zip")
    assert other.store.get(Run, run.id).note == "first"


# ---- how it is used --------------------------------------------------------------------------------------------------


def test_the_verbs(workspace: Workspace, elsewhere: Elsewhere) -> None:
    fill(workspace)
    line = ["export", "shared.nbops.zip", "tags.team", "==", "'x'", "--format", "bundle"]
    assert dispatch(line, Call(namespace={})).counts["runs"] == 2
    elsewhere()
    assert dispatch(["import", "shared.nbops.zip"], Call(namespace={})).counts["runs"] == 2


def test_the_card_of_an_imported_run_is_safe_and_whole(workspace: Workspace, elsewhere: Elsewhere) -> None:
    run = replace(fill(workspace), name=EVIL, note=EVIL, tags={EVIL: EVIL}, context={"source": "/etc/passwd.ipynb"})
    workspace.store.put(run)
    nb.export_runs("shared.nbops.zip", format="bundle")
    other = elsewhere()
    nb.import_runs("shared.nbops.zip")
    for record in (*other.store.find(Run), *other.store.find(ModelVersion), *other.store.find(Dataset)):
        check_html(mimebundle(record)["text/html"])
    shown = mimebundle(other.store.get(Run, run.id))["text/plain"]
    assert "long" in shown
    assert "dead at step 4" in shown


@pytest.mark.postgres
def test_a_bundle_opens_in_postgresql_and_comes_back(
    workspace: Workspace, elsewhere: Elsewhere, postgres_url: str
) -> None:  # fmt: skip
    fill(workspace)
    before = everything(workspace)
    nb.export_runs("shared.nbops.zip", format="bundle")
    other = elsewhere("team", store_url=postgres_url)
    nb.import_runs("shared.nbops.zip")
    assert everything(other) == before
    nb.export_runs("back.nbops.zip", format="bundle")
    third = elsewhere("third")
    nb.import_runs("back.nbops.zip")
    assert everything(third) == before
