"""Bundles from strangers: each thing that is not as nbops writes it is refused, and nothing of it is imported."""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import stat
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest

import nbops as nb
from nbops.core.codec import encode
from nbops.core.errors import CorruptData, InvalidInput
from nbops.core.records import Artifact, Cell, Dataset, Link, Record, Run, RunStatus
from nbops.store.points import Columns, encode_chunk
from nbops.store.workspace import Workspace, init
from nbops.testing import a_run, some_points
from nbops.tracking.exchange import bundle_reading
from nbops.tracking.exchange.bundle_reading import is_bundle

PATH = "stranger.nbops.zip"


@pytest.fixture
def parts(workspace: Workspace, tmp_path: Path) -> dict[str, bytes]:
    """The entries of a sound bundle without its manifest; the current workspace is another, empty one."""
    run = a_run(id="run_A", name="fit", status=RunStatus.FINISHED, created_at=100.0, ended_at=160.0)
    workspace.store.put(run)
    workspace.store.put(Cell(id="cell_A", created_at=101.0, parent=run.id, cell_id="c", execution_count=1,
                             source_digest="s", source="x = 1"))  # fmt: skip
    workspace.store.put(Dataset(id="ds_A", created_at=1.0, name="d", version=1, digest="x", rows=1))
    workspace.store.link("ds_A", "used_by", run.id)
    workspace.save_artifact(b"content", name="file", parent=run.id)
    workspace.store.add_points([some_points(run.id, "loss", [float(i % 7) for i in range(5000)])])
    workspace.store.put(run)
    nb.export_runs("sound.nbops.zip", format="bundle")
    with zipfile.ZipFile("sound.nbops.zip") as archive:
        found = {name: archive.read(name) for name in archive.namelist() if name != "manifest.json"}
    init(tmp_path / "victim")
    return found


def manifest_of(parts: dict[str, bytes], **changes: Any) -> bytes:
    entries = {n: {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)} for n, data in parts.items()}
    return json.dumps({"format": 1, "entries": entries} | changes).encode()


def write(parts: dict[str, bytes], manifest: bytes | None = None, *, method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(PATH, "w", method) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
        archive.writestr("manifest.json", manifest_of(parts) if manifest is None else manifest)


def state() -> tuple[Any, ...]:
    """All that an import could have left in the current workspace."""
    ws = nb.workspace()
    with ws.store.engine.connect() as connection:
        tables = ("record", "attr", "link", "series", "chunk", "counter", "event")
        rows = [connection.exec_driver_sql(f"select count(*) from {table}").scalar_one() for table in tables]
    return (*rows, list(ws.artifacts.blobs()), sorted(path.name for path in Path().resolve().iterdir()))


def refused(match: str) -> None:
    """Let the import be refused with these words, with a hint, and nothing be left behind."""
    before = state()
    with pytest.raises(CorruptData, match=match) as caught:
        nb.import_runs(PATH)
    assert caught.value.hint
    assert state() == before


def lines(*records: Record | Link | dict[str, Any]) -> bytes:
    return b"".join(encode(one) + b"\n" for one in records)


def test_the_sound_bundle_is_taken(parts: dict[str, bytes]) -> None:
    write(parts)
    assert nb.import_runs(PATH).counts == {"runs": 1, "points": 5000, "files": 1, "datasets": 1}
    write(parts, method=zipfile.ZIP_DEFLATED)  # packed anew by somebody's tool
    assert nb.import_runs(PATH).counts == {"runs": 0, "already there": 1}


# ---- the zip file ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"no zip at all" * 100, b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_zip_file(parts: dict[str, bytes], data: bytes) -> None:
    Path(PATH).write_bytes(data)
    refused("refused")


def test_a_file_that_was_cut_off(parts: dict[str, bytes]) -> None:
    write(parts)
    whole = Path(PATH).read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 100):
        Path(PATH).write_bytes(whole[:size])
        refused("refused")


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/evil", "blobs/../../evil", "blobs\\..\\evil", "C:evil", "records/../run.jsonl", "records/",
     "points/run_A.bin/x", "blobs/" + "a" * 63, "blobs/" + "A" * 64, "manifest.json/x", "evil.py", "blobs/\u202e",
     "records/run.jsonl "],
)  # fmt: skip
def test_names_that_are_not_ours(parts: dict[str, bytes], name: str) -> None:
    write(parts | {name: b"x"})
    refused("is no name of an entry")


def test_a_link_or_a_device_in_the_place_of_a_file(parts: dict[str, bytes]) -> None:
    for kind in (stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR):
        with zipfile.ZipFile(PATH, "w") as archive:
            for name, data in parts.items():
                info = zipfile.ZipInfo(name)
                info.external_attr = ((kind if name.startswith("blobs/") else stat.S_IFREG) | 0o777) << 16
                archive.writestr(info, data)
            archive.writestr("manifest.json", manifest_of(parts))
        refused("is no plain file")


