"""Bundles: what one registered version consists of, stored by content under the digest of its manifest.

A bundle holds ``model.onnx`` (and its external data where one file is too small for it),
``signature.json``, ``environment.json`` and ``card.md``. No pickle, and nothing in it is executed
by unpacking it.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from nbops.core.codec import decode, encode
from nbops.core.errors import CorruptData, InvalidInput, NotFound, StoreError
from nbops.core.records import Signature
from nbops.models.onnx_files import MODEL_FILE, check_onnx
from nbops.store.workspace import Workspace

FORMAT = 1
MEDIA_TYPE = "application/vnd.nbops.bundle+json"
_LIBRARIES = ("nbops", "torch", "onnx", "onnxruntime", "onnxruntime-gpu", "onnxscript", "numpy", "scikit-learn")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NEEDED = (MODEL_FILE, "signature.json", "environment.json", "card.md")
_STAMP = ".verified"
_BLOCK = 1 << 20


class BundleFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a bundle: sha256 in hex, and size."""

    digest: str
    size_bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle is; the sha256 of its JSON is the bundle's digest."""

    format: int
    name: str
    created_at: float
    files: dict[str, BundleFile]
    signature: Signature
    environment: dict[str, Any]
    run: str | None = None
    cell: str | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files.values())


def environment() -> dict[str, Any]:
    """Return Python, platform and versions of the libraries that shape an export."""
    found = {}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue  # absence is the fact that is recorded
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "libraries": found,
    }


def pack(
    ws: Workspace,
    folder: Path,
    *,
    name: str,
    signature: Signature,
    card: str,
    created_at: float,
    run: str | None = None,
    cell: str | None = None,
) -> tuple[Manifest, str]:
    """Store the model files in `folder` with signature, environment and card; return (manifest, bundle digest)."""
    here = environment()
    texts = {"signature.json": encode(signature), "environment.json": encode(here), "card.md": card.encode()}
    contents: dict[str, Path | bytes] = {file.name: file for file in sorted(folder.iterdir()) if file.is_file()}
    contents.update(texts)
    files = {}
    for file_name, content in contents.items():
        digest, size = ws.artifacts.put(content)
        files[file_name] = BundleFile(digest=digest, size_bytes=size)
    manifest = Manifest(
        format=FORMAT, name=name, created_at=created_at, files=files, signature=signature, environment=here,
        run=run, cell=cell,
    )  # fmt: skip
    digest, _ = ws.artifacts.put(encode(manifest))
    return manifest, digest


def read_manifest(ws: Workspace, digest: str) -> Manifest:
    """Return the manifest of a bundle.

    Raises
    ------
    NotFound
        No such bundle in the artifact store.
    CorruptData
        Its bytes do not match the digest, or it is no manifest that this version reads.
    """
    with ws.artifacts.open(digest) as stream:
        data = stream.read()
    try:
        manifest = decode(data, Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptData(f"{digest[:12]}… is not a bundle's manifest: {error}", hint="Check the digest.") from error
    if manifest.format > FORMAT:
        raise CorruptData(
            f"bundle {digest[:12]}… has format {manifest.format}, this nbops reads up to {FORMAT}",
            hint="Update nbops to read it.",
        )
    for file_name in manifest.files:
        if not _FILE_NAME.fullmatch(file_name):
            raise CorruptData(
                f"bundle {digest[:12]}… names the file {file_name!r}, which may lie outside its folder",
                hint="Refuse this bundle and register the model again.",
            )
    missing = [file_name for file_name in _NEEDED if file_name not in manifest.files]
    if missing:
        raise CorruptData(f"bundle {digest[:12]}… lacks {', '.join(missing)}", hint="Register the model again.")
    return manifest


def materialise(ws: Workspace, digest: str) -> Path:
    """Return a local folder with the verified files of a bundle.

    The folder is made once, beside the workspace (``bundles/<digest>``), and appears whole or not at
    all. Every later call compares size and times of the files with those noted when they were
    verified; where one differs, it is hashed again, and a folder that does not match is made anew
    from the artifact store.

    Parameters
    ----------
    ws : Workspace
        Where the bundle is.
    digest : str
        sha256 of its manifest: ``ModelVersion.digest``.

    Raises
    ------
    CorruptData
        Stored bytes that do not match their digest, or a model that reads files outside its folder.
    NotFound
        No such bundle, or one of its files is gone from the artifact store.
    InvalidInput
        The text is no digest.
    StoreError
        The folder cannot be made.
    """
    if not _DIGEST.fullmatch(digest):
        raise InvalidInput(f"{digest!r} is no bundle's digest", hint="Pass ModelVersion.digest.")
    target = ws.path / "bundles" / digest
    if _is_stamped(target):
        return target
    manifest = read_manifest(ws, digest)
    if target.is_dir() and _matches(target, manifest):
        _stamp(target, manifest)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{digest[:12]}-", dir=target.parent))
    try:
        _unpack(ws, manifest, staging)
        _stamp(staging, manifest)
        _swap_in(staging, target, manifest)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def _unpack(ws: Workspace, manifest: Manifest, folder: Path) -> None:
    for name, file in manifest.files.items():
        try:
            source = ws.artifacts.open(file.digest)
        except NotFound:
            raise NotFound(
                f"'{name}' ({file.digest[:12]}…) of model '{manifest.name}' is gone from the artifact store",
                hint="Restore the artifact store from a backup, or register the model again.",
            ) from None
        with source, (folder / name).open("wb") as out:
            shutil.copyfileobj(source, out, _BLOCK)
    if not _matches(folder, manifest):  # the disk, or a writer beside us, changed what was verified on the way
        raise CorruptData(f"the files of model '{manifest.name}' changed while unpacking", hint="Try again.")
    check_onnx(folder / MODEL_FILE)  # a model may read nothing but the files of its own bundle


def _swap_in(staging: Path, target: Path, manifest: Manifest) -> None:
    try:
        staging.rename(target)
        return
    except OSError as error:
        if not target.is_dir():
            raise StoreError(
                f"cannot make the folder {target}: {error.strerror}", hint="Move away what is in its place."
            ) from error
    if _matches(target, manifest):  # another process was first
        return
    doomed = Path(tempfile.mkdtemp(prefix=".old-", dir=target.parent))
    try:
        target.rename(doomed / "bundle")
        staging.rename(target)
    finally:
        shutil.rmtree(doomed, ignore_errors=True)


def _matches(folder: Path, manifest: Manifest) -> bool:
    for name, file in manifest.files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file() or path.stat().st_size != file.size_bytes:
            return False
        hasher = hashlib.sha256()
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                hasher.update(block)
        if hasher.hexdigest() != file.digest:
            return False
    return True


def _times(folder: Path, names: Mapping[str, Any] | list[str]) -> dict[str, list[int]]:
    """Size, modification and change time (ns) of each file; the change time moves with any write."""
    found = {}
    for name in names:
        stat = (folder / name).lstat()
        found[name] = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
    return found


def _stamp(folder: Path, manifest: Manifest) -> None:
    (folder / _STAMP).write_bytes(encode(_times(folder, manifest.files)))


def _is_stamped(folder: Path) -> bool:
    try:
        noted = decode((folder / _STAMP).read_bytes(), dict[str, list[int]])
        return _times(folder, list(noted)) == noted and set(_NEEDED) <= set(noted)
    except (OSError, msgspec.MsgspecError):
        return False
