"""Rows of a manager of the former release, which runs beside this one until each instance is upgraded.

It knows none of the columns of 0004, so the database fills them in. The next release removes this.
"""

from alembic import op

revision = "0009"
down_revision = "0008"

# As in 0004.
_OPEN_KEY = """
    left(encode(sha256(convert_to('4:open' || length(new.rule_id) || ':' || new.rule_id
        || length(new.resource) || ':' || new.resource, 'UTF8')), 'hex'), 32)
"""

_STATEMENTS = (
    "ALTER TABLE alerts ALTER last_selection SET DEFAULT 0",
    "ALTER TABLE alert_transitions ALTER selection SET DEFAULT 0",
    f"""
    CREATE FUNCTION complete_former_alert() RETURNS TRIGGER LANGUAGE plpgsql AS $$
    BEGIN
        new.open_key = {_OPEN_KEY};
        -- Its transition was written just before it.
        UPDATE alert_transitions SET open_key = new.open_key, severity = new.severity
        WHERE open_key = new.fingerprint AND fingerprint = new.fingerprint;
        RETURN new;
    END $$
    """,  # noqa: S608  (our own expression)
    """
    CREATE FUNCTION complete_former_transition() RETURNS TRIGGER LANGUAGE plpgsql AS $$
    BEGIN
        SELECT open_key, severity INTO new.open_key, new.severity
        FROM alerts WHERE fingerprint = new.fingerprint AND state <> 'RESOLVED';
        new.open_key = coalesce(new.open_key, new.fingerprint);
        new.severity = coalesce(new.severity, 'CRITICAL');
        RETURN new;
    END $$
    """,
    """
    CREATE TRIGGER complete_former_alert BEFORE INSERT ON alerts
    FOR EACH ROW WHEN (new.open_key IS NULL) EXECUTE FUNCTION complete_former_alert()
    """,
    """
    CREATE TRIGGER complete_former_transition BEFORE INSERT ON alert_transitions
    FOR EACH ROW WHEN (new.open_key IS NULL) EXECUTE FUNCTION complete_former_transition()
    """,
)


def upgrade() -> None:
    """Add the triggers that complete such rows."""
    for statement in _STATEMENTS:
        op.execute(statement)