def test_an_entry_that_is_there_twice(parts: dict[str, bytes]) -> None:
    write(parts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with zipfile.ZipFile(PATH, "a") as archive:
            archive.writestr("links.jsonl", b"")
    refused("'links.jsonl' is in it twice")


def test_a_small_file_that_would_become_a_large_one(parts: dict[str, bytes]) -> None:
    bomb = b"\0" * (64 << 20)
    write(parts | {f"blobs/{hashlib.sha256(bomb).hexdigest()}": bomb}, method=zipfile.ZIP_DEFLATED)
    assert Path(PATH).stat().st_size < 1 << 20
    refused("would become 67,108,864 bytes from")


def test_many_small_files_that_would_become_a_lot(parts: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_reading, "_SLACK", 100_000)
    blobs = [bytes([n]) * 90_000 for n in range(250)]  # each alone may shrink so far
    write(parts | {f"blobs/{hashlib.sha256(data).hexdigest()}": data for data in blobs}, method=zipfile.ZIP_DEFLATED)
    refused("its entries would become 22,")


def test_a_size_that_is_a_lie(parts: dict[str, bytes]) -> None:
    bomb = b"\0" * (8 << 20)
    name = f"blobs/{hashlib.sha256(bomb).hexdigest()}"
    write(parts | {name: bomb}, method=zipfile.ZIP_DEFLATED)
    data = Path(PATH).read_bytes()
    for real, said in ((len(bomb), 900_000), (len(parts["records/run.jsonl"]), 10)):
        Path(PATH).write_bytes(data.replace(struct.pack("<L", real), struct.pack("<L", said)))
        refused("refused")


def test_entries_that_share_their_bytes(parts: dict[str, bytes]) -> None:
    write(parts)
    with zipfile.ZipFile(PATH) as archive:
        infos = archive.infolist()
    data = bytearray(Path(PATH).read_bytes())
    large = max(infos, key=lambda info: info.compress_size)
    for found in re.finditer(re.escape(b"PK\x01\x02"), bytes(data)):  # every entry leads to the largest one
        struct.pack_into("<LL", data, found.start() + 20, large.compress_size, large.file_size)
        struct.pack_into("<L", data, found.start() + 42, large.header_offset)
    Path(PATH).write_bytes(data)
    refused("its entries would become")


def test_a_list_of_entries_that_is_too_long(parts: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    write(parts)
    monkeypatch.setattr(bundle_reading, "MAX_DIRECTORY", 200)
    refused("lists too many entries")


def test_the_length_of_the_list_is_known_in_both_forms(parts: dict[str, bytes]) -> None:
    write(parts)
    data = Path(PATH).read_bytes()
    at = data.rindex(b"PK\x05\x06")
    size, offset = struct.unpack_from("<LL", data, at + 12)
    assert bundle_reading._directory_bytes(io.BytesIO(data), len(data)) == size
    larger = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 9, 9, 1 << 40, offset)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 9, 9, 0xFFFFFFFF, offset, 0)
    Path(PATH).write_bytes(data[:at] + larger + locator + end)
    refused("lists too many entries")


def test_packed_by_other_means(parts: dict[str, bytes]) -> None:
    write(parts, method=zipfile.ZIP_BZIP2)
    refused("packed in a way that nbops does not use")
    write(parts)
    data = bytearray(Path(PATH).read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1  # encrypted
    Path(PATH).write_bytes(data)
    refused("packed in a way that nbops does not use")


# ---- the manifest ----------------------------------------------------------------------------------------------------


def test_no_manifest(parts: dict[str, bytes]) -> None:
    with zipfile.ZipFile(PATH, "w") as archive:
        archive.writestr("links.jsonl", b"")
    refused("it has no manifest")


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"\xff\xfe", b'{"format": "x", "entries": {}}', b'{"format": 1}', b"[" * 100_000,
             b'{"format": 1, "entries": {"links.jsonl": 7}}'],
)  # fmt: skip
def test_a_manifest_that_is_none(parts: dict[str, bytes], data: bytes) -> None:
    write(parts, data)
    refused("its manifest cannot be read")


