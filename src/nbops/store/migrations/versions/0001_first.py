"""The first schema: records, attributes, links, events, counters, series, chunks, journals."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create all tables."""
    _records()
    _history()
    _points()


def _records() -> None:
    op.create_table(
        "record",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("status", sa.Text),
        sa.Column("parent", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_record"),
    )
    op.create_index("ix_record_kind_created_at_id", "record", ["kind", "created_at", "id"])
    op.create_index("ix_record_kind_name", "record", ["kind", "name"])
    op.create_index("ix_record_kind_status", "record", ["kind", "status"])
    op.create_index("ix_record_parent_kind", "record", ["parent", "kind"])
    op.create_table(
        "attr",
        sa.Column("record", sa.Text, nullable=False),
        sa.Column("space", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("num", sa.Double),
        sa.Column("text", sa.Text),
        sa.PrimaryKeyConstraint("record", "space", "key", name="pk_attr"),
    )
    op.create_index("ix_attr_kind_space_key_num", "attr", ["kind", "space", "key", "num"])
    op.create_index("ix_attr_kind_space_key_text", "attr", ["kind", "space", "key", "text"])


def _history() -> None:
    op.create_table(
        "link",
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("relation", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("source", "relation", "target", name="pk_link"),
    )
    op.create_index("ix_link_target", "link", ["target"])
    op.create_table(
        "event",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_event"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_event_subject", "event", ["subject"])
    op.create_table(
        "counter",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counter"),
    )


def _points() -> None:
    op.create_table(
        "series",
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("metric", sa.Text, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("nan_count", sa.BigInteger, nullable=False),
        sa.Column("last_step", sa.BigInteger, nullable=False),
        sa.Column("first", sa.Double),
        sa.Column("last", sa.Double),
        sa.Column("min", sa.Double),
        sa.Column("max", sa.Double),
        sa.Column("chunks", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("run", "metric", name="pk_series"),
    )
    op.create_table(
        "chunk",
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("metric", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("run", "metric", "number", name="pk_chunk"),
    )
    op.create_table(
        "journal",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("folded", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_journal"),
    )
