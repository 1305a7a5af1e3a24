"""How many events of a rule were counted as one group, because their groups were beyond the limit."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Add the column; an instance of the version before does not write it."""
    op.execute("ALTER TABLE rule_statistics ADD beyond_limit bigint NOT NULL DEFAULT 0")
