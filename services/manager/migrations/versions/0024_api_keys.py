"""API keys."""

from alembic import op

revision = "0024"
down_revision = "0027"

_STATEMENTS = (
    """
    -- Whoever writes keys first takes this row, so that revisions are committed in their order.
    CREATE TABLE api_key_revision (
        is_the_only_row boolean PRIMARY KEY DEFAULT true CHECK (is_the_only_row),
        revision bigint NOT NULL,
        -- Differs between databases.
        epoch text NOT NULL DEFAULT gen_random_uuid()
    )
    """,
    "INSERT INTO api_key_revision (revision) VALUES (0)",
    """
    CREATE TABLE api_keys (
        id text COLLATE "C" PRIMARY KEY,
        tenant text NOT NULL,
        name text NOT NULL,
        role text NOT NULL,
        -- The only services whose events its holder may send; empty: all.
        services text[] NOT NULL,
        -- The SHA-256 of the secret, which is not stored.
        secret_hash bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
        creator text NOT NULL,
        create_time timestamptz NOT NULL,
        expire_time timestamptz,
        revoke_time timestamptz,
        revoker text NOT NULL
    )
    """,
    "CREATE INDEX api_keys_newest ON api_keys (tenant, create_time DESC, id DESC)",
    "CREATE INDEX api_keys_by_end ON api_keys (least(revoke_time, expire_time))",
)


def upgrade() -> None:
    """Create the tables and their indexes."""
    for statement in _STATEMENTS:
        op.execute(statement)
