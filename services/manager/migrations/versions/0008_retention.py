"""Indexes that find expired rows without reading the others."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Create the indexes."""
    op.execute("CREATE INDEX alerts_resolved_by_age ON alerts (resolve_time) WHERE state = 'RESOLVED'")
    op.execute("CREATE INDEX alert_rule_history_by_age ON alert_rule_history (create_time)")
