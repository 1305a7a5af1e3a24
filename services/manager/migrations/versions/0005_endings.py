"""Rules whose alerts have to end: done in the background, by whichever instance comes to it."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table; an index finds a rule's open alerts in the order in which they are locked."""
    op.execute(
        """
        create table rule_endings (
            -- The revision at which the rule was disabled or deleted: alerts of older revisions end.
            revision bigint primary key,
            rule_id text not null,
            comment text not null,
            traceparent text not null,
            create_time timestamptz not null
        )
        """
    )
    op.execute("create index alerts_open_by_rule on alerts (rule_id, open_key) where state <> 'RESOLVED'")
