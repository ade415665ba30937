"""W&B's offline files: ``run-….wandb``, read without W&B."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbops.core.errors import CorruptData
from nbops.core.records import RunStatus
from nbops.tracking.exchange.importers.framing import wandb_records
from nbops.tracking.exchange.importers.leaf import Gathered, Incoming, Tell, flat, importer, number_of
from nbops.tracking.exchange.importers.protobuf import Message

# Numbers of the fields of wandb_internal.proto (W&B 0.31)
_HISTORY, _SUMMARY, _CONFIG, _FILES, _STATS, _ARTIFACT, _RUN, _EXIT = 2, 3, 5, 6, 7, 8, 17, 18
_OWN = "_wandb"


def _found(source: str) -> list[Path]:
    path = Path(source).expanduser()
    if path.suffix == ".wandb" and path.is_file():
        return [path]
    return sorted(path.rglob("*.wandb")) if path.is_dir() else []


@importer("wandb", tool="wandb", accepts=lambda source: bool(_found(source)))
def read(source: str, tell: Tell) -> Iterator[Incoming]:
    """Read ``.wandb`` files: one, or all in a folder such as ``wandb/``.

    What it reads
        Project, name, notes, tags, group and sweep; config; every number of the history and of the
        system metrics, with steps and times; the summary; the files that W&B keeps beside it.
    What it cannot read
        Media and tables (their files are kept), and artifacts, which W&B keeps elsewhere.
    References
        LevelDB's log format; ``wandb_internal.proto`` of W&B.
    """
    for path in _found(source):
        run = _Reader(path)
        try:
            for data in wandb_records(path):
                run.take(Message(data))
        except CorruptData as error:
            tell.problems.append(f"{error.message}; what is before it was kept")
        found = run.incoming(tell)
        if found is None:
            tell.problems.append(f"{path.name} holds no run")
        else:
            yield found


class _Reader:
    """Takes the records of one file in order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run: Message | None = None
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.points = Gathered()
        self.last_s = 0.0
        self.exit_code: int | None = None
        self.left_out: dict[str, int] = {}
        self.files: set[str] = set()
        self._samples = 0

    def take(self, record: Message) -> None:
        """Take in one record."""
        if _HISTORY in record:
            self._history(record.message(_HISTORY))
        elif _RUN in record:
            self.run = record.message(_RUN)
            self._config(self.run.message(4))
        elif _CONFIG in record:
            self._config(record.message(_CONFIG))
        elif _SUMMARY in record:
            self.summary.update(_items(record.message(_SUMMARY)))
        elif _STATS in record:
            self._stats(record.message(_STATS))
        elif _FILES in record:
            self.files.update(item.text(1) for item in record.message(_FILES).messages(1))
        elif _ARTIFACT in record:
            artifact = record.message(_ARTIFACT)
            self._leave_out(f"artifact '{artifact.text(5)}'")
        elif _EXIT in record:
            self.exit_code = record.message(_EXIT).integer(1)

    def _config(self, config: Message) -> None:
        self.config.update(_items(config))

    def _history(self, history: Message) -> None:
        values = dict(_items(history))
        step = history.message(2).integer(1) if 2 in history else int(values.get("_step", 0))
        at = float(values.get("_timestamp", self.last_s))
        self.last_s = max(self.last_s, at)
        for name, value in flat(values):
            if name in ("_step", "_timestamp", "_runtime"):
                continue
            number = number_of(value)
            if number is not None:
                self.points.add(name, step, round(at * 1000), number)
            else:
                self._leave_out(f"history of '{name.removesuffix('._type')}', which is no number")

    def _stats(self, stats: Message) -> None:
        at = _seconds(stats.message(2))
        for item in stats.messages(3):
            number = number_of(_value(item.text(16)))
            if number is not None:
                self.points.add(f"system/{item.text(1)}", self._samples, round(at * 1000), number)
        self._samples += 1

    def _leave_out(self, what: str) -> None:
        self.left_out[what] = self.left_out.get(what, 0) + 1

    def incoming(self, tell: Tell) -> Incoming | None:
        """Return the run, or None if the file says nothing of one."""
        run = self.run
        if run is None:
            return None
        for what, count in self.left_out.items():
            tell.left_out.append(f"{self.path.name}: {what} was left out" + (f" ({count} times)" if count > 1 else ""))
        folder = self.path.parent / "files"
        files = [(p.relative_to(folder).as_posix(), p) for p in sorted(folder.rglob("*")) if p.is_file()]
        for name in sorted(self.files - {name for name, _ in files}):
            if "*" not in name:
                tell.problems.append(f"{self.path.name}: the file '{name}' is not beside it")
        created_at = _seconds(run.message(17))
        known = {0: RunStatus.FINISHED, None: RunStatus.INTERRUPTED}
        started = ("group", run.text(6)), ("job_type", run.text(7)), ("sweep", run.text(12)), ("host", run.text(13))
        tags = {f"wandb.{name}": value for name, value in started if value}
        tags |= {name: "true" for name in run.texts(10)}
        tags |= {f"summary.{name}": str(value) for name, value in flat(self.summary) if self._only_in_summary(name)}
        if project := run.text(3):
            tags["experiment"] = project
        return Incoming(
            original_id="/".join(filter(None, [run.text(2), project, run.text(1)])),
            name=run.text(8) or run.text(1),
            created_at=created_at,
            ended_at=max(self.last_s, created_at),
            status=known.get(self.exit_code, RunStatus.FAILED),
            params=dict(flat({k: v for k, v in self.config.items() if k != _OWN})),
            tags=tags,
            note=run.text(9),
            series=self.points.columns(),
            files=list(files),
        )

    def _only_in_summary(self, name: str) -> bool:
        return not name.startswith("_") and name not in self.points


def _items(record: Message) -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of the items of a config, a summary or a history record."""
    for item in record.messages(1):
        name = ".".join(item.texts(2)) or item.text(1)
        if 16 in item:
            yield name, _value(item.text(16))
        elif 6 in item:
            yield name, item.double(6)
        elif 5 in item:
            yield name, item.zigzag(5)
        elif 4 in item:
            yield name, bool(item.integer(4))
        elif 7 in item:
            yield name, item.text(7)
        elif 8 in item:
            yield name, _value(item.text(8))
        elif 3 in item:
            yield name, None


def _value(text: str) -> Any:
    try:
        return json.loads(text)  # Python's reader knows NaN and Infinity, as W&B writes them
    except ValueError:
        return text


def _seconds(timestamp: Message) -> float:
    return timestamp.integer(1) + timestamp.integer(2) / 1e9
