"""Where the last attempt at a delivery went; empty in the rows of a former notifier. Deliveries are listed by age."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column and the index."""
    op.execute("ALTER TABLE deliveries ADD recipient text NOT NULL DEFAULT ''")
    op.execute("CREATE INDEX deliveries_newest ON deliveries (created_at DESC, id DESC)")
