"""What MLflow has and nbops has not, as records: experiments, logged models, registered models and their versions.

The server's MLflow-compatible API writes them; they are found and shown like any other. Runs,
points and artifacts are the ordinary ones of the workspace. Times of MLflow are whole milliseconds.
"""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import field

from nbops.core.records import Record

ACTIVE, DELETED = "active", "deleted"


class Experiment(Record, frozen=True, kw_only=True):
    """A named group of runs; its number in MLflow is the end of its id: ``exp_3``."""

    kind: ClassVar[str] = "experiment"
    prefix: ClassVar[str] = "exp"

    name: str
    status: str = ACTIVE
    updated_at: float = 0.0
    artifact_location: str = ""
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def number(self) -> str:
        """The id that MLflow's clients use."""
        return self.id.partition("_")[2]


class LoggedModel(Record, frozen=True, kw_only=True):
    """A model that MLflow's clients logged: its files are artifacts with this record as parent."""

    kind: ClassVar[str] = "logged-model"
    prefix: ClassVar[str] = "lm"

    name: str
    status: str = "LOGGED_MODEL_PENDING"
    experiment: str
    parent: str | None = None  # source run
    type: str = ""
    updated_at: float = 0.0
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)  # the newest value of each
    measured: list[dict[str, Any]] = field(default_factory=list)  # metrics as MLflow logs them for a model
    registrations: list[dict[str, Any]] = field(default_factory=list)


class RegisteredModel(Record, frozen=True, kw_only=True):
    """A name in MLflow's registry, with its aliases; versions are records of their own."""

    kind: ClassVar[str] = "mlflow-model"
    prefix: ClassVar[str] = "rm"

    name: str
    updated_at: float = 0.0
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)


class RegisteredVersion(Record, frozen=True, kw_only=True):
    """One version in MLflow's registry; `number` is never given twice, also after the model was deleted."""

    kind: ClassVar[str] = "mlflow-version"
    prefix: ClassVar[str] = "rmv"

    name: str
    number: int
    parent: str  # the registered model
    status: str = "READY"
    stage: str = "None"
    updated_at: float = 0.0
    description: str = ""
    source: str = ""
    run: str = ""  # MLflow's id of the source run
    run_link: str = ""
    model: str = ""  # MLflow's id of the logged model
    tags: dict[str, str] = field(default_factory=dict)
