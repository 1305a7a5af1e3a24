"""The catalog of services, and their dependencies."""

from alembic import op

revision = "0012"
down_revision = "0011"

_STATEMENTS = (
    """
    -- Whoever changes a service first takes the row of catalog_revision: revisions are committed in their order.
    CREATE TABLE catalog_revision (
        tenant text PRIMARY KEY DEFAULT 'default',
        revision bigint NOT NULL,
        -- The revision of the last deletion.
        deletion bigint NOT NULL,
        -- Differs between databases, so that nobody takes one for another.
        epoch text NOT NULL DEFAULT gen_random_uuid()
    )
    """,
    "INSERT INTO catalog_revision (revision, deletion) VALUES (0, 0)",
    """
    CREATE TABLE catalog_services (
        tenant text NOT NULL DEFAULT 'default',
        name text COLLATE "C" NOT NULL,
        owner text NOT NULL,
        tier text NOT NULL,
        description text NOT NULL,
        links jsonb NOT NULL,
        labels jsonb NOT NULL,
        revision bigint NOT NULL,
        create_time timestamptz NOT NULL,
        update_time timestamptz NOT NULL,
        PRIMARY KEY (tenant, name)
    )
    """,
    "CREATE INDEX catalog_services_by_revision ON catalog_services (tenant, revision)",
    """
    -- Neither of the two services need have an entry.
    CREATE TABLE service_dependencies (
        tenant text NOT NULL DEFAULT 'default',
        service text COLLATE "C" NOT NULL,
        depends_on text COLLATE "C" NOT NULL,
        origin text NOT NULL CHECK (origin IN ('DECLARED', 'LEARNED')),
        state text NOT NULL CHECK (state IN ('STATE_UNSPECIFIED', 'CONFIRMED', 'IGNORED')),
        PRIMARY KEY (tenant, service, depends_on, origin)
    )
    """,
)


def upgrade() -> None:
    """Create the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)
