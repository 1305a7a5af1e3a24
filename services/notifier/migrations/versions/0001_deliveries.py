"""Deliveries, what they tell, and the outbox of their results."""

from alembic import op

from services.chassis import outbox

revision = "0001"
down_revision = None

_STATEMENTS = (
    """
    CREATE TABLE notifications (
        id uuid PRIMARY KEY,
        alert_id text NOT NULL,
        kind smallint NOT NULL CHECK (kind BETWEEN 1 AND 3),
        record bytea NOT NULL,
        traceparent text NOT NULL,
        created_at timestamptz NOT NULL
    )
    """,
    # due_at: of a pending one when to send it, of one in flight when its lease ends, of a failed one when to see
    # whether the channel is back. round_start: attempt_count when this round of attempts began.
    """
    CREATE TABLE deliveries (
        id uuid PRIMARY KEY,
        notification_id uuid NOT NULL REFERENCES notifications,
        alert_id text NOT NULL,
        kind smallint NOT NULL CHECK (kind BETWEEN 1 AND 3),
        channel text NOT NULL,
        fallback_for text NOT NULL DEFAULT '',
        state text NOT NULL CHECK (state IN ('PENDING', 'IN_FLIGHT', 'DELIVERED', 'FAILED', 'SUPERSEDED')),
        turn text NOT NULL DEFAULT 'REGULAR' CHECK (turn IN ('REGULAR', 'PROBE', 'BY_HAND')),
        attempt_count integer NOT NULL DEFAULT 0,
        round_start integer NOT NULL DEFAULT 0,
        due_at timestamptz NOT NULL,
        holder text NOT NULL DEFAULT '',
        reason text,
        last_error text NOT NULL DEFAULT '',
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        failed_at timestamptz,
        UNIQUE (notification_id, channel)
    )
    """,
    "CREATE INDEX deliveries_open ON deliveries (channel, due_at) WHERE state IN ('PENDING', 'IN_FLIGHT', 'FAILED')",
    "CREATE INDEX deliveries_of_alert ON deliveries (alert_id, channel, kind)",
    "CREATE INDEX notifications_by_age ON notifications (created_at)",
    "CREATE INDEX notifications_of_alert ON notifications (alert_id)",
    "CREATE INDEX deliveries_ever_failed ON deliveries (failed_at DESC, id DESC) WHERE failed_at IS NOT NULL",
    """
    CREATE VIEW failed_notifications AS
    SELECT id,
           notification_id,
           alert_id,
           (ARRAY['FIRING', 'ACKNOWLEDGED', 'RESOLVED'])[kind] AS kind,
           channel,
           CASE state WHEN 'FAILED' THEN 'PENDING' WHEN 'PENDING' THEN 'RETRYING' WHEN 'IN_FLIGHT' THEN 'RETRYING'
                      ELSE state END AS status,
           attempt_count,
           reason,
           last_error,
           failed_at AS create_time,
           updated_at AS update_time
    FROM deliveries
    WHERE failed_at IS NOT NULL
    """,
    outbox.SQL,
)


def upgrade() -> None:
    """Create it all."""
    for statement in _STATEMENTS:
        op.execute(statement)
