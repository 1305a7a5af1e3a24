"""How far escalations have come, and the notifications that have reached nobody."""

from alembic import op

revision = "0023"
down_revision = "0022"

_STATEMENTS = (
    "ALTER TABLE incidents ADD escalations json NOT NULL DEFAULT '{}'",
    """
    -- Until the incident knows.
    CREATE TABLE exhausted_notifications (
        tenant text NOT NULL DEFAULT 'default',
        notification_id text NOT NULL,
        incident_id text NOT NULL,
        PRIMARY KEY (tenant, notification_id)
    )
    """,
)


def upgrade() -> None:
    """Add the column and the table."""
    for statement in _STATEMENTS:
        op.execute(statement)
