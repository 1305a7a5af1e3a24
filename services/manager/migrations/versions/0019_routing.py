"""The versions of the routing tree."""

from alembic import op

revision = "0019"
down_revision = "0018"

_STATEMENTS = (
    """
    -- Whoever writes a version first takes this row, so that versions are written one after the other.
    CREATE TABLE routing_lock (
        tenant text PRIMARY KEY,
        -- The newest version; 0 while no tree was ever set.
        version integer NOT NULL
    )
    """,
    "INSERT INTO routing_lock (tenant, version) VALUES ('default', 0)",
    """
    CREATE TABLE routing_versions (
        tenant text NOT NULL DEFAULT 'default',
        version integer NOT NULL,
        -- tocsin.routing.v1.RoutingTree as JSON.
        tree jsonb NOT NULL,
        author text NOT NULL,
        comment text NOT NULL,
        create_time timestamptz NOT NULL,
        PRIMARY KEY (tenant, version)
    )
    """,
)


def upgrade() -> None:
    """Create the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)
