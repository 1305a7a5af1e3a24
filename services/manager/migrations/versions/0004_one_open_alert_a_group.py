"""One open alert of a rule and a resource, whatever its severity; transitions have the severity."""

from alembic import op

revision = "0004"
down_revision = "0002"

# As services.domain.fingerprint.open_key makes it.
_OPEN_KEY = """
    left(encode(sha256(convert_to(
        '4:open' || length(rule_id) || ':' || rule_id || length(resource) || ':' || resource, 'UTF8')), 'hex'), 32)
"""

_STATEMENTS = (
    """
    ALTER TABLE alerts ADD open_key text, ADD last_selection bigint NOT NULL DEFAULT 0,
        ADD superseded_by text NOT NULL DEFAULT ''
    """,
    f"UPDATE alerts SET open_key = {_OPEN_KEY}",  # noqa: S608  (our own expression)
    "ALTER TABLE alerts ALTER open_key SET NOT NULL, ALTER last_selection DROP DEFAULT",
    """
    -- Alerts of one group that an edited severity had left open side by side: the newest stays.
    UPDATE alerts SET state = 'RESOLVED', resolve_time = now(), version = version + 1, update_time = now()
    FROM (SELECT id, row_number() OVER (PARTITION BY open_key ORDER BY fire_time DESC, id DESC) AS place
          FROM alerts WHERE state <> 'RESOLVED') AS ranked
    WHERE ranked.id = alerts.id AND ranked.place > 1
    """,
    "DROP INDEX alerts_open_key",
    """
    -- At most one alert of a rule and a resource is open.
    CREATE UNIQUE INDEX alerts_open_key ON alerts (open_key) WHERE state <> 'RESOLVED'
    """,
    "ALTER TABLE alert_history DROP CONSTRAINT alert_history_kind_check",
    """
    ALTER TABLE alert_history ADD CONSTRAINT alert_history_kind_check CHECK (
        kind IN ('FIRED', 'REPEATED', 'ACKNOWLEDGED', 'RESOLVED', 'NOTIFIED', 'NOTIFICATION_FAILED', 'SUPERSEDED',
                 'UPDATED'))
    """,
    "ALTER TABLE alert_transitions ADD open_key text, ADD selection bigint NOT NULL DEFAULT 0, ADD severity text",
    """
    UPDATE alert_transitions AS old SET open_key = known.open_key, severity = known.severity
    FROM (SELECT DISTINCT ON (fingerprint) fingerprint, open_key, severity FROM alerts ORDER BY fingerprint) AS known
    WHERE known.fingerprint = old.fingerprint
    """,
    # Transitions without an alert: their group is not known, and not needed.
    "UPDATE alert_transitions SET open_key = fingerprint, severity = 'CRITICAL' WHERE open_key IS NULL",
    """
    ALTER TABLE alert_transitions ALTER open_key SET NOT NULL, ALTER severity SET NOT NULL, ALTER selection DROP DEFAULT
    """,
    "DROP INDEX alert_transitions_by_episode",
    "CREATE INDEX alert_transitions_by_episode ON alert_transitions (open_key, episode)",
)


def upgrade() -> None:
    """Add the key, and what distinguishes the transitions of an edited rule."""
    for statement in _STATEMENTS:
        op.execute(statement)
