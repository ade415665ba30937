"""What MLflow's database and its file store have in common: states, values, where artifacts lie."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from nbops.core.records import RunStatus
from nbops.tracking.exchange.importers.leaf import Incoming, Tell

PARENT, NOTE, NAME = "mlflow.parentRunId", "mlflow.note.content", "mlflow.runName"
STATES = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}  # RunStatus of service.proto
_STATUS = {"FINISHED": RunStatus.FINISHED, "FAILED": RunStatus.FAILED, "KILLED": RunStatus.INTERRUPTED}


def status_of(state: str) -> tuple[RunStatus, dict[str, str]]:
    """Return our status for MLflow's, and a tag with MLflow's own word where it says more."""
    status = _STATUS.get(state, RunStatus.INTERRUPTED)
    return status, {} if status == state else {"original_status": state}


def value_of(value: float, is_nan: Any) -> float:
    """Return what was logged: MLflow's database keeps NaN as a flag and infinities as the largest number."""
    if is_nan:
        return math.nan
    return math.copysign(math.inf, value) if abs(value) == sys.float_info.max else value


def seconds(milliseconds: Any) -> float | None:
    """Return a time in seconds; None for none."""
    return None if milliseconds is None else float(milliseconds) / 1000


def artifacts_in(uri: str | None, *, run: Incoming, nearby: list[Path], tell: Tell) -> list[tuple[str, Path | bytes]]:
    """Return the files of a run's artifact folder, where that is on this machine.

    Parameters
    ----------
    uri : str or None
        As MLflow keeps it: a path, ``file://…``, ``mlflow-artifacts:/…``, ``s3://…``.
    nearby : list of Path
        Where the folder may lie instead, if the whole store was moved.
    """
    parts = urlsplit(uri or "")
    places = [Path(unquote(parts.path))] if parts.scheme in ("", "file") and parts.path else []
    folder = next((place for place in [*places, *nearby] if place.is_dir()), None)
    if folder is not None:
        return [(p.relative_to(folder).as_posix(), p) for p in sorted(folder.rglob("*")) if p.is_file()]
    if parts.scheme not in ("", "file"):
        where = f"{parts.scheme}://{parts.netloc}"
        tell.problems.append(f"{run.name}: files under {where} were not fetched; copy them here and import again")
    return []
