"""Every row belongs to a tenant: those from before, and those of a former release beside this one, to `default`."""

from alembic import op

from services.chassis import tenant_sql

revision = "0027"
down_revision = "0023"

# Those of the others have been there from the beginning.
_TABLES = (
    "alert_rules",
    "alert_rule_history",
    "rule_statistics",
    "rule_endings",
    "alerts",
    "alert_history",
    "alert_transitions",
    "incident_alerts",
    "incident_history",
    "request_ids",
)

_FORMER_TABLES = (
    "catalog_services",
    "service_dependencies",
    "incidents",
    "exhausted_notifications",
    "rule_problems",
    "rule_problem_history",
    "service_changes",
    "silences",
    "routing_versions",
    "on_call_resources",
    "on_call_overrides",
    "learned_edges",
    "trace_sightings",
)

_STATEMENTS = (
    tenant_sql.FUNCTION,
    # Neither rewrites a table.
    *(f"ALTER TABLE {table} ADD tenant text NOT NULL DEFAULT 'default'" for table in _TABLES),
    *(f"ALTER TABLE {table} ALTER tenant SET DEFAULT current_tenant()" for table in (*_TABLES, *_FORMER_TABLES)),
    """
    CREATE TABLE tenants (
        name text PRIMARY KEY,
        create_time timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    -- A tenant has a row in each of these tables before anything else is read or written for it. Managers are told.
    CREATE FUNCTION add_tenant(added text) RETURNS void LANGUAGE sql AS $$
        INSERT INTO tenants (name) VALUES (added) ON CONFLICT DO NOTHING;
        INSERT INTO catalog_revision (tenant, revision, deletion) VALUES (added, 0, 0) ON CONFLICT DO NOTHING;
        INSERT INTO silence_revision (tenant, revision) VALUES (added, 0) ON CONFLICT DO NOTHING;
        INSERT INTO routing_lock (tenant, version) VALUES (added, 0) ON CONFLICT DO NOTHING;
        INSERT INTO on_call_revision (tenant, revision) VALUES (added, 0) ON CONFLICT DO NOTHING;
        INSERT INTO learned_edge_revision (tenant, revision) VALUES (added, 0) ON CONFLICT DO NOTHING;
        INSERT INTO incident_revision (tenant, revision) VALUES (added, 0) ON CONFLICT DO NOTHING;
        SELECT pg_notify('manager_tenants_changed', '');
    $$
    """,
    "SELECT add_tenant('default')",
    "ALTER TABLE alert_rules DROP CONSTRAINT alert_rules_name_key",
    "ALTER TABLE alert_rules ADD CONSTRAINT alert_rules_name_key UNIQUE (tenant, name)",
    "DROP INDEX alerts_newest",
    "CREATE INDEX alerts_newest ON alerts (tenant, fire_time DESC, id DESC)",
    "DROP INDEX alerts_to_correlate",
    "CREATE INDEX alerts_to_correlate ON alerts (tenant, fire_time, id) WHERE correlated_version < version",
    # The condition on md5 could not use its index below row-level security, since PostgreSQL does not know that md5
    # leaks nothing.
    "DROP INDEX alerts_by_resource",
    "CREATE INDEX alerts_by_resource ON alerts USING hash (resource)",
)


def upgrade() -> None:
    """Add the columns, the table of tenants, and the indexes of lists."""
    for statement in _STATEMENTS:
        op.execute(statement)