def test_a_manifest_that_is_too_large(parts: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    write(parts)
    monkeypatch.setattr(bundle_reading, "MAX_MANIFEST", 100)
    refused("its manifest is too large")


def test_a_newer_format_says_to_update(parts: dict[str, bytes]) -> None:
    write(parts, manifest_of(parts, format=2, entries="as format 2 has them"))
    before = state()
    with pytest.raises(CorruptData, match="format 2, this nbops reads up to 1") as caught:
        nb.import_runs(PATH)
    assert caught.value.hint.startswith("Update nbops")
    assert state() == before


def test_an_entry_that_is_missing_or_unknown(parts: dict[str, bytes]) -> None:
    for name in parts:
        write({other: data for other, data in parts.items() if other != name}, manifest_of(parts))
        refused("is missing")
    write(parts | {"points/run_B.bin": b"x"}, manifest_of(parts))
    refused("'points/run_B.bin' is not in its manifest")


def test_a_digest_that_is_wrong(parts: dict[str, bytes]) -> None:
    for name, data in parts.items():
        changed = data[:-1] + bytes([data[-1] ^ 1])
        write(parts | {name: changed}, manifest_of(parts))  # the content was changed, the manifest was not
        refused("is not what its manifest says|no |cannot be read|ends within")
    blob = next(name for name in parts if name.startswith("blobs/"))
    write(parts | {blob: b"other"})  # the manifest was changed with it, but the name says what it must be
    refused("is not what its manifest says")


def test_a_record_of_a_wrong_digest_is_found_before_any_is_written(parts: dict[str, bytes]) -> None:
    name = "records/run.jsonl"
    write(parts | {name: parts[name].replace(b'"fit"', b'"fat"')}, manifest_of(parts))
    refused(f"'{name}' is not what its manifest says")


# ---- what the entries hold -------------------------------------------------------------------------------------------


def run_line(**changes: Any) -> bytes:
    base = {"id": "run_A", "created_at": 100.0, "ended_at": 160.0, "name": "fit", "status": "FINISHED"}
    return json.dumps(base | changes).encode() + b"\n"


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"no json\n", "no Run"),
        (b"[]\n", "no Run"),
        (b"{}\n", "no Run"),
        (b'{"a":' * 50_000 + b"\n", "no Run"),
        (run_line().strip(), "ends within a line"),
        (run_line() + run_line(), "run_A is in it twice"),
        (run_line(id="cell_A"), "no id of the sort 'run'"),
        (run_line(id="run_../../x"), "no id of the sort 'run'"),
        (run_line(id="run_" + "x" * 100), "no id of the sort 'run'"),
        (run_line(status="RUNNING", ended_at=None), "is not over"),
        (run_line(status="ODD"), "no Run"),
        (run_line(created_at=1e300), "a number or a time that cannot be"),
        (run_line(created_at={"$float": "NaN"}), "a number or a time that cannot be"),
        (run_line(created_at=-1.0), "a number or a time that cannot be"),
        (run_line(resumes=[1e18]), "a number or a time that cannot be"),
        (run_line(params={"x": int("9" * 400)}), "no Run|cannot be stored"),
    ],
)
def test_records_that_are_none(parts: dict[str, bytes], data: bytes, match: str) -> None:
    write(parts | {"records/run.jsonl": data})
    refused(match)


def test_a_line_that_is_too_long(parts: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_reading, "MAX_LINE", 1 << 16)
    write(parts | {"records/run.jsonl": run_line(note="x" * (2 << 20))})
    refused("a line of more than")


@pytest.mark.parametrize("owner", ["run_victim", "mv_victim", "ds_victim", None, "cell_A"])
def test_nothing_hangs_itself_onto_a_record_of_this_workspace(parts: dict[str, bytes], owner: str | None) -> None:
    nb.workspace().store.put(a_run(id="run_victim", status=RunStatus.FINISHED))
    digest = next(name for name in parts if name.startswith("blobs/"))[6:]
    file = Artifact(id="art_evil", created_at=1.0, name="evil", digest=digest, size_bytes=7, parent=owner)
    write(parts | {"records/artifact.jsonl": lines(file)})
    refused("belongs to .* which is not in it")


@pytest.mark.parametrize(("source", "relation", "target"), [
    ("ds_A", "used_by", "run_victim"), ("run_victim", "parent_of", "run_A"), ("ds_A", "used by\n", "run_A"),
])  # fmt: skip
def test_links_stay_within(parts: dict[str, bytes], source: str, relation: str, target: str) -> None:
    nb.workspace().store.put(a_run(id="run_victim", status=RunStatus.FINISHED))
    write(parts | {"links.jsonl": lines(Link(source=source, relation=relation, target=target))})
    refused("a link leads out of it")


def test_a_record_that_is_here_is_never_replaced(parts: dict[str, bytes]) -> None:
    store = nb.workspace().store
    store.put(a_run(id="run_victim", status=RunStatus.FINISHED))
    store.put(
        Cell(id="cell_A", created_at=1.0, parent="run_victim", cell_id="mine", execution_count=1, source_digest="s")
    )
    write(parts)
    nb.import_runs(PATH)
    assert store.get(Cell, "cell_A").cell_id == "mine"


