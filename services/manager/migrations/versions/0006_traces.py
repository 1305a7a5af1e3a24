"""The trace in which each history entry was written."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column; the trace of older entries is not known."""
    op.execute("ALTER TABLE alert_history ADD COLUMN trace_id text NOT NULL DEFAULT ''")
