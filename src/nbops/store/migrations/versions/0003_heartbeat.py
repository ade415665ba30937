"""When each process last said that it lives: how hosts that share a database know of each other."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table of heartbeats."""
    op.create_table(
        "heartbeat",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("owner", name="pk_heartbeat"),
    )
