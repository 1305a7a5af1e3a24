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
    "alter table alerts alter last_selection set default 0",
    "alter table alert_transitions alter selection set default 0",
    f"""
    create function complete_former_alert() returns trigger language plpgsql as $$
    begin
        new.open_key = {_OPEN_KEY};
        -- Its transition was written just before it.
        update alert_transitions set open_key = new.open_key, severity = new.severity
        where open_key = new.fingerprint and fingerprint = new.fingerprint;
        return new;
    end $$
    """,  # noqa: S608  (our own expression)
    """
    create function complete_former_transition() returns trigger language plpgsql as $$
    begin
        select open_key, severity into new.open_key, new.severity
        from alerts where fingerprint = new.fingerprint and state <> 'RESOLVED';
        new.open_key = coalesce(new.open_key, new.fingerprint);
        new.severity = coalesce(new.severity, 'CRITICAL');
        return new;
    end $$
    """,
    """
    create trigger complete_former_alert before insert on alerts
    for each row when (new.open_key is null) execute function complete_former_alert()
    """,
    """
    create trigger complete_former_transition before insert on alert_transitions
    for each row when (new.open_key is null) execute function complete_former_transition()
    """,
)


def upgrade() -> None:
    """Add what completes such rows."""
    for statement in _STATEMENTS:
        op.execute(statement)
