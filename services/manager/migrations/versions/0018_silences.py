"""Silences, and what an alert remembers of them."""

from alembic import op

revision = "0018"
down_revision = "0017"

_STATEMENTS = (
    """
    -- Whoever writes silences first takes this row, so that revisions are committed in their order.
    CREATE TABLE silence_revision (
        tenant text PRIMARY KEY,
        revision bigint NOT NULL,
        -- Differs between databases.
        epoch text NOT NULL DEFAULT gen_random_uuid()
    )
    """,
    "INSERT INTO silence_revision (tenant, revision) VALUES ('default', 0)",
    """
    CREATE TABLE silences (
        tenant text NOT NULL,
        id text NOT NULL,
        -- In Alertmanager's syntax; empty where alerts are named.
        matchers text NOT NULL,
        alert_ids text[] NOT NULL,
        start_time timestamptz NOT NULL,
        end_time timestamptz,
        -- rule, start, zone, and duration in seconds; NULL where it does not recur.
        recurrence jsonb,
        author text NOT NULL,
        comment text NOT NULL,
        create_time timestamptz NOT NULL,
        expire_time timestamptz,
        revision bigint NOT NULL,
        PRIMARY KEY (tenant, id)
    )
    """,
    "CREATE INDEX silences_newest ON silences (tenant, create_time DESC, id DESC)",
    "CREATE INDEX silences_by_revision ON silences (tenant, revision)",
    "CREATE INDEX silences_by_end ON silences (least(expire_time, end_time))",
    # Rows of the former release, which runs beside this one, were notified.
    "ALTER TABLE alerts ADD silenced_by text[] NOT NULL DEFAULT '{}', ADD is_notified boolean NOT NULL DEFAULT true",
    """
    CREATE INDEX alerts_withheld ON alerts (id)
    WHERE state <> 'RESOLVED' AND (silenced_by <> '{}' OR NOT is_notified)
    """,
    "ALTER TABLE alert_history DROP CONSTRAINT alert_history_kind_check",
    """
    ALTER TABLE alert_history ADD CONSTRAINT alert_history_kind_check CHECK (
        kind IN ('FIRED', 'REPEATED', 'ACKNOWLEDGED', 'RESOLVED', 'NOTIFIED', 'NOTIFICATION_FAILED', 'SUPERSEDED',
                 'UPDATED', 'SILENCED'))
    """,
)


def upgrade() -> None:
    """Create the tables, the columns and their indexes."""
    for statement in _STATEMENTS:
        op.execute(statement)
