"""One open alert of a rule and a resource, whatever its severity; episodes know how grave they were told."""

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
    alter table alerts add open_key text, add last_selection bigint not null default 0,
        add superseded_by text not null default ''
    """,
    f"update alerts set open_key = {_OPEN_KEY}",  # noqa: S608  (our own expression)
    "alter table alerts alter open_key set not null, alter last_selection drop default",
    """
    -- Alerts of one group that an edited severity had left open side by side: the newest stays.
    update alerts set state = 'RESOLVED', resolve_time = now(), version = version + 1, update_time = now()
    from (select id, row_number() over (partition by open_key order by fire_time desc, id desc) as place
          from alerts where state <> 'RESOLVED') as ranked
    where ranked.id = alerts.id and ranked.place > 1
    """,
    "drop index alerts_open_key",
    """
    -- The judge: one alert of a rule and a resource is open at most.
    create unique index alerts_open_key on alerts (open_key) where state <> 'RESOLVED'
    """,
    "alter table alert_history drop constraint alert_history_kind_check",
    """
    alter table alert_history add constraint alert_history_kind_check check (
        kind in ('FIRED', 'REPEATED', 'ACKNOWLEDGED', 'RESOLVED', 'NOTIFIED', 'NOTIFICATION_FAILED', 'SUPERSEDED',
                 'UPDATED'))
    """,
    "alter table alert_transitions add open_key text, add selection bigint not null default 0, add severity text",
    """
    update alert_transitions as heard set open_key = known.open_key, severity = known.severity
    from (select distinct on (fingerprint) fingerprint, open_key, severity from alerts order by fingerprint) as known
    where known.fingerprint = heard.fingerprint
    """,
    # What never made an alert: nothing is known of its group, and nothing needs to be.
    "update alert_transitions set open_key = fingerprint, severity = 'CRITICAL' where open_key is null",
    """
    alter table alert_transitions alter open_key set not null, alter severity set not null, alter selection drop default
    """,
    "drop index alert_transitions_by_episode",
    "create index alert_transitions_by_episode on alert_transitions (open_key, episode)",
)


def upgrade() -> None:
    """Add the key and what the words of an edited rule are told apart by."""
    for statement in _STATEMENTS:
        op.execute(statement)
