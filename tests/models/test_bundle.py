"""Bundles: verified folders, refused corruption, and no way out of the folder."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
import pytest

from nbops.core.codec import encode
from nbops.core.errors import CorruptData, InvalidInput, NotFound, StoreError
from nbops.core.protocols import ArtifactStore
from nbops.core.records import ModelVersion
from nbops.models.bundle import BundleFile, Manifest, materialise, pack, read_manifest
from nbops.models.exporters import exporters
from nbops.models.loading import load
from nbops.models.onnx_files import check_onnx, read_onnx
from nbops.models.registering import register
from nbops.models.torch_exporter import export_torch
from nbops.store.workspace import Workspace

Array = np.ndarray[Any, Any]


@pytest.fixture
def version(workspace: Workspace, small: bytes, three_rows: Array) -> ModelVersion:
    return register(small, "m", example=three_rows)


def _blob(ws: Workspace, digest: str) -> Path:
    return ws.path / "blobs" / digest[:2] / digest


def test_a_bundle_has_what_serving_needs(workspace: Workspace, version: ModelVersion, small: bytes) -> None:
    folder = materialise(workspace, version.digest)
    names = {"model.onnx", "signature.json", "environment.json", "card.md"}
    assert names <= {file.name for file in folder.iterdir()}
    assert (folder / "model.onnx").read_bytes() == small
    signature = json.loads((folder / "signature.json").read_text())
    assert signature["inputs"] == [{"name": "x", "dtype": "float32", "shape": [-1, 3]}]
    environment = json.loads((folder / "environment.json").read_text())
    assert {"python", "platform", "libraries"} <= set(environment)
    assert {"nbops", "torch", "onnx", "numpy"} <= set(environment["libraries"])
    manifest = read_manifest(workspace, version.digest)
    assert set(manifest.files) == names
    assert manifest.size_bytes == version.size_bytes == sum((folder / name).stat().st_size for name in names)


def test_a_corrupt_blob_is_refused_by_digest(workspace: Workspace, version: ModelVersion) -> None:
    digest = read_manifest(workspace, version.digest).files["model.onnx"].digest
    path = _blob(workspace, digest)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1  # one bit
    path.write_bytes(data)
    with pytest.raises(CorruptData, match=digest[:12]):
        load("m")
    with pytest.raises(CorruptData, match=digest[:12]):
        materialise(workspace, version.digest)
    assert list((workspace.path / "bundles").iterdir()) == []  # nothing half unpacked stays


def test_a_corrupt_manifest_is_refused_by_digest(workspace: Workspace, version: ModelVersion) -> None:
    path = _blob(workspace, version.digest)
    path.write_bytes(path.read_bytes().replace(b'"m"', b'"n"'))
    with pytest.raises(CorruptData, match=version.digest[:12]):
        load("m")


def test_a_missing_file_is_named(workspace: Workspace, version: ModelVersion) -> None:
    _blob(workspace, read_manifest(workspace, version.digest).files["model.onnx"].digest).unlink()
    with pytest.raises(NotFound, match=r"'model.onnx' \(.*\) of model 'm' is gone"):
        materialise(workspace, version.digest)


def test_a_changed_local_copy_is_made_anew(workspace: Workspace, version: ModelVersion, small: bytes) -> None:
    folder = materialise(workspace, version.digest)
    for spoil in (b"x" * len(small), small[:10], None):
        path = folder / "model.onnx"
        path.unlink() if spoil is None else path.write_bytes(spoil)
        assert materialise(workspace, version.digest) == folder
        assert path.read_bytes() == small


def test_a_touched_local_copy_is_hashed_and_kept(workspace: Workspace, version: ModelVersion) -> None:
    folder = materialise(workspace, version.digest)
    inode = folder.stat().st_ino
    os.utime(folder / "model.onnx", (1, 1))
    (folder / "mine.txt").write_text("not ours to remove")
    assert materialise(workspace, version.digest).stat().st_ino == inode
    (folder / ".verified").write_text("{")
    assert materialise(workspace, version.digest).stat().st_ino == inode


def test_an_unchanged_copy_needs_no_artifact_store(workspace: Workspace, version: ModelVersion) -> None:
    folder = materialise(workspace, version.digest)
    _blob(workspace, version.digest).unlink()
    assert materialise(workspace, version.digest) == folder


def test_something_in_the_place_of_the_folder_is_told(workspace: Workspace, version: ModelVersion) -> None:
    (workspace.path / "bundles").mkdir()
    (workspace.path / "bundles" / version.digest).write_text("a file")
    with pytest.raises(StoreError, match="cannot make the folder"):
        materialise(workspace, version.digest)


class Torn:
    """An artifact store whose bytes change between verifying and reading, as on a failing disk."""

    def __init__(self, real: ArtifactStore, digest: str) -> None:
        self.real, self.digest = real, digest

    def open(self, digest: str) -> BinaryIO:
        return io.BytesIO(b"torn") if digest == self.digest else self.real.open(digest)

    def settle(self) -> None:
        self.real.settle()


def test_bytes_that_change_on_the_way_are_refused(
    workspace: Workspace, version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    digest = read_manifest(workspace, version.digest).files["card.md"].digest
    with monkeypatch.context() as torn:
        torn.setattr(workspace, "artifacts", Torn(workspace.artifacts, digest))
        with pytest.raises(CorruptData, match="the files of model 'm' changed while unpacking"):
            materialise(workspace, version.digest)
    assert list((workspace.path / "bundles").iterdir()) == []


def test_many_unpack_at_once(workspace: Workspace, version: ModelVersion, small: bytes) -> None:
    found: list[bytes] = []

    def one() -> None:
        found.append((materialise(workspace, version.digest) / "model.onnx").read_bytes())

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [small] * 8
    assert [path.name for path in (workspace.path / "bundles").iterdir()] == [version.digest]


def _forged(ws: Workspace, version: ModelVersion, **changes: Any) -> str:
    import msgspec

    manifest = msgspec.structs.replace(read_manifest(ws, version.digest), **changes)
    return ws.artifacts.put(encode(manifest))[0]


def test_a_manifest_that_names_files_elsewhere_is_refused(workspace: Workspace, version: ModelVersion) -> None:
    files = read_manifest(workspace, version.digest).files
    for name in ("../evil", "/tmp/evil", "a/b", "..", ".verified", "a\\b"):
        digest = _forged(workspace, version, files={**files, name: files["card.md"]})
        with pytest.raises(CorruptData, match="may lie outside its folder"):
            materialise(workspace, digest)


def test_other_manifests_that_cannot_be_used_are_refused(workspace: Workspace, version: ModelVersion) -> None:
    files = dict(read_manifest(workspace, version.digest).files)
    del files["signature.json"]
    with pytest.raises(CorruptData, match=r"lacks signature\.json"):
        materialise(workspace, _forged(workspace, version, files=files))
    with pytest.raises(CorruptData, match="has format 99, this nbops reads up to 1"):
        materialise(workspace, _forged(workspace, version, format=99))
    for data in (b"[]", b"{", b"\xff\xfe", b"{}"):
        with pytest.raises(CorruptData, match="is not a bundle's manifest"):
            materialise(workspace, workspace.artifacts.put(data)[0])
    with pytest.raises(NotFound):
        materialise(workspace, "0" * 64)
    with pytest.raises(InvalidInput):
        materialise(workspace, "../../etc")


@pytest.fixture
def external(tmp_path: Path, small: bytes) -> Path:
    """A model whose weights lie in ``weights.bin`` beside it."""
    folder = tmp_path / "external"
    folder.mkdir()
    onnx.save(
        onnx.load_model_from_string(small), folder / "m.onnx", save_as_external_data=True, location="weights.bin",
        size_threshold=0,
    )  # fmt: skip
    return folder / "m.onnx"


def test_external_data_beside_the_model_travels_with_it(
    workspace: Workspace, external: Path, three_rows: Array
) -> None:
    assert check_onnx(external) == ["weights.bin"]
    version = register(external, "m", example=three_rows)
    assert "weights.bin" in read_manifest(workspace, version.digest).files
    external.with_name("weights.bin").unlink()
    with load("m") as model:
        assert np.shape(model.predict(three_rows)) == (3, 2)


def _redirect(path: Path, **entries: str) -> None:
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = entries.get(entry.key, entry.value)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret", "sub/w", "..", "", "a\\b"])
def test_external_data_elsewhere_is_refused(
    workspace: Workspace, external: Path, three_rows: Array, location: str
) -> None:
    (external.parent.parent / "secret").write_bytes(b"0" * 1000)
    _redirect(external, location=location)
    with pytest.raises(CorruptData, match="outside its own folder"):
        register(external, "m", example=three_rows)


def test_external_data_that_is_a_link_missing_or_short_is_refused(external: Path) -> None:
    data = external.with_name("weights.bin")
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    with pytest.raises(CorruptData, match=r"'weights\.bin' has .* bytes, but 'm\.onnx' reads up to"):
        check_onnx(external)
    data.unlink()
    with pytest.raises(CorruptData, match="is not a file beside it"):
        check_onnx(external)
    (external.parent.parent / "secret").write_bytes(whole)
    data.symlink_to(external.parent.parent / "secret")
    with pytest.raises(CorruptData, match="is not a file beside it"):
        check_onnx(external)
    _redirect(external, length="-5")
    data.unlink()
    data.write_bytes(whole)
    with pytest.raises(CorruptData, match="external offset or length '-5'"):
        check_onnx(external)


def test_external_data_hidden_in_a_subgraph_is_found(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    hidden = TensorProto(name="hidden", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    hidden.external_data.add(key="location", value="/etc/passwd")
    constant = helper.make_node("Constant", [], ["c"], value=hidden)
    branch = helper.make_graph([constant], "branch", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, [1])])
    node = helper.make_node("If", ["p"], ["y"], then_branch=branch, else_branch=branch)
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("p", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )  # fmt: skip
    path = tmp_path / "hidden.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(CorruptData, match=r"'hidden' in '/etc/passwd'"):
        check_onnx(path)


def test_a_stored_model_that_reads_beyond_its_bundle_is_refused(
    workspace: Workspace, version: ModelVersion, external: Path, tmp_path: Path
) -> None:
    files = read_manifest(workspace, version.digest).files
    _redirect(external, location="card.md", offset="0", length="4")
    digest, size = workspace.artifacts.put(external)
    own = _forged(workspace, version, files={**files, "model.onnx": BundleFile(digest=digest, size_bytes=size)})
    assert materialise(workspace, own)  # inside the bundle: odd, but it reads nothing that is not its own
    _redirect(external, location="../card.md")
    digest, size = workspace.artifacts.put(external)
    out = _forged(workspace, version, files={**files, "model.onnx": BundleFile(digest=digest, size_bytes=size)})
    with pytest.raises(CorruptData, match="outside its own folder"):
        materialise(workspace, out)


def test_files_that_are_no_models_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for data, message in (
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        (b"", r"\(0 bytes\) is not an ONNX model"),
        (b"<html></html>", "is not an ONNX model"),
        (b"\x80\x04\x95junk", "is not an ONNX model"),  # a pickle
    ):
        path.write_bytes(data)
        with pytest.raises(InvalidInput, match=message):
            read_onnx(path)
    with pytest.raises(NotFound, match="no file"):
        read_onnx(tmp_path / "gone.onnx")


def test_a_model_too_large_for_one_file_gets_a_data_file(
    workspace: Workspace, tmp_path: Path, trained_cnn: Any, digits: tuple[Array, Array]
) -> None:
    def in_two_files(model: Any, rows: Any, path: Path) -> None:
        export_torch(model, rows, path, single_file_limit_bytes=100)

    version = register(trained_cnn, "big", example=digits[0][:10], exporter=in_two_files)
    files = read_manifest(workspace, version.digest).files
    assert {"model.onnx", "model.onnx.data"} <= set(files)
    with load("big") as model:
        assert np.shape(model.predict(digits[0][:3])) == (3, 10)
        assert model.memory_bytes() > files["model.onnx.data"].size_bytes


def test_one_file_is_the_rule(workspace: Workspace, trained_cnn: Any, digits: tuple[Array, Array]) -> None:
    version = register(trained_cnn, "m", example=digits[0][:10])
    assert "model.onnx.data" not in read_manifest(workspace, version.digest).files


def test_the_digest_covers_every_file(
    workspace: Workspace, version: ModelVersion, linear: Callable[..., bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    digests = set()
    for weight, card in ((1.0, "a"), (2.0, "a"), (1.0, "b"), (1.0, "a")):
        (folder / "model.onnx").write_bytes(linear(np.full((3, 2), weight), np.zeros(2)))
        manifest, digest = pack(workspace, folder, name="m", signature=version.signature, card=card, created_at=1.0)
        assert isinstance(manifest, Manifest)
        digests.add(digest)
    assert len(digests) == 3


def test_a_bundle_that_is_built_again_has_the_same_digest(
    workspace: Workspace, version: ModelVersion, tmp_path: Path
) -> None:  # fmt: skip
    known = read_manifest(workspace, version.digest)
    unpacked = materialise(workspace, version.digest)
    folder = tmp_path / "again"
    folder.mkdir()
    (folder / "model.onnx").write_bytes((unpacked / "model.onnx").read_bytes())
    before = sorted(blob.digest for blob in workspace.artifacts.blobs())

    def build(**changes: Any) -> str:
        names = ("name", "signature", "created_at", "run", "cell")
        facts = {name: getattr(known, name) for name in names} | {"card": (unpacked / "card.md").read_text()}
        return pack(workspace, folder, **facts | changes)[1]

    assert build() == version.digest
    assert sorted(blob.digest for blob in workspace.artifacts.blobs()) == before  # nothing was stored a second time
    assert build(card="another") != version.digest
    (folder / "model.onnx").write_bytes(b"other weights")
    assert build() != version.digest
    assert read_manifest(workspace, version.digest) == known


def test_every_exporter_says_when_it_is_wrong() -> None:
    assert set(exporters) == {"onnx", "torch"}
    for leaf in exporters.values():
        assert leaf.__doc__ == leaf.export.__doc__  # its page in the reference
        for section in ("Why it matters", "When it is wrong", "Fix", "References"):
            assert section in str(leaf.__doc__)
