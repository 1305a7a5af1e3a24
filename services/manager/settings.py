"""What the manager must be told."""

from dataclasses import dataclass
from datetime import timedelta

from services.chassis.settings import KafkaSettings, PostgresSettings, ProcessSettings, RedisSettings, part, setting

PREFIX = "MANAGER_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of it."""

    process: ProcessSettings = part(listen="127.0.0.1:50053", admin_listen="127.0.0.1:9103")
    kafka: KafkaSettings = part()
    postgres: PostgresSettings = part()
    redis: RedisSettings = part()
    max_batch: int = setting("Most transitions or results that are taken from Kafka at once.", default=500)
    claim_ttl: timedelta = setting(
        "How long Redis remembers that an alert is open; only speed depends on it.", default=timedelta(hours=1)
    )
    cache_ttl: timedelta = setting("How long Redis keeps answers.", default=timedelta(seconds=30))
    sign_of_life: timedelta = setting(
        "How often those who follow the rules hear that the manager is there.", default=timedelta(seconds=10)
    )
    follower_limit: int = setting(
        "Most ended alerts that are kept for slow followers; one that is further behind is sent away.", default=10_000
    )
    keep_transitions: timedelta = setting(
        "How long a transition is known as done; longer than the topic keeps it.", default=timedelta(days=14)
    )
    retention: timedelta = setting(
        "How long a resolved alert and its history are kept; open alerts are kept always.", default=timedelta(days=90)
    )
    look: timedelta = setting("How often rules, open alerts and the outbox are counted.", default=timedelta(seconds=5))

    def __post_init__(self) -> None:
        """Refuse what could never work."""
        if min(self.max_batch, self.follower_limit) < 1:
            raise ValueError("max_batch and follower_limit must be at least 1")
        if min(self.claim_ttl, self.cache_ttl, self.sign_of_life, self.look) < timedelta(milliseconds=1):
            raise ValueError("claim_ttl, cache_ttl, sign_of_life and look must be at least 1ms")
