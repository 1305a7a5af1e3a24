"""In which trace each line of history was written."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column; of what is there already no trace is known."""
    op.execute("alter table alert_history add column trace_id text not null default ''")
