"""Requests that were answered, so that a repeated one gets the same response."""

from alembic import op

revision = "0004"
down_revision = "0003"

_STATEMENTS = (
    """
    CREATE TABLE request_ids (
        request_id text PRIMARY KEY,
        digest text NOT NULL,
        response bytea NOT NULL DEFAULT '',
        create_time timestamptz NOT NULL
    )
    """,
    "CREATE INDEX request_ids_by_age ON request_ids (create_time)",
)


def upgrade() -> None:
    """Create the table."""
    for statement in _STATEMENTS:
        op.execute(statement)
