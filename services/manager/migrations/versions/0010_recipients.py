"""Whom a notification reached, and about which state of the alert; empty in the rows of a former manager."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the columns."""
    op.execute("ALTER TABLE alert_history ADD recipient text NOT NULL DEFAULT ''")
    op.execute("ALTER TABLE alert_history ADD notified_state text NOT NULL DEFAULT ''")
