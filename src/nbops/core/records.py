"""Frozen records: the nouns that are stored. Values know no store; handles that act are ``Live*`` elsewhere.

Times are seconds since the epoch, UTC. Ids come from `nbops.core.ids`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, TypeVar

import msgspec

from nbops.core.display import Shown
from nbops.core.registry import Registry

S = TypeVar("S", bound=msgspec.Struct)


class RunStatus(StrEnum):
    """States of a run; from the others a run only returns to RUNNING, when it is resumed."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    INTERRUPTED = "INTERRUPTED"
    SUPERSEDED = "SUPERSEDED"


class Verdict(StrEnum):
    """Outcome of one check, worst last."""

    PASS = "pass"  # noqa: S105 (no password: a check that passed)
    SKIPPED = "skipped"
    WARN = "warn"
    FAIL = "fail"
    ERROR = "error"

    @property
    def severity(self) -> int:
        """Return 0 (pass) to 4 (error)."""
        return list(Verdict).index(self)


kinds: Registry[type[Record]] = Registry(
    "kind of record",
    modules=(
        "nbops.core.mlflow_records",
        "nbops.core.commands",
        "nbops.core.labelling",
        "nbops.core.mutes",
        "nbops.core.splits",
        "nbops.core.uses",
        "nbops.core.watches",
    ),
)


