"""The lease of the instance that publishes the outbox."""

from alembic import op

from services.chassis import outbox

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create its table."""
    op.execute(outbox.LEASE_SQL)
