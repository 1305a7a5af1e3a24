"""Requests that were answered, so that a repeated one gets the same response."""

from alembic import op

from services.chassis import request_ids

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create their table."""
    op.execute(request_ids.TABLE_SQL)
    op.execute(request_ids.INDEX_SQL)
