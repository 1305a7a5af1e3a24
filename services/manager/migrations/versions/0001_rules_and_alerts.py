"""Rules, alerts, their histories, and what makes redelivery harmless."""

from alembic import op

from services.chassis import outbox

revision = "0001"
down_revision = None

_STATEMENTS = (
    """
    -- Whoever changes a rule first takes the single row of rule_revision: revisions are committed in their order.
    CREATE TABLE rule_revision (
        is_the_only_row boolean PRIMARY KEY DEFAULT true CHECK (is_the_only_row),
        revision bigint NOT NULL,
        -- Differs between databases, so that a cached response of one is not taken for another's.
        epoch text NOT NULL DEFAULT gen_random_uuid()
    )
    """,
    """
    INSERT INTO rule_revision (revision) VALUES (0)
    """,
    """
    CREATE TABLE alert_rules (
        id text PRIMARY KEY,
        name text COLLATE "C" NOT NULL,
        description text NOT NULL,
        type text NOT NULL,
        scope text NOT NULL,
        filter text NOT NULL,
        group_by text[] NOT NULL,
        value_field text NOT NULL,
        condition text NOT NULL,
        threshold double precision NOT NULL,
        time_window interval NOT NULL,
        lateness interval NOT NULL,
        severity text NOT NULL CHECK (severity IN ('LOW', 'MEDIUM', 'HIGH', 'CRITICAL')),
        labels jsonb NOT NULL,
        enabled boolean NOT NULL,
        revision bigint NOT NULL,
        selection_revision bigint NOT NULL,
        create_time timestamptz NOT NULL,
        update_time timestamptz NOT NULL,
        CONSTRAINT alert_rules_name_key UNIQUE (name)
    )
    """,
    """
    CREATE TABLE alert_rule_history (
        revision bigint PRIMARY KEY,
        rule_id text NOT NULL,
        edit text NOT NULL CHECK (edit IN ('CREATED', 'UPDATED', 'DELETED')),
        -- The rule after the edit, or as it was when it was deleted.
        rule jsonb NOT NULL,
        create_time timestamptz NOT NULL
    )
    """,
    """
    CREATE INDEX alert_rule_history_by_rule ON alert_rule_history (rule_id, revision)
    """,
    """
    -- The sets of rules that were created once.
    CREATE TABLE seeds (
        name text PRIMARY KEY,
        create_time timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    -- Calls that were answered, so that a repeated call gets the first response.
    CREATE TABLE request_ids (
        request_id text PRIMARY KEY,
        body text NOT NULL,
        answer bytea NOT NULL,
        create_time timestamptz NOT NULL
    )
    """,
    """
    CREATE INDEX request_ids_by_age ON request_ids (create_time)
    """,
    """
    -- Alerts.
    CREATE TABLE alerts (
        id text PRIMARY KEY,
        fingerprint text NOT NULL,
        state text NOT NULL CHECK (state IN ('FIRING', 'ACKNOWLEDGED', 'RESOLVED')),
        severity text NOT NULL CHECK (severity IN ('LOW', 'MEDIUM', 'HIGH', 'CRITICAL')),
        rule_id text NOT NULL,
        rule_name text NOT NULL,
        description text NOT NULL,
        resource text NOT NULL,
        -- tocsin.alerts.v1.Alert with group, labels, window and samples.
        evidence bytea NOT NULL,
        fire_time timestamptz NOT NULL,
        acknowledge_time timestamptz,
        acknowledged_by text NOT NULL,
        resolve_time timestamptz,
        resolved_by text NOT NULL,
        repeat_count integer NOT NULL,
        -- The newest episode: the start of its window, and the evaluator's last firing of it.
        last_episode timestamptz NOT NULL,
        last_revision bigint NOT NULL,
        last_firing_time timestamptz NOT NULL,
        version bigint NOT NULL,
        update_time timestamptz NOT NULL
    )
    """,
    """
    -- At most one alert of a fingerprint is open.
    CREATE UNIQUE INDEX alerts_open_key ON alerts (fingerprint) WHERE state <> 'RESOLVED'
    """,
    """
    CREATE INDEX alerts_newest ON alerts (fire_time DESC, id DESC)
    """,
    """
    CREATE INDEX alerts_by_rule ON alerts (rule_id, fire_time DESC, id DESC)
    """,
    """
    CREATE INDEX alerts_by_resource ON alerts (resource, fire_time DESC, id DESC)
    """,
    """
    CREATE INDEX alerts_open ON alerts (fire_time, id) WHERE state <> 'RESOLVED'
    """,
    """
    CREATE TABLE alert_history (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id text NOT NULL UNIQUE,
        alert_id text NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
        kind text NOT NULL CHECK (
            kind IN ('FIRED', 'REPEATED', 'ACKNOWLEDGED', 'RESOLVED', 'NOTIFIED', 'NOTIFICATION_FAILED')
        ),
        create_time timestamptz NOT NULL,
        actor text NOT NULL,
        comment text NOT NULL,
        channel text NOT NULL
    )
    """,
    """
    CREATE INDEX alert_history_by_alert ON alert_history (alert_id, position)
    """,
    """
    -- The transitions that were processed: none is processed twice, and each episode's history is known.
    CREATE TABLE alert_transitions (
        id text NOT NULL,
        fingerprint text NOT NULL,
        state text NOT NULL CHECK (state IN ('FIRING', 'RESOLVED')),
        episode timestamptz NOT NULL,
        revision bigint NOT NULL,
        decide_time timestamptz NOT NULL,
        create_time timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (id, fingerprint)
    )
    """,
    """
    CREATE INDEX alert_transitions_by_episode ON alert_transitions (fingerprint, episode)
    """,
    """
    CREATE INDEX alert_transitions_by_age ON alert_transitions (create_time)
    """,
    outbox.SQL,
)


def upgrade() -> None:
    """Create the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)
