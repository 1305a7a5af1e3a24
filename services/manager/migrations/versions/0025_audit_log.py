"""The audit log, which nothing changes."""

from alembic import op

revision = "0025"
down_revision = "0024"

_STATEMENTS = (
    """
    CREATE TABLE audit_log (
        id text COLLATE "C" PRIMARY KEY,
        create_time timestamptz NOT NULL,
        tenant text NOT NULL,
        actor text NOT NULL,
        actor_kind text NOT NULL,
        actor_id text NOT NULL,
        role text NOT NULL,
        method text NOT NULL,
        resource text NOT NULL,
        peer_address text NOT NULL,
        request_id text NOT NULL,
        trace_id text NOT NULL,
        outcome text NOT NULL,
        code text NOT NULL,
        reason text NOT NULL,
        count integer NOT NULL,
        service text NOT NULL
    )
    """,
    "CREATE INDEX audit_log_newest ON audit_log (tenant, create_time DESC, id DESC)",
    "CREATE INDEX audit_log_by_age ON audit_log (create_time)",
    """
    -- Retention says so in its transaction, and deletes nothing of the last day.
    CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' AND current_setting('tocsin.purges_audit_log', true) = 'on'
           AND OLD.create_time < now() - interval '1 day' THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'insufficient_privilege';
    END
    $$
    """,
    """
    CREATE TRIGGER audit_log_is_append_only BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION refuse_audit_change()
    """,
    """
    CREATE TRIGGER audit_log_is_never_emptied BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()
    """,
)


def upgrade() -> None:
    """Create the table, its indexes and its triggers."""
    for statement in _STATEMENTS:
        op.execute(statement)
