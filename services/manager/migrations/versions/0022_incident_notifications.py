"""Notifications are about incidents: what receivers know of them, and what withholds notifications of their alerts."""

from alembic import op

revision = "0022"
down_revision = "0021"

_STATEMENTS = (
    """
    ALTER TABLE incidents
        ADD dedup_key text NOT NULL DEFAULT '',
        ADD sequence bigint NOT NULL DEFAULT 0,
        -- As the code writes them. json takes any text of logs, jsonb does not.
        ADD receivers json NOT NULL DEFAULT '{}',
        ADD flapping json NOT NULL DEFAULT '[]',
        ADD notify_time timestamptz
    """,
    """
    ALTER TABLE incident_alerts
        ADD is_acknowledged boolean NOT NULL DEFAULT false,
        ADD routes json NOT NULL DEFAULT '[]',
        ADD file_route text NOT NULL DEFAULT '',
        ADD withheld_by json NOT NULL DEFAULT '[]',
        -- Receivers were notified of these alerts, before they were notified of incidents.
        ADD audible_version bigint NOT NULL DEFAULT -1,
        ADD end_version bigint NOT NULL DEFAULT 0
    """,
    """
    ALTER TABLE incident_history
        ADD notified_kind text NOT NULL DEFAULT '',
        ADD receivers text[] NOT NULL DEFAULT '{}',
        ADD notification_id text NOT NULL DEFAULT '',
        ADD decided_by text NOT NULL DEFAULT ''
    """,
    # Of the last change.
    "ALTER TABLE alerts ADD traceparent text NOT NULL DEFAULT ''",
    # Nobody is notified of alerts by themselves any more. The former release, which runs beside this one, still does.
    "DROP INDEX alerts_withheld",
    "CREATE INDEX alerts_silenced ON alerts (id) WHERE state <> 'RESOLVED' AND silenced_by <> '{}'",
    # Receivers know each open alert by its own id, also where an incident has several: each begins an incident that
    # keeps its id as the key.
    "DELETE FROM incidents WHERE state <> 'RESOLVED'",
    "UPDATE alerts SET correlated_version = 0 WHERE state <> 'RESOLVED'",
)


def upgrade() -> None:
    """Add the columns; open alerts become incidents of which their receivers know."""
    for statement in _STATEMENTS:
        op.execute(statement)
