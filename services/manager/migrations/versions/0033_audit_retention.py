"""Nothing of the audit log is deleted that is younger than its owner allows, whatever the service asks for."""

from alembic import op

revision = "0033"
down_revision = "0032"

_STATEMENTS = (
    # Who migrates sets it by the settings; the service may not replace it.
    """
    CREATE FUNCTION audit_retention() RETURNS interval LANGUAGE sql STABLE
    AS $$ SELECT make_interval(secs => 400 * 86400) $$
    """,
    """
    -- With a search path of its own, since that of the session may be anything. What is too young is left out and not
    -- refused: a manager of the former release, which does not know the limit, goes on.
    CREATE OR REPLACE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        IF TG_OP = 'DELETE' AND current_setting('tocsin.purges_audit_log', true) = 'on' THEN
            IF OLD.create_time < now() - audit_retention() THEN
                RETURN OLD;
            END IF;
            RETURN NULL;
        END IF;
        RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'insufficient_privilege';
    END
    $$
    """,
)


def upgrade() -> None:
    """Have the trigger ask the owner's function."""
    for statement in _STATEMENTS:
        op.execute(statement)
