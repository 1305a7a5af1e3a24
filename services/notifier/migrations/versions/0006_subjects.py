"""What receivers see as one thing, an alert or an incident, and the order of its notifications."""

from alembic import op

revision = "0006"
down_revision = "0005"

_COLUMNS = (
    "ADD subject_id text NOT NULL DEFAULT '', ADD incident_id text NOT NULL DEFAULT '',"
    " ADD sequence bigint NOT NULL DEFAULT 0"
)

_STATEMENTS = (
    f"ALTER TABLE notifications {_COLUMNS}, ADD exhausted_at timestamptz",
    f"ALTER TABLE deliveries {_COLUMNS}",
    "UPDATE notifications SET subject_id = alert_id, sequence = kind",
    "UPDATE deliveries SET subject_id = alert_id, sequence = kind",
    # The former release runs beside this one, and does not know these columns.
    """
    CREATE FUNCTION fill_subject() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.subject_id := NEW.alert_id;
        NEW.sequence := NEW.kind;
        RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER notifications_subject BEFORE INSERT ON notifications
    FOR EACH ROW WHEN (NEW.subject_id = '') EXECUTE FUNCTION fill_subject()
    """,
    """
    CREATE TRIGGER deliveries_subject BEFORE INSERT ON deliveries
    FOR EACH ROW WHEN (NEW.subject_id = '') EXECUTE FUNCTION fill_subject()
    """,
    "ALTER TABLE notifications DROP CONSTRAINT notifications_kind_check",
    "ALTER TABLE notifications ADD CONSTRAINT notifications_kind_check CHECK (kind BETWEEN 1 AND 4)",
    "ALTER TABLE deliveries DROP CONSTRAINT deliveries_kind_check",
    "ALTER TABLE deliveries ADD CONSTRAINT deliveries_kind_check CHECK (kind BETWEEN 1 AND 4)",
    "CREATE INDEX deliveries_of_subject ON deliveries (subject_id, channel, sequence)",
    "CREATE INDEX notifications_of_subject ON notifications (subject_id, sequence)",
    "CREATE INDEX deliveries_of_incident ON deliveries (incident_id, created_at) WHERE incident_id <> ''",
    """
    CREATE OR REPLACE VIEW failed_notifications AS
    SELECT id,
           notification_id,
           alert_id,
           (ARRAY['FIRING', 'ACKNOWLEDGED', 'RESOLVED', 'UPDATED'])[kind] AS kind,
           channel,
           CASE state WHEN 'FAILED' THEN 'PENDING' WHEN 'PENDING' THEN 'RETRYING' WHEN 'IN_FLIGHT' THEN 'RETRYING'
                      ELSE state END AS status,
           attempt_count,
           reason,
           last_error,
           failed_at AS create_time,
           updated_at AS update_time,
           incident_id
    FROM deliveries
    WHERE failed_at IS NOT NULL
    """,
)


def upgrade() -> None:
    """Add the columns, and what depends on them."""
    for statement in _STATEMENTS:
        op.execute(statement)