def test_a_file_must_have_a_digest_for_a_name(parts: dict[str, bytes]) -> None:
    file = Artifact(id="art_A", created_at=1.0, name="evil", digest="../../evil", size_bytes=7, parent="run_A")
    write(parts | {"records/artifact.jsonl": lines(file)})
    refused("names no file")


def test_who_made_it_is_said_of_what_is_in_it(parts: dict[str, bytes]) -> None:
    write(parts | {"origins.jsonl": lines({"id": "run_B", "by": "ada", "at": 1.0})})
    refused("which is not in it")
    write(parts | {"origins.jsonl": lines({"id": "run_A", "by": "ada", "at": 1e40})})
    refused("which is not in it")


def frame(metric: bytes, chunk: bytes) -> bytes:
    return struct.pack("<HI", len(metric), len(chunk)) + metric + chunk


def chunk(values: list[float], cells: Any = ()) -> bytes:
    columns = Columns.of(some_points("run_A", "m", values))
    return encode_chunk(Columns(columns.steps, columns.times_ms, columns.values, cells))


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"\0", "impossible length"),
        (struct.pack("<HI", 4, 0xFFFFFFFF) + b"loss", "impossible length"),
        (struct.pack("<HI", 0, 5) + b"12345", "impossible length"),
        (frame(b"loss", chunk([1.0]))[:-1], "end within a frame"),
        (frame(b"loss", b"rubbish"), "damaged"),
        (frame(b"\xff", chunk([1.0])), "cannot be read"),
        (frame(b"loss", chunk([1.0] * 5000)), "not as nbops writes it"),
        (frame(b"loss", chunk([1.0], ((5, "c"),))), "not as nbops writes it"),
        (frame(b"loss", chunk([1.0, 2.0], ((0, "c"), (1, "d"), (1, "e")))), "not as nbops writes it"),
        (frame(b"loss", chunk([1.0], ((0, "c" * 2000),))), "not as nbops writes it"),
        (frame(b"a", chunk([1.0])) + frame(b"b", chunk([1.0])) + frame(b"a", chunk([1.0])), "do not lie together"),
    ],
)
def test_points_that_are_none(parts: dict[str, bytes], data: bytes, match: str) -> None:
    write(parts | {"points/run_A.bin": data})
    before = state()
    with pytest.raises(CorruptData, match=match):
        nb.import_runs(PATH)
    assert state() == before


def test_points_of_a_run_that_is_not_in_it(parts: dict[str, bytes]) -> None:
    write(parts | {"points/run_B.bin": frame(b"loss", chunk([1.0]))})
    refused("points of run_B, which is not in it")


def test_records_of_a_sort_that_is_not_known_are_left_out_and_told(parts: dict[str, bytes]) -> None:
    write(parts | {"records/later-kind.jsonl": b"{}\n"})
    report = nb.import_runs(PATH)
    assert report.left_out == ("records of the sort 'later-kind', which this nbops does not bring",)
    assert report.counts["runs"] == 1


def test_bits_that_flip_are_refused_or_mean_nothing(parts: dict[str, bytes], tmp_path: Path) -> None:
    write(parts, method=zipfile.ZIP_DEFLATED)
    whole, rng = Path(PATH).read_bytes(), random.Random(0)
    before, harmless = state(), 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 1, 8))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        Path(PATH).write_bytes(data)
        try:
            nb.import_runs(PATH)
        except CorruptData:
            assert state() == before
            continue
        harmless += 1  # a date, or a local header that nobody reads: what came in is the sound bundle
        assert nb.workspace().store.get(Run, "run_A").name == "fit"
        assert nb.series("run_A", "loss").values.tolist() == [float(i % 7) for i in range(5000)]
        init(tmp_path / f"fresh-{harmless}")
        before = state()
    assert harmless < 150


# ---- which files are taken for bundles -------------------------------------------------------------------------------


def test_a_zip_file_or_one_named_like_a_bundle_is_taken_for_one(tmp_path: Path) -> None:
    with zipfile.ZipFile("any.zip", "w") as archive:
        archive.writestr("a", b"b")
    Path("text.nbops.zip").write_text("text")
    Path("text.txt").write_text("PK")
    assert [is_bundle(name) for name in ("any.zip", "text.nbops.zip", "text.txt", "none.nbops.zip", str(tmp_path))] == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_another_format_can_be_named(workspace: Workspace) -> None:
    Path("text.txt").write_text("no bundle")
    with pytest.raises(CorruptData, match="no zip file"):
        nb.import_runs("text.txt", format="bundle")
    with pytest.raises(InvalidInput, match="looks like no format"):
        nb.import_runs("text.txt")
