"""A run that has ended keeps the summaries of its metrics with itself: a page of many runs reads one row each."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column."""
    op.add_column("record", sa.Column("summary", sa.LargeBinary))
