"""Rules, alerts, their histories, and what makes repeated work harmless."""

from alembic import op

from services.chassis import outbox

revision = "0001"
down_revision = None

_STATEMENTS = (
    """
    -- Whoever changes a rule first takes the single row of rule_revision: revisions are committed in their order.
    create table rule_revision (
        is_the_only_row boolean primary key default true check (is_the_only_row),
        revision bigint not null,
        -- Another one for each database, so that nothing remembered of one is taken for another's.
        epoch text not null default gen_random_uuid()
    )
    """,
    """
    insert into rule_revision (revision) values (0)
    """,
    """
    create table alert_rules (
        id text primary key,
        name text collate "C" not null,
        description text not null,
        type text not null,
        scope text not null,
        filter text not null,
        group_by text[] not null,
        value_field text not null,
        condition text not null,
        threshold double precision not null,
        time_window interval not null,
        lateness interval not null,
        severity text not null check (severity in ('LOW', 'MEDIUM', 'HIGH', 'CRITICAL')),
        labels jsonb not null,
        enabled boolean not null,
        revision bigint not null,
        selection_revision bigint not null,
        create_time timestamptz not null,
        update_time timestamptz not null,
        constraint alert_rules_name_key unique (name)
    )
    """,
    """
    create table alert_rule_history (
        revision bigint primary key,
        rule_id text not null,
        edit text not null check (edit in ('CREATED', 'UPDATED', 'DELETED')),
        -- The rule after the edit, or as it was when it was deleted.
        rule jsonb not null,
        create_time timestamptz not null
    )
    """,
    """
    create index alert_rule_history_by_rule on alert_rule_history (rule_id, revision)
    """,
    """
    -- What a database has been given once.
    create table seeds (
        name text primary key,
        create_time timestamptz not null default now()
    )
    """,
    """
    -- Calls that were answered, so that a repeated one gets the same answer.
    create table request_ids (
        request_id text primary key,
        body text not null,
        answer bytea not null,
        create_time timestamptz not null
    )
    """,
    """
    create index request_ids_by_age on request_ids (create_time)
    """,
    """
    -- Alerts.
    create table alerts (
        id text primary key,
        fingerprint text not null,
        state text not null check (state in ('FIRING', 'ACKNOWLEDGED', 'RESOLVED')),
        severity text not null check (severity in ('LOW', 'MEDIUM', 'HIGH', 'CRITICAL')),
        rule_id text not null,
        rule_name text not null,
        description text not null,
        resource text not null,
        -- tocsin.alerts.v1.Alert with group, labels, window and samples.
        evidence bytea not null,
        fire_time timestamptz not null,
        acknowledge_time timestamptz,
        acknowledged_by text not null,
        resolve_time timestamptz,
        resolved_by text not null,
        repeat_count integer not null,
        -- The episode that is open: the start of its window, and what the evaluator said of it last.
        last_episode timestamptz not null,
        last_revision bigint not null,
        last_firing_time timestamptz not null,
        version bigint not null,
        update_time timestamptz not null
    )
    """,
    """
    -- The judge: one alert of a fingerprint is open at most.
    create unique index alerts_open_key on alerts (fingerprint) where state <> 'RESOLVED'
    """,
    """
    create index alerts_newest on alerts (fire_time desc, id desc)
    """,
    """
    create index alerts_by_rule on alerts (rule_id, fire_time desc, id desc)
    """,
    """
    create index alerts_by_resource on alerts (resource, fire_time desc, id desc)
    """,
    """
    create index alerts_open on alerts (fire_time, id) where state <> 'RESOLVED'
    """,
    """
    create table alert_history (
        position bigint generated always as identity primary key,
        id text not null unique,
        alert_id text not null references alerts (id) on delete cascade,
        kind text not null check (
            kind in ('FIRED', 'REPEATED', 'ACKNOWLEDGED', 'RESOLVED', 'NOTIFIED', 'NOTIFICATION_FAILED')
        ),
        create_time timestamptz not null,
        actor text not null,
        comment text not null,
        channel text not null
    )
    """,
    """
    create index alert_history_by_alert on alert_history (alert_id, position)
    """,
    """
    -- The evaluator's words that were heard: none does anything twice, and each episode's past is known.
    create table alert_transitions (
        id text not null,
        fingerprint text not null,
        state text not null check (state in ('FIRING', 'RESOLVED')),
        episode timestamptz not null,
        revision bigint not null,
        decide_time timestamptz not null,
        create_time timestamptz not null default now(),
        primary key (id, fingerprint)
    )
    """,
    """
    create index alert_transitions_by_episode on alert_transitions (fingerprint, episode)
    """,
    """
    create index alert_transitions_by_age on alert_transitions (create_time)
    """,
    outbox.SQL,
)


def upgrade() -> None:
    """Make the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)
