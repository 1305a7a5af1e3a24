"""Alerts' histories say which notifications are held by the limit of their tenant."""

from alembic import op

revision = "0029"
down_revision = "0030"

_STATEMENTS = (
    "ALTER TABLE alert_history DROP CONSTRAINT alert_history_kind_check",
    # Not valid: rows from before are not read again, and satisfy it.
    """
    ALTER TABLE alert_history ADD CONSTRAINT alert_history_kind_check CHECK (
        kind IN ('FIRED', 'REPEATED', 'ACKNOWLEDGED', 'RESOLVED', 'NOTIFIED', 'NOTIFICATION_FAILED', 'SUPERSEDED',
                 'UPDATED', 'SILENCED', 'NOTIFICATION_HELD')) NOT VALID
    """,
)


def upgrade() -> None:
    """Allow the kind."""
    for statement in _STATEMENTS:
        op.execute(statement)
