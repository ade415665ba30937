"""Events say who acted and carry a digest over all before them; nobody may change or remove one."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_REFUSAL = "the audit log is append-only"


def upgrade() -> None:
    """Add the columns, and the triggers that refuse changes."""
    op.add_column("event", sa.Column("actor", sa.Text, nullable=False, server_default=""))
    op.add_column("event", sa.Column("digest", sa.Text, nullable=False, server_default=""))
    if op.get_bind().dialect.name == "sqlite":
        for action in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER event_no_{action.lower()} BEFORE {action} ON event "
                f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
            )
    else:
        op.execute(
            "CREATE FUNCTION event_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$"
        )
        op.execute(
            "CREATE TRIGGER event_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON event "
            "EXECUTE FUNCTION event_is_append_only()"
        )
