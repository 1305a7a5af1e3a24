"""The labels by which an alert is matched; NULL in older rows, whose labels follow from their evidence."""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add the column."""
    op.execute("ALTER TABLE alerts ADD labels jsonb")
