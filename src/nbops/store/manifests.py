"""What the manifests of datasets name: files that hold cells, or the files of a folder. `data` writes them.

They are JSON and begin alike, so that a sweep knows them at any size.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

DATASET_TYPE = "application/vnd.nbops.dataset+json"
FOLDER_TYPE = "application/vnd.nbops.folder+json"
MANIFESTS = (DATASET_TYPE, FOLDER_TYPE)
START = b'{"nbops.'
_DIGEST = re.compile(r"[0-9a-f]{64}")


def stored_files(manifest: bytes) -> list[str]:
    """Return the sha256 of each file that a manifest names, without the digests of its tree; nothing if it is none."""
    try:
        found: Any = msgspec.json.decode(manifest)
    except msgspec.DecodeError:  # a damaged one is told by whoever reads the dataset
        return []
    if not isinstance(found, dict):
        return []
    stored, files = found.get("stored"), found.get("files")
    named: list[Any] = list(stored.get("objects") or []) if isinstance(stored, dict) else []
    if isinstance(files, list):
        named += [file[2] for file in files if isinstance(file, list) and len(file) == 3]
    digests = [digest for digest in named if isinstance(digest, str) and _DIGEST.fullmatch(digest)]
    return list(dict.fromkeys(digests))
