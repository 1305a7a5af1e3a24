"""Of which alerts a notification tells besides the one that it is about, and by which one receivers know of each."""

from alembic import op

revision = "0031"
down_revision = "0029"

_STATEMENTS = (
    """
    ALTER TABLE incident_history
        ADD fired_alerts text[] NOT NULL DEFAULT '{}',
        ADD ended_alerts text[] NOT NULL DEFAULT '{}'
    """,
    """
    CREATE INDEX incident_history_bundles ON incident_history (notification_id)
    WHERE fired_alerts <> '{}' OR ended_alerts <> '{}'
    """,
    "ALTER TABLE alert_history ADD notification_id text NOT NULL DEFAULT ''",
)


def upgrade() -> None:
    """Add the columns, and an index that has few of the entries."""
    for statement in _STATEMENTS:
        op.execute(statement)
