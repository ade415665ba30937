"""Values are found in the index alone: it holds the record beside the value, and the table is not visited."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Replace the indexes of values by ones that also hold the record."""
    for side in ("num", "text"):
        place = ["kind", "space", "key", side]
        op.create_index(f"ix_attr_kind_space_key_{side}_record", "attr", [*place, "record"])
        op.drop_index(f"ix_attr_kind_space_key_{side}", table_name="attr")
