"""What belongs to alerts and incidents is deleted with them by one statement for all, not by foreign keys.

A foreign key looks its row up, and locks it, for each row that is inserted: half of what a history's entry costs. Who
inserts has the alert or the incident to itself, or locks it first. A former release beside this one deletes likewise.
"""

from alembic import op

revision = "0032"
down_revision = "0031"

_STATEMENTS = (
    "ALTER TABLE alert_history DROP CONSTRAINT alert_history_alert_id_fkey",
    "ALTER TABLE incident_alerts DROP CONSTRAINT incident_alerts_incident_id_fkey",
    "ALTER TABLE incident_history DROP CONSTRAINT incident_history_incident_id_fkey",
    """
    CREATE FUNCTION delete_histories_of_alerts() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        DELETE FROM alert_history WHERE alert_id = ANY (ARRAY (SELECT id FROM gone));
        RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION delete_parts_of_incidents() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        DELETE FROM incident_alerts WHERE incident_id = ANY (ARRAY (SELECT id FROM gone));
        DELETE FROM incident_history WHERE incident_id = ANY (ARRAY (SELECT id FROM gone));
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER delete_histories AFTER DELETE ON alerts REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION delete_histories_of_alerts()
    """,
    """
    CREATE TRIGGER delete_parts AFTER DELETE ON incidents REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION delete_parts_of_incidents()
    """,
)


def upgrade() -> None:
    """Put triggers in place of the foreign keys."""
    for statement in _STATEMENTS:
        op.execute(statement)
