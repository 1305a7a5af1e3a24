"""Rules whose alerts have to be resolved, in the background, by any instance."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the table, and an index that finds a rule's open alerts in the order in which they are locked."""
    op.execute(
        """
        CREATE TABLE rule_endings (
            -- The revision at which the rule was disabled or deleted: alerts of older revisions are resolved.
            revision bigint PRIMARY KEY,
            rule_id text NOT NULL,
            comment text NOT NULL,
            traceparent text NOT NULL,
            create_time timestamptz NOT NULL
        )
        """
    )
    op.execute("CREATE INDEX alerts_open_by_rule ON alerts (rule_id, open_key) WHERE state <> 'RESOLVED'")
