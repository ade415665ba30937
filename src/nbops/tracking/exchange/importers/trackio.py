"""trackio's SQLite files, one per project."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nbops.core.errors import StoreError
from nbops.core.records import RunStatus
from nbops.store.foreign import Tables, open_tables
from nbops.tracking.exchange.importers.leaf import Gathered, Incoming, Tell, flat, importer, is_sqlite, number_of

_NEEDED = {"metrics", "configs"}


def _found(source: str) -> list[Path]:
    path = Path(source).expanduser()
    files = [path] if path.is_file() else sorted(path.glob("*.db")) if path.is_dir() else []
    return [file for file in files if is_sqlite(str(file)) and _is_trackio(file)]


def _is_trackio(file: Path) -> bool:
    try:
        with open_tables(file) as tables:
            return tables.names >= _NEEDED and "run_name" in tables.columns("metrics")
    except StoreError:
        return False


@importer("trackio", tool="trackio", accepts=lambda source: bool(_found(source)))
def read(source: str, tell: Tell) -> Iterator[Incoming]:
    """Read trackio's SQLite: one project's file, or all in a folder.

    What it reads
        Configs, every number logged, with step and time, and the system metrics.
    What it cannot read
        Text, tables and media in logs, alerts, traces and trackio's artifacts; each is told.
    References
        trackio's ``sqlite_storage.py``.
    """
    for path in _found(source):
        with open_tables(path) as tables:
            yield from _runs(tables, path.stem, tell)


def _runs(tables: Tables, project: str, tell: Tell) -> Iterator[Incoming]:
    key = "run_id" if "run_id" in tables.columns("metrics") else "run_name"
    configs = {row[key]: row for row in tables.rows("configs")}
    names = {row[key]: row["run_name"] for row in tables.rows("configs")}
    for table in ("metrics", "system_metrics"):
        names |= {row[key]: row["run_name"] for row in tables.rows(table)}
    for run, name in names.items():
        points, left_out, times = _points(tables, key, run)
        config = _json(configs[run]["config"]) if run in configs else {}
        created = _ms(config.get("_Created") or (configs[run]["created_at"] if run in configs else ""))
        own = {k: v for k, v in config.items() if k.startswith("_")}
        for what, count in left_out.items():
            tell.left_out.append(f"{project}/{name}: '{what}' is no number and was left out ({count} times)")
        yield Incoming(
            original_id=f"{project}/{run}",
            name=str(name),
            created_at=(created or min(times, default=0)) / 1000,
            ended_at=max([*times, created]) / 1000,
            status=RunStatus.FINISHED,  # trackio keeps no state of a run
            params=dict(flat({k: v for k, v in config.items() if k not in own})),
            tags={"experiment": project, **{f"trackio.{k[1:].lower()}": str(v) for k, v in own.items() if v}},
            series=points.columns(),
        )
    for table in ("alerts", "traces", "artifact_versions"):
        count = sum(1 for _ in tables.rows(table))
        if count:
            tell.left_out.append(f"{project}: {count} rows of trackio's {table} were left out")


def _points(tables: Tables, key: str, run: Any) -> tuple[Gathered, dict[str, int], list[int]]:
    points, left_out, times = Gathered(), dict[str, int](), list[int]()
    for table, prefix in (("metrics", ""), ("system_metrics", "system/")):
        for n, row in enumerate(tables.rows(table, order_by=("id",), **{key: run})):
            at = _ms(row["timestamp"])
            times.append(at)
            for name, value in flat(_json(row["metrics"])):
                number = number_of(value)
                if number is None:
                    left_out[prefix + name] = left_out.get(prefix + name, 0) + 1
                else:
                    points.add(prefix + name, int(row.get("step", n)), at, number)
    return points, left_out, times


def _json(text: Any) -> dict[str, Any]:
    value = json.loads(text)  # text, or bytes in newer versions
    return value if isinstance(value, dict) else {}


def _ms(text: str) -> int:
    if not text:
        return 0
    at = datetime.fromisoformat(text)
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