class Record(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """What every stored record has.

    A subclass sets `kind` (its name in queries) and `prefix` (of its ids). Scalars at the
    top are query fields; the maps `params`, `tags` and `metrics` are query spaces.
    """

    kind: ClassVar[str] = ""
    prefix: ClassVar[str] = ""

    id: str
    created_at: float

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.kind:
            kinds.add(cls.kind, cls)


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An error as it is remembered: type, message, and the cell and line that raised it."""

    type: str
    message: str
    cell_id: str | None = None
    line: int | None = None
    traceback: str = ""


class Summary(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One metric of one run: counts and extremes over all points, NaN counted apart."""

    last: float
    min: float
    max: float
    first: float
    last_step: int
    count: int
    nan_count: int


class Run(Record, frozen=True, kw_only=True):
    """Everything that executes: kind of work in `type`, state in `status`."""

    kind: ClassVar[str] = "run"
    prefix: ClassVar[str] = "run"

    name: str
    type: str = "notebook"  # notebook, script, step, pipeline, trial, check, serve
    status: RunStatus = RunStatus.RUNNING
    parent: str | None = None
    ended_at: float | None = None
    owner: str = ""  # host:pid:start of the process that writes it
    cell_id: str | None = None  # the cell that started it
    params: dict[str, Any] = {}
    tags: dict[str, str] = {}
    note: str = ""
    error: Failure | None = None
    context: dict[str, Any] = {}  # code, environment, hardware as captured at the start
    resumes: list[float] = []  # when it was resumed, oldest first; each begins a new segment of its series
    segments: list[dict[str, int]] = []  # for each resumption, how many points each metric had
    summary: dict[str, Summary] = {}  # filled by the store from the points

    @property
    def duration_s(self) -> float | None:
        """Seconds from start to end; None while it runs."""
        return None if self.ended_at is None else self.ended_at - self.created_at

    @property
    def metrics(self) -> dict[str, float]:
        """Last value of each metric that was logged; what nbops samples itself (``system/…``) is in `summary`."""
        return {name: s.last for name, s in self.summary.items() if not name.startswith("system/")}


class Cell(Record, frozen=True, kw_only=True):
    """One execution of one notebook cell; `parent` is the run that it belongs to."""

    kind: ClassVar[str] = "cell"
    prefix: ClassVar[str] = "cell"

    parent: str
    cell_id: str
    execution_count: int | None
    execution: str = ""  # what the points that it logged call it
    source_digest: str
    source: str = ""
    duration_s: float = 0.0
    status: str = "ok"  # ok, error, running, pending
    error: Failure | None = None
    reads: list[str] = []  # names that it took from other cells
    writes: list[str] = []  # names that it defined, changed or deleted
    outputs: str = ""  # digest of its outputs, as nbformat's JSON, in the artifact store


class Artifact(Record, frozen=True, kw_only=True):
    """A named file of a run; the bytes lie in the artifact store under `digest` (sha256, hex)."""

    kind: ClassVar[str] = "artifact"
    prefix: ClassVar[str] = "art"

    name: str
    digest: str
    size_bytes: int
    media_type: str = "application/octet-stream"
    parent: str | None = None
    cell_id: str | None = None  # the cell that made it


class ColumnSchema(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a dataset: name, type as text, and the digest of its values."""

    name: str
    dtype: str
    digest: str = ""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where data came from: origin, the code that extracted it, its label set, its entry point.

    versions : what the source calls its own version: git, git_dirty, git_path, dvc_md5, dvc_rev, delta; by name
    """

    origin: str = ""
    extraction_code: str = ""
    label_set: str = ""
    entry_point: str = ""
    versions: dict[str, str] = {}


class Dataset(Record, frozen=True, kw_only=True):
    """One version of a named table, or of a folder of files; `digest` covers every cell, or every file.

    `scheme` tells how `digest` was made: None for the first way, over whole columns; ``tree``, from chunks; ``files``,
    of a folder. `manifest` is the sha256 of the file that holds the tree, and says where the data is stored.
    """

    kind: ClassVar[str] = "dataset"
    prefix: ClassVar[str] = "ds"

    name: str
    version: int
    digest: str
    rows: int
    columns: list[ColumnSchema] = []
    profile: dict[str, Any] = {}
    source: Source = Source()
    tags: dict[str, str] = {}
    cell_id: str | None = None  # the cell that made it
    scheme: str | None = None
    manifest: str | None = None

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of files; `rows` counts them."""
        return self.scheme == "files"


class CheckResult(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """One check on one column (or on the table, when `column` is empty)."""

    check: str
    verdict: Verdict
    column: str = ""
    value: float | None = None
    limit: float | None = None
    unit: str = ""  # "", "share" (0 to 1), "rows"
    message: str = ""
    fix: str = ""
    evidence: dict[str, Any] = {}


class CheckReport(Record, frozen=True, kw_only=True):
    """All results of one `nb.check`."""

    kind: ClassVar[str] = "check"
    prefix: ClassVar[str] = "chk"

    name: str
    status: Verdict  # the worst verdict
    rows: int
    columns: int
    duration_s: float
    results: list[CheckResult] = []
    dataset: str | None = None  # id of the dataset, if it was a snapshot
    parent: str | None = None  # run
    cell_id: str | None = None  # the cell that made it

    @property
    def passed(self) -> bool:
        """True when nothing failed and nothing errored; warnings pass."""
        return self.status.severity < Verdict.FAIL.severity

    def of(self, check: str) -> list[CheckResult]:
        """Return the results of the check named `check`."""
        return [r for r in self.results if r.check == check]


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """One possible reason of what was found, and how to tell it from the others."""

    text: str
    test: str = ""  # what separates it from the other causes: an expression or a sentence
    fix: str = ""
    patch: str = ""  # lines of a diff of the user's source: `nbops.debugging.diffs.apply_patch` applies it
    example: str = ""  # code to look at, where there is no patch
    confidence: float = 0.5  # share, 0 to 1
    name: str = ""  # stable, kebab-case: "lr-too-high"


class Diagnosis(Record, frozen=True, kw_only=True):
    """What the debugger found, before or while a model trains: where, what was measured, why, and what to change."""

    kind: ClassVar[str] = "diagnosis"
    prefix: ClassVar[str] = "dg"

    name: str  # the rule
    status: str  # error, warning, hint
    step: int  # of the optimizer; -1 before the first
    layer: str  # path of the module, or what else it is about: loss, batch, optimizer, metric …
    measured: float | None
    limit: float | None
    what: str
    why: str
    fix: str
    confidence: float
    phase: str = "training"  # preflight, training, replay
    expected: str = ""
    got: str = ""
    line: int | None = None  # of the cell that `cell_id` names, counted from 1
    code: str = ""  # that line
    causes: list[Cause] = []  # most likely first
    evidence: dict[str, Any] = {}  # small numbers and lists behind `measured`
    cell_id: str | None = None
    parent: str | None = None  # run


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One input or output: dtype in NumPy's names, shape with -1 for a dynamic dimension."""

    name: str
    dtype: str
    shape: list[int]


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """What a model takes and gives."""

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]


class ModelVersion(Record, frozen=True, kw_only=True):
    """One registered version; `number` is never reused, `digest` is that of the bundle's manifest."""

    kind: ClassVar[str] = "model"
    prefix: ClassVar[str] = "mv"

    name: str
    number: int
    digest: str
    signature: Signature
    size_bytes: int = 0
    parent: str | None = None  # source run
    metrics: dict[str, float] = {}
    tags: dict[str, str] = {}
    parity: dict[str, Any] = {}
    status: str = "ready"
    cell_id: str | None = None  # the cell that made it

    @property
    def ref(self) -> str:
        """``name/number``: the reference that always means this version."""
        return f"{self.name}/{self.number}"


class Alias(Record, frozen=True, kw_only=True):
    """A movable name of one model version; `history` holds every setting, the present one last."""

    kind: ClassVar[str] = "alias"
    prefix: ClassVar[str] = "al"

    name: str  # model@alias
    model: str
    alias: str
    number: int
    history: list[AliasMove] = []


class AliasMove(msgspec.Struct, frozen=True, kw_only=True):
    """One setting of an alias."""

    number: int
    at: float
    by: str = ""
    reason: str = ""
    is_rollback: bool = False


class Endpoint(Record, frozen=True, kw_only=True):
    """A served model: where it listens and what it serves. The token is not part of the record."""

    kind: ClassVar[str] = "endpoint"
    prefix: ClassVar[str] = "ep"

    name: str
    url: str
    status: str  # STARTING, READY, STOPPED, DEAD
    pid: int
    models: list[str]  # refs name/number
    ref: str = ""  # as asked for: name@alias
    owner: str = ""
    ended_at: float | None = None


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One edge of the lineage: `source` relation `target`, by record ids."""

    source: str
    relation: str  # used, produced, registered, serves, child_of, …
    target: str


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened; `seq` grows by commit order within one workspace."""

    seq: int
    at: float
    kind: str  # run.created, run.updated, alias.moved, points.added …
    subject: str
    payload: dict[str, Any] = {}
    actor: str = ""  # who did it: a user's name
    digest: str = ""  # over this event and all before it


def resumed(run: Run, *, at: float) -> Run:
    """Return the record of a run that goes on after `at`, seconds: each metric begins a new segment."""
    counts = {metric: known.count for metric, known in run.summary.items()}
    return replace(run, resumes=[*run.resumes, at], segments=[*run.segments, counts])


def replace(record: S, **changes: Any) -> S:
    """Return a copy of a frozen record with `changes`."""
    return msgspec.structs.replace(record, **changes)
