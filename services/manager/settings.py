"""The manager's settings, read once from the environment."""

from dataclasses import dataclass
from datetime import timedelta

from services.chassis.settings import KafkaSettings, PostgresSettings, ProcessSettings, RedisSettings, part, setting
from services.domain.tenants import TenantLimits

PREFIX = "MANAGER_"


def _tenant_limits(text: str) -> None:
    TenantLimits.parse(text)


def _at_least_8d(value: timedelta) -> None:
    # A day after the topic has let go of it, an entry cannot come again.
    if value < timedelta(days=8):
        raise ValueError("must be at least 8d")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """What the migration needs to know too, since the owner of the tables keeps the audit log."""

    audit_retention: timedelta = setting(
        "How long entries of the audit log, and keys that have ended, are kept; at least 8d. Entries that are younger"
        " than it was at the last migration are kept all the same.",
        default=timedelta(days=400),
        check=_at_least_8d,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of the manager."""

    process: ProcessSettings = part(listen="127.0.0.1:50053", admin_listen="127.0.0.1:9103")
    kafka: KafkaSettings = part()
    postgres: PostgresSettings = part()
    redis: RedisSettings = part()
    notifier_target: str = setting("Address of NotificationService, host:port.", default="127.0.0.1:10000")
    max_batch: int = setting("Maximum number of transitions or results in one batch from Kafka.", default=500)
    dedup_ttl: timedelta = setting(
        "How long Redis remembers that an alert is open; it affects speed only.",
        default=timedelta(hours=1),
        former="claim_ttl",
    )
    cache_ttl: timedelta = setting("How long Redis keeps responses.", default=timedelta(seconds=30))
    heartbeat: timedelta = setting(
        "Interval of heartbeats to those who watch the rules.", default=timedelta(seconds=10), former="sign_of_life"
    )
    max_watch_backlog: int = setting(
        "Maximum number of resolved alerts, and of incidents, kept for slow watchers; one further behind is cut off.",
        default=10_000,
        former="follower_limit",
    )
    transition_retention: timedelta = setting(
        "How long a processed transition is remembered; must be longer than the topic keeps it.",
        default=timedelta(days=14),
        former="keep_transitions",
    )
    retention: timedelta = setting(
        "How long a resolved alert and its history are kept; open alerts never expire.", default=timedelta(days=90)
    )
    change_retention: timedelta = setting(
        "How long changes of services, such as deployments, are kept.", default=timedelta(days=90)
    )
    incident_retention: timedelta = setting(
        "How long a resolved incident with its alerts and its history is kept, at least 1d; others never expire.",
        default=timedelta(days=90),
    )
    flapping_count: int = setting(
        "How often a rule fires for one resource within the span until receivers are notified in bundles only.",
        default=4,
    )
    flapping_span: timedelta = setting(
        "The time within which these firings are counted.", default=timedelta(minutes=30)
    )
    audit: AuditSettings = part()
    silence_retention: timedelta = setting("How long an expired silence is kept.", default=timedelta(days=90))
    trace_close_delay: timedelta = setting(
        "How long after a sampled trace was first reported it is counted for learned dependencies.",
        default=timedelta(minutes=2),
    )
    learned_edge_retention: timedelta = setting(
        "How long a learned dependency is kept that is not seen any more, unless somebody decided about it; it counts"
        " for 14 days at most.",
        default=timedelta(days=90),
    )
    count_interval: timedelta = setting(
        "How often rules, open alerts and the outbox are counted for the metrics.",
        default=timedelta(seconds=5),
        former="look",
    )

    tenant_rules: str = setting(
        "How many alert rules each tenant may have, and after a comma others for tenants by name: 100,acme=500; 0: as"
        " many as there may be at all. One more is answered with RESOURCE_EXHAUSTED.",
        default="0",
        check=_tenant_limits,
    )
    canary_interval: timedelta = setting(
        "How often an event is sent through the whole pipe to measure how long alerts take, at least 1s; 0s: never."
        " Switch it on when all managers and notifiers know of canaries.",
        default=timedelta(),
    )
    ingest_target: str = setting(
        "Address of LogIngestService, host:port, to which these events are sent.", default="127.0.0.1:10000"
    )

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if timedelta() != self.canary_interval < timedelta(seconds=1):
            raise ValueError("canary_interval must be 0s or at least 1s")
        if min(self.max_batch, self.max_watch_backlog) < 1:
            raise ValueError("max_batch and max_watch_backlog must be at least 1")
        if min(self.dedup_ttl, self.cache_ttl, self.heartbeat, self.count_interval) < timedelta(milliseconds=1):
            raise ValueError("dedup_ttl, cache_ttl, heartbeat and count_interval must be at least 1ms")
        if self.trace_close_delay < timedelta(milliseconds=1) or self.learned_edge_retention < timedelta(days=1):
            raise ValueError("trace_close_delay must be at least 1ms, learned_edge_retention at least 1d")
        if self.flapping_count <= 1 or self.flapping_span < timedelta(seconds=1):
            raise ValueError("flapping_count must be at least 2, flapping_span at least 1s")
        # A resolved incident may open again for a while.
        if self.incident_retention < timedelta(days=1):
            raise ValueError("incident_retention must be at least 1d")
