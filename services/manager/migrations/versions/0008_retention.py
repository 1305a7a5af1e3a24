"""What finds rows that have served their time without reading the others."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make the indexes."""
    op.execute("create index alerts_resolved_by_age on alerts (resolve_time) where state = 'RESOLVED'")
    op.execute("create index alert_rule_history_by_age on alert_rule_history (create_time)")
