"""The relational schema (SQLAlchemy Core). `migrations/` builds the same tables step by step.

Every kind of record lives in one table, its fields as JSON in `body`; whatever a query may
ask for (scalars, params, tags, metrics) is repeated in `attr`, one indexed row each. A new
kind of record therefore needs no migration, and one compiler serves every kind.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"},
)
_Float = sa.Double

record = sa.Table(
    "record",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("name", sa.Text),
    sa.Column("status", sa.Text),
    sa.Column("parent", sa.Text),
    sa.Column("created_at", _Float, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("summary", sa.LargeBinary),  # of a run that has ended: a copy of its rows in `series`
    sa.Index(None, "kind", "created_at", "id"),
    sa.Index(None, "kind", "name"),
    sa.Index(None, "kind", "status"),
    sa.Index(None, "parent", "kind"),
)

# A row with neither number nor text is a NaN; an absent value has no row.
attr = sa.Table(
    "attr",
    metadata,
    sa.Column("record", sa.Text, primary_key=True),
    sa.Column("space", sa.Text, primary_key=True),  # "" for fields, else params, tags, metrics
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("num", _Float),
    sa.Column("text", sa.Text),
    # Both hold the record too: a filter is answered from the index alone, and the table is not visited.
    sa.Index(None, "kind", "space", "key", "num", "record"),
    sa.Index(None, "kind", "space", "key", "text", "record"),
)

link = sa.Table(
    "link",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("relation", sa.Text, primary_key=True),
    sa.Column("target", sa.Text, primary_key=True),
    sa.Index(None, "target"),
)

event = sa.Table(
    "event",
    metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("at", _Float, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False, server_default=""),
    sa.Column("digest", sa.Text, nullable=False, server_default=""),
    sa.Index(None, "subject"),
    sqlite_autoincrement=True,  # a sequence number is never given twice, also after a purge
)

counter = sa.Table(
    "counter",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)

# One row per metric of a run: what lists and queries need without touching a point.
series = sa.Table(
    "series",
    metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("metric", sa.Text, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("nan_count", sa.BigInteger, nullable=False),
    sa.Column("last_step", sa.BigInteger, nullable=False),
    sa.Column("first", _Float),  # NULL stands for NaN in these four
    sa.Column("last", _Float),
    sa.Column("min", _Float),
    sa.Column("max", _Float),
    sa.Column("chunks", sa.Integer, nullable=False),
)

chunk = sa.Table(
    "chunk",
    metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("metric", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)

# How far each process's journal has been folded into chunks.
journal = sa.Table(
    "journal",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("folded", sa.BigInteger, nullable=False),
)

# When each process last said that it lives, by the database's clock; only on a database that hosts share.
heartbeat = sa.Table(
    "heartbeat",
    metadata,
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("at", _Float, nullable=False),
)
