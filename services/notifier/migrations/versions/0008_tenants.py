"""Every delivery belongs to a tenant; those from before, and of a former release beside this one, to `default`."""

from alembic import op

from services.chassis import tenant_sql

revision = "0008"
down_revision = "0007"

_TABLES = ("notifications", "deliveries", "request_ids")

_STATEMENTS = (
    tenant_sql.FUNCTION,
    # Neither rewrites a table.
    *(f"ALTER TABLE {table} ADD tenant text NOT NULL DEFAULT 'default'" for table in _TABLES),
    *(f"ALTER TABLE {table} ALTER tenant SET DEFAULT current_tenant()" for table in _TABLES),
    # Nothing has to be there before a tenant's first row.
    "CREATE FUNCTION add_tenant(text) RETURNS void LANGUAGE sql AS 'SELECT'",
    "DROP INDEX deliveries_newest",
    "CREATE INDEX deliveries_newest ON deliveries (tenant, created_at DESC, id DESC)",
    "DROP INDEX deliveries_ever_failed",
    "CREATE INDEX deliveries_ever_failed ON deliveries (tenant, failed_at DESC, id DESC) WHERE failed_at IS NOT NULL",
    # Whoever reads the view sees what the tables show to them, and not what they show to the view's owner.
    """
    DO $$ BEGIN
        IF current_setting('server_version_num')::integer >= 150000 THEN
            ALTER VIEW failed_notifications SET (security_invoker = true);
        END IF;
    END $$
    """,
)


def upgrade() -> None:
    """Add the columns, and have lists begin with them."""
    for statement in _STATEMENTS:
        op.execute(statement)
