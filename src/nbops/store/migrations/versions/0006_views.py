"""Views with readable columns over the generic tables, for anybody's SQL: their names and columns are a promise.

A later migration that changes the tables drops these views first and makes them anew. Every SQLite parses them when
it opens the file, older ones too: hence `json_extract` and not ``->>``.
"""

from collections.abc import Callable

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

Read = Callable[..., str]  # a path in a record's JSON to the SQL that reads it
Views = dict[str, str]  # name to query


def upgrade() -> None:
    """Create the views; a name that the database uses for something else is left alone."""
    bind = op.get_bind()
    inspector = sa.inspect(bind)
    taken = {*inspector.get_table_names(), *inspector.get_view_names()}
    read = _sqlite if bind.dialect.name == "sqlite" else _postgresql
    for name, body in {**_runs(read), **_models(read), **_files(read), **_findings(), **_links()}.items():
        if name not in taken:
            bind.exec_driver_sql(f"CREATE VIEW {name} AS {body}")


def _sqlite(*path: str) -> str:
    return f"json_extract(r.body, '$.{'.'.join(path)}')"


def _postgresql(*path: str) -> str:
    # PostgreSQL refuses to read any text of a JSON value that holds a NUL somewhere.
    body = r"CAST(replace(r.body, '\u0000', '\ufffd') AS json)"
    return f"({body} #>> '{{{','.join(path)}}}')"


def _number(key: str) -> str:
    return f"(SELECT a.num FROM attr a WHERE a.record = r.id AND a.space = '' AND a.key = '{key}')"


def _whole(key: str) -> str:
    return f"CAST({_number(key)} AS bigint)"


def _text(key: str) -> str:
    return f"(SELECT a.text FROM attr a WHERE a.record = r.id AND a.space = '' AND a.key = '{key}')"


def _of(kind: str, **columns: str) -> str:
    """Return the query of a view over records of one kind: what is in the trash has another kind."""
    named = ", ".join(f"{value} AS {name}" for name, value in columns.items())
    return f"SELECT {named} FROM record r WHERE r.kind = '{kind}'"


def _values(kind: str, space: str, owner: str, values: str) -> str:
    mine = f"a.kind = '{kind}' AND a.space = '{space}'"
    return f"SELECT a.record AS {owner}, a.key AS name, {values} FROM attr a WHERE {mine}"


def _runs(read: Read) -> Views:
    error = {"error_type": read("error", "type"), "error_message": read("error", "message")}
    runs = _of(
        "run", id="r.id", name="r.name", type=_text("type"), status="r.status", parent="r.parent",
        created_at="r.created_at", ended_at=_number("ended_at"), duration_s=_number("duration_s"),
        cell_id=_text("cell_id"), note=read("note"), **error, source=read("context", "source"),
        git_commit=read("context", "git", "commit"), git_dirty=f"CAST({read('context', 'git', 'dirty')} AS boolean)",
        params_json=read("params"),
    )  # fmt: skip
    cells = _of(
        "cell", id="r.id", run="r.parent", cell_id=_text("cell_id"), execution_count=_whole("execution_count"),
        status="r.status", created_at="r.created_at", duration_s=_number("duration_s"), source=read("source"),
        source_digest=_text("source_digest"), **error,
    )  # fmt: skip
    metrics = (
        "SELECT s.run AS run, s.metric AS name, s.last AS value, s.first AS first, s.min AS min, s.max AS max, "
        "s.last_step AS last_step, s.count AS count, s.nan_count AS nan_count "
        "FROM series s JOIN record r ON r.id = s.run WHERE r.kind = 'run'"
    )
    tags = (
        "SELECT a.record AS record, a.kind AS kind, a.key AS name, a.text AS value FROM attr a "
        "WHERE a.space = 'tags' AND substr(a.kind, 1, 6) <> 'trash:'"
    )
    params = _values("run", "params", "run", "a.num AS number, a.text AS text")
    return {"runs": runs, "params": params, "metrics": metrics, "tags": tags, "cells": cells}


def _models(read: Read) -> Views:
    models = _of(
        "model", id="r.id", name="r.name", version=_whole("number"), status="r.status", run="r.parent",
        created_at="r.created_at", digest=_text("digest"), size_bytes=_whole("size_bytes"), cell_id=_text("cell_id"),
    )  # fmt: skip
    aliases = _of("alias", model=_text("model"), alias=_text("alias"), version=_whole("number"),
                  created_at="r.created_at")  # fmt: skip
    metrics = _values("model", "metrics", "model", "a.num AS value")
    return {"models": models, "aliases": aliases, "model_metrics": metrics}


def _files(read: Read) -> Views:
    datasets = _of(
        "dataset", id="r.id", name="r.name", version=_whole("version"), digest=_text("digest"),
        row_count=_whole("rows"), created_at="r.created_at", origin=read("source", "origin"), cell_id=_text("cell_id"),
    )  # fmt: skip
    artifacts = _of(
        "artifact", id="r.id", name="r.name", parent="r.parent", digest=_text("digest"),
        size_bytes=_whole("size_bytes"), media_type=_text("media_type"), created_at="r.created_at",
        cell_id=_text("cell_id"),
    )  # fmt: skip
    return {"datasets": datasets, "artifacts": artifacts}


def _findings() -> Views:
    checks = _of(
        "check", id="r.id", name="r.name", status="r.status", run="r.parent", dataset=_text("dataset"),
        row_count=_whole("rows"), column_count=_whole("columns"), created_at="r.created_at",
        duration_s=_number("duration_s"), cell_id=_text("cell_id"),
    )  # fmt: skip
    diagnoses = _of(
        "diagnosis", id="r.id", rule="r.name", status="r.status", run="r.parent", step=_whole("step"),
        layer=_text("layer"), measured=_number("measured"), limit_value=_number("limit"),
        confidence=_number("confidence"), what=_text("what"), why=_text("why"), fix=_text("fix"),
        created_at="r.created_at", cell_id=_text("cell_id"),
    )  # fmt: skip
    return {"checks": checks, "diagnoses": diagnoses}


def _links() -> Views:
    links = (
        "SELECT l.source AS source, s.kind AS source_kind, l.relation AS relation, l.target AS target, "
        "t.kind AS target_kind FROM link l LEFT JOIN record s ON s.id = l.source LEFT JOIN record t ON t.id = l.target "
        "WHERE substr(coalesce(s.kind, ''), 1, 6) <> 'trash:' AND substr(coalesce(t.kind, ''), 1, 6) <> 'trash:'"
    )
    return {"links": links}
