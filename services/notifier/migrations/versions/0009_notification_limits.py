"""What tenants have used of their limit of notifications, and deliveries that are held until they go into a bundle."""

from alembic import op

revision = "0009"
down_revision = "0008"

_STATEMENTS = (
    """
    CREATE TABLE notification_limits (
        tenant text PRIMARY KEY DEFAULT current_tenant(),
        used_until timestamptz,
        held_since timestamptz,
        notice_time timestamptz,
        open_notice bigint NOT NULL DEFAULT 0,
        notices bigint NOT NULL DEFAULT 0
    )
    """,
    "ALTER TABLE deliveries DROP CONSTRAINT deliveries_state_check",
    # Not valid: rows from before are not read again, and satisfy it.
    """
    ALTER TABLE deliveries ADD CONSTRAINT deliveries_state_check CHECK (
        state IN ('PENDING', 'IN_FLIGHT', 'DELIVERED', 'FAILED', 'SUPERSEDED', 'HELD')) NOT VALID
    """,
    # The notification in which a held one is sent, with others.
    "ALTER TABLE deliveries ADD bundle_id uuid",
    "CREATE INDEX deliveries_held ON deliveries (tenant, created_at) WHERE state = 'HELD' AND bundle_id IS NULL",
    """
    CREATE INDEX deliveries_held_of_subject ON deliveries (subject_id, channel, sequence)
    WHERE state = 'HELD' AND bundle_id IS NULL
    """,
    "CREATE INDEX deliveries_of_bundle ON deliveries (bundle_id) WHERE bundle_id IS NOT NULL",
)


def upgrade() -> None:
    """Create the table, the column and its indexes, and allow the state."""
    for statement in _STATEMENTS:
        op.execute(statement)
