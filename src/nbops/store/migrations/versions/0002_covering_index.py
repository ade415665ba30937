"""Numbers are found in the index alone: it holds the record beside the value, and the table is not visited."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Replace the index of numbers by one that also holds the record."""
    op.create_index("ix_attr_kind_space_key_num_record", "attr", ["kind", "space", "key", "num", "record"])
    op.drop_index("ix_attr_kind_space_key_num", table_name="attr")
