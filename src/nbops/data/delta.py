"""Delta Lake tables: their version, and their data; by their log, and through `deltalake` where that is not enough.

The log is read as the protocol describes it (github.com/delta-io/delta, PROTOCOL.md) for tables of reader version 1:
no deletion vectors, no mapped columns. Others, and those that are elsewhere, need the library. Rows come in the order
in which they were added, so that the same version has one digest, and appended rows come last.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from nbops.core.errors import InvalidInput, MissingDependency

LOG = "_delta_log"
_COMMIT = re.compile(r"(\d{20})\.json")


@dataclass(frozen=True)
class Delta:
    """A table at one version; `handle` is the library's, if one was given."""

    place: str
    version: int
    handle: Any = None


def is_delta(data: Any) -> bool:
    """Tell whether `data` is the path of a Delta Lake table, or a table of the library `deltalake`."""
    if isinstance(data, str | os.PathLike):
        return (Path(data) / LOG).is_dir()
    return type(data).__name__ == "DeltaTable" and hasattr(data, "table_uri")


def delta_of(data: Any) -> Delta | None:
    """Return the table that `data` is; None if it is none.

    Raises
    ------
    InvalidInput
        Its log has no version.
    """
    if not is_delta(data):
        return None
    if not isinstance(data, str | os.PathLike):
        return Delta(str(data.table_uri), int(data.version()), data)
    versions = [int(m[1]) for path in (Path(data) / LOG).iterdir() if (m := _COMMIT.fullmatch(path.name))]
    if not versions:
        raise InvalidInput(f"the Delta table '{data}' has no version in its log", hint="Copy the whole table again.")
    return Delta(os.fspath(data), max(versions))


def read_delta(data: Any) -> Any:
    """Return the Arrow table of a Delta Lake table.

    Raises
    ------
    MissingDependency
        The table needs more than plain reading, and `deltalake` is not installed.
    InvalidInput
        The log or a file of the table cannot be read.
    """
    found = delta_of(data)
    assert found is not None  # noqa: S101 (for the type checker: callers ask is_delta first)
    try:
        import pyarrow as pa
    except ImportError:
        raise MissingDependency.of("pyarrow", "pandas") from None

    try:
        if not is_here(found.place):
            return pa.table(found.handle.to_pyarrow_table())
        root = Path(unquote(found.place.removeprefix("file://")))
        files, metadata, reader = _replayed(root, found.version)
        if reader == 1:
            return _by_log(root, files, metadata)
        return pa.table((found.handle or _opened(root, found.version, reader)).to_pyarrow_table())
    except (pa.ArrowException, OSError, json.JSONDecodeError, KeyError) as error:
        line = str(error).partition("\n")[0][:200]
        raise InvalidInput(f"cannot read the Delta table '{found.place}': {line}",
                           hint="The table may be incomplete: copy it again.") from error  # fmt: skip


# ---- by the log ------------------------------------------------------------------------------------------------------


def is_here(place: str) -> bool:
    """Whether a table is a folder of this machine."""
    return place.startswith("file://") or "://" not in place


def _opened(root: Path, version: int, reader: int) -> Any:
    try:
        import deltalake
    except ImportError:
        raise MissingDependency(
            f"the Delta table '{root}' has reader version {reader}, which needs deltalake",
            hint="Install it with: pip install 'nbops[delta]'",
        ) from None
    return deltalake.DeltaTable(root, version=version)


def _by_log(root: Path, files: dict[str, dict[str, Any]], metadata: dict[str, Any]) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(metadata)
    divided = metadata.get("partitionColumns") or []
    plain = pa.schema([field for field in schema if field.name not in divided])
    parts = []
    for path, told in sorted(files.items(), key=lambda item: (item[1].get("modificationTime") or 0, item[0])):
        values = dict(told.get("partitionValues") or {})
        table = pq.ParquetFile(root / unquote(path)).read()
        columns = [table[f.name].cast(f.type) if f.name in table.column_names else pa.nulls(table.num_rows, f.type)
                   for f in plain]  # fmt: skip
        have = dict(zip(plain.names, columns, strict=True))
        for name in divided:
            value = values.get(name)
            text = pa.array([value or None], pa.string())  # an empty text is null in the log
            have[name] = pa.repeat(text.cast(schema.field(name).type)[0], table.num_rows)
        parts.append(pa.table([have[field.name] for field in schema], schema=schema))
    return pa.concat_tables(parts) if parts else schema.empty_table()


def _replayed(root: Path, version: int) -> tuple[dict[str, dict[str, Any]], dict[str, Any], int]:
    """Return what the log says of the files of a version, the table's metadata, and which readers it needs."""
    actions: list[dict[str, Any]] = []
    start = -1
    checkpoints = [path for path in sorted((root / LOG).glob("*.checkpoint.parquet"))
                   if int(path.name.split(".")[0]) <= version]  # fmt: skip
    if checkpoints:
        import pyarrow.parquet as pq

        start = int(checkpoints[-1].name.split(".")[0])
        for row in pq.ParquetFile(checkpoints[-1]).read().to_pylist():
            actions += [{kind: value} for kind, value in row.items() if value]
    commits = sorted(path for path in (root / LOG).iterdir() if _COMMIT.fullmatch(path.name))
    fresh = [path for path in commits if start < int(path.stem) <= version]
    if [int(path.stem) for path in fresh] != list(range(start + 1, version + 1)):
        raise InvalidInput(f"the log of the Delta table '{root}' has gaps", hint="Copy the whole table again.")
    for path in fresh:
        actions += [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    files: dict[str, dict[str, Any]] = {}
    metadata: dict[str, Any] = {}
    reader = 1
    for action in actions:
        for kind, told in action.items():
            if kind == "protocol":
                reader = int(told.get("minReaderVersion", 1))
            elif kind == "metaData":
                metadata = told
            elif kind == "add":
                files[told["path"]] = told
            elif kind == "remove":
                files.pop(told["path"], None)
    return files, metadata, reader


def _schema(metadata: dict[str, Any]) -> Any:
    import pyarrow as pa

    return pa.schema([pa.field(f["name"], _type(f["type"]), f.get("nullable", True))
                      for f in json.loads(metadata["schemaString"])["fields"]])  # fmt: skip


def _type(told: Any) -> Any:
    """Return Arrow's type for one of the protocol."""
    import pyarrow as pa

    if isinstance(told, dict):
        if told["type"] == "array":
            return pa.list_(_type(told["elementType"]))
        if told["type"] == "map":
            return pa.map_(_type(told["keyType"]), _type(told["valueType"]))
        return pa.struct([pa.field(f["name"], _type(f["type"])) for f in told["fields"]])
    if found := re.fullmatch(r"decimal\((\d+), ?(\d+)\)", told):
        return pa.decimal128(int(found[1]), int(found[2]))
    known = {
        "string": pa.string(), "long": pa.int64(), "integer": pa.int32(), "short": pa.int16(), "byte": pa.int8(),
        "float": pa.float32(), "double": pa.float64(), "boolean": pa.bool_(), "binary": pa.binary(),
        "date": pa.date32(), "timestamp": pa.timestamp("us", "UTC"), "timestamp_ntz": pa.timestamp("us"),
    }  # fmt: skip
    return known[told]
