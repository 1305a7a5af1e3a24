"""What is on its way of a subject and channel is found without reading what was delivered."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the index: an incident may have thousands of updates, of which few are on their way."""
    op.execute(
        "CREATE INDEX deliveries_open_of_subject ON deliveries (subject_id, channel, sequence)"
        " WHERE state IN ('PENDING', 'IN_FLIGHT', 'FAILED')"
    )
