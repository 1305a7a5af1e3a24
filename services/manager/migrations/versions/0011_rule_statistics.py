"""What the evaluators have counted of each rule; it goes with the rule."""

from alembic import op

revision = "0011"
down_revision = "0010"

_TABLE = """
CREATE TABLE rule_statistics (
    rule_id text PRIMARY KEY REFERENCES alert_rules (id) ON DELETE CASCADE,
    matched bigint NOT NULL,
    late bigint NOT NULL,
    fired bigint NOT NULL,
    evaluate_time timestamptz
)
"""


def upgrade() -> None:
    """Create the table."""
    op.execute(_TABLE)
