"""People, schedules with their overrides, and escalation policies."""

from alembic import op

revision = "0020"
down_revision = "0019"

_STATEMENTS = (
    """
    -- Whoever changes anything first takes this row, so that revisions are committed in their order.
    CREATE TABLE on_call_revision (
        tenant text PRIMARY KEY DEFAULT 'default',
        revision bigint NOT NULL,
        -- Differs between databases.
        epoch text NOT NULL DEFAULT gen_random_uuid()
    )
    """,
    "INSERT INTO on_call_revision (revision) VALUES (0)",
    """
    CREATE TABLE on_call_resources (
        tenant text NOT NULL DEFAULT 'default',
        kind text NOT NULL CHECK (kind IN ('PERSON', 'SCHEDULE', 'POLICY')),
        name text COLLATE "C" NOT NULL,
        document jsonb NOT NULL,
        revision bigint NOT NULL,
        create_time timestamptz NOT NULL,
        update_time timestamptz NOT NULL,
        PRIMARY KEY (tenant, kind, name)
    )
    """,
    """
    CREATE TABLE on_call_overrides (
        tenant text NOT NULL DEFAULT 'default',
        id text NOT NULL,
        schedule text NOT NULL,
        person text NOT NULL,
        start_time timestamptz NOT NULL,
        end_time timestamptz NOT NULL,
        actor text NOT NULL,
        create_time timestamptz NOT NULL,
        PRIMARY KEY (tenant, id)
    )
    """,
)


def upgrade() -> None:
    """Create the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)
