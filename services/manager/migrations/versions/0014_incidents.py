"""Incidents: alerts that belong together."""

from alembic import op

revision = "0014"
down_revision = "0013"

_STATEMENTS = (
    """
    -- Whoever changes incidents first takes the row of incident_revision: so two instances never open two incidents for
    -- alerts that belong together, and revisions are committed in their order.
    CREATE TABLE incident_revision (
        tenant text PRIMARY KEY DEFAULT 'default',
        revision bigint NOT NULL
    )
    """,
    "INSERT INTO incident_revision (revision) VALUES (0)",
    """
    CREATE TABLE incidents (
        id text PRIMARY KEY,
        tenant text NOT NULL DEFAULT 'default',
        state text NOT NULL CHECK (state IN ('OPEN', 'ACKNOWLEDGED', 'RESOLVED')),
        cause text NOT NULL,
        create_time timestamptz NOT NULL,
        update_time timestamptz NOT NULL,
        settle_time timestamptz,
        resolve_time timestamptz,
        resolved_by text NOT NULL,
        acknowledge_time timestamptz,
        acknowledged_by text NOT NULL,
        acknowledged_until timestamptz,
        assignee text NOT NULL,
        merged_into text NOT NULL,
        version bigint NOT NULL,
        revision bigint NOT NULL,
        -- Functions of its alerts, for lists.
        title text NOT NULL,
        severity text NOT NULL CHECK (severity IN ('LOW', 'MEDIUM', 'HIGH', 'CRITICAL')),
        alert_count integer NOT NULL,
        open_alert_count integer NOT NULL,
        services text[] NOT NULL
    )
    """,
    "CREATE INDEX incidents_newest ON incidents (tenant, create_time DESC, id DESC)",
    "CREATE INDEX incidents_by_revision ON incidents (tenant, revision)",
    "CREATE INDEX incidents_resolved ON incidents (resolve_time) WHERE state = 'RESOLVED'",
    """
    CREATE TABLE incident_alerts (
        incident_id text NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
        alert_id text NOT NULL,
        position integer NOT NULL,
        rule_name text NOT NULL,
        service text NOT NULL,
        resource text NOT NULL,
        severity text NOT NULL,
        labels jsonb NOT NULL,
        fire_time timestamptz NOT NULL,
        is_open boolean NOT NULL,
        correlation jsonb NOT NULL,
        PRIMARY KEY (incident_id, alert_id)
    )
    """,
    "CREATE INDEX incident_alerts_by_alert ON incident_alerts (alert_id)",
    """
    CREATE TABLE incident_history (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id text NOT NULL UNIQUE,
        incident_id text NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
        kind text NOT NULL,
        create_time timestamptz NOT NULL,
        alert_id text NOT NULL,
        actor text NOT NULL,
        comment text NOT NULL,
        correlation jsonb NOT NULL
    )
    """,
    "CREATE INDEX incident_history_by_incident ON incident_history (incident_id, position)",
    """
    -- The version of the alert that its incident knows. Alerts that have ended already belong to none.
    ALTER TABLE alerts ADD COLUMN correlated_version bigint NOT NULL DEFAULT 9223372036854775807
    """,
    "ALTER TABLE alerts ALTER COLUMN correlated_version SET DEFAULT 0",
    "UPDATE alerts SET correlated_version = 0 WHERE state <> 'RESOLVED'",
    "CREATE INDEX alerts_to_correlate ON alerts (fire_time, id) WHERE correlated_version < version",
)


def upgrade() -> None:
    """Create the tables; alerts that are open become incidents."""
    for statement in _STATEMENTS:
        op.execute(statement)
