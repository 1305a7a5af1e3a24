"""Dependencies that are learned from traces, and the traces that are not counted yet."""

from alembic import op

revision = "0021"
down_revision = "0020"

_STATEMENTS = (
    """
    -- Whoever writes learned edges first takes this row. The revision rises when the graph has other edges than before.
    CREATE TABLE learned_edge_revision (
        tenant text PRIMARY KEY,
        revision bigint NOT NULL
    )
    """,
    "INSERT INTO learned_edge_revision (tenant, revision) VALUES ('default', 0)",
    """
    CREATE TABLE learned_edges (
        tenant text NOT NULL DEFAULT 'default',
        service text COLLATE "C" NOT NULL,
        depends_on text COLLATE "C" NOT NULL,
        -- At count_time; they halve with time.
        support double precision NOT NULL,
        forward double precision NOT NULL,
        count_time timestamptz NOT NULL,
        create_time timestamptz NOT NULL,
        seen_time timestamptz NOT NULL,
        is_supported boolean NOT NULL,
        state text NOT NULL CHECK (state IN ('STATE_UNSPECIFIED', 'CONFIRMED', 'IGNORED')),
        actor text NOT NULL,
        decide_time timestamptz,
        PRIMARY KEY (tenant, service, depends_on)
    )
    """,
    """
    -- Kept for minutes, and nothing is wrong without them: not worth the write-ahead log.
    CREATE UNLOGGED TABLE trace_sightings (
        tenant text NOT NULL DEFAULT 'default',
        trace_id text COLLATE "C" NOT NULL,
        service text COLLATE "C" NOT NULL,
        first_time timestamptz NOT NULL,
        report_time timestamptz NOT NULL,
        PRIMARY KEY (tenant, trace_id, service)
    )
    """,
    "CREATE INDEX trace_sightings_oldest ON trace_sightings (tenant, report_time)",
)


def upgrade() -> None:
    """Create the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)
