"""Changes of services, such as deployments."""

from alembic import op

revision = "0016"
down_revision = "0015"

_STATEMENTS = (
    """
    CREATE TABLE service_changes (
        tenant text NOT NULL DEFAULT 'default',
        id text NOT NULL,
        service text COLLATE "C" NOT NULL,
        kind text NOT NULL,
        version text NOT NULL,
        actor text NOT NULL,
        link text NOT NULL,
        change_time timestamptz NOT NULL,
        create_time timestamptz NOT NULL,
        PRIMARY KEY (tenant, id)
    )
    """,
    "CREATE INDEX service_changes_by_age ON service_changes (change_time, id)",
    "CREATE INDEX service_changes_by_service ON service_changes (tenant, service, change_time)",
)


def upgrade() -> None:
    """Create the table."""
    for statement in _STATEMENTS:
        op.execute(statement)
