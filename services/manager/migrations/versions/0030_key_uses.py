"""When each API key was last used."""

from alembic import op

revision = "0030"
down_revision = "0028"


def upgrade() -> None:
    """Add the column, which no index has: its updates stay within the row's page."""
    op.execute("ALTER TABLE api_keys ADD last_use_time timestamptz")
