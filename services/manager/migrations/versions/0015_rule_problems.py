"""Which rules evaluators do not evaluate, and what happened to rules before; both go with the rule."""

from alembic import op

revision = "0015"
down_revision = "0014"

_STATEMENTS = (
    """
    CREATE TABLE rule_problems (
        tenant text NOT NULL DEFAULT 'default',
        rule_id text NOT NULL REFERENCES alert_rules (id) ON DELETE CASCADE,
        instance text NOT NULL,
        reason text NOT NULL,
        description text NOT NULL,
        set_aside_time timestamptz NOT NULL,
        retry_time timestamptz,
        -- Of an instance that is silent for long nothing is known any more.
        report_time timestamptz NOT NULL,
        PRIMARY KEY (tenant, rule_id, instance)
    )
    """,
    """
    CREATE INDEX rule_problems_by_instance ON rule_problems (tenant, instance)
    """,
    """
    -- The edits of a rule are in alert_rule_history.
    CREATE TABLE rule_problem_history (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        tenant text NOT NULL DEFAULT 'default',
        rule_id text NOT NULL REFERENCES alert_rules (id) ON DELETE CASCADE,
        kind text NOT NULL,
        create_time timestamptz NOT NULL,
        reason text NOT NULL,
        description text NOT NULL,
        instance text NOT NULL
    )
    """,
    """
    CREATE INDEX rule_problem_history_by_rule ON rule_problem_history (rule_id, position)
    """,
)


def upgrade() -> None:
    """Create the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)
