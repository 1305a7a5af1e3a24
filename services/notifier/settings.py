"""What the notifier must be told."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from services.chassis.settings import KafkaSettings, PostgresSettings, ProcessSettings, part, setting
from services.notifier.core.delivery import Patience
from services.notifier.core.retry import RetryPolicy

PREFIX = "NOTIFIER_"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySettings:
    """How hard to try."""

    max_attempts: int = setting("Attempts at a delivery before it counts as failed.", default=5)
    retry_base: timedelta = setting("Longest pause before the second attempt.", default=timedelta(milliseconds=500))
    retry_cap: timedelta = setting("Longest pause before any attempt, unless told.", default=timedelta(seconds=30))
    max_wait: timedelta = setting(
        "How long a notification waits for a channel that asks to wait; then a fallback tells the alert. For one more"
        " release NOTIFIER_LONGEST_RETRY_AFTER is read as well.",
        default=timedelta(minutes=5),
        former="longest_retry_after",
    )
    breaker_fail_max: int = setting("Failures in a row that open a channel's breaker.", default=5)
    breaker_reset: timedelta = setting(
        "How long a breaker stays open before one attempt shows whether the channel is back.",
        default=timedelta(seconds=30),
    )

    def __post_init__(self) -> None:
        """Refuse what could never open or never close."""
        if self.breaker_fail_max < 1 or self.breaker_reset <= timedelta(0):
            raise ValueError("breaker_fail_max must be at least 1 and breaker_reset more than 0")
        _ = self.patience

    @property
    def patience(self) -> Patience:
        """The same for the core. Raises ValueError."""
        retry = RetryPolicy(
            max_attempts=self.max_attempts,
            base=self.retry_base,
            cap=self.retry_cap,
            max_wait=self.max_wait,
        )
        return Patience(retry=retry, reset_timeout=self.breaker_reset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of it."""

    process: ProcessSettings = part(listen="127.0.0.1:50054", admin_listen="127.0.0.1:9104")
    kafka: KafkaSettings = part()
    postgres: PostgresSettings = part()
    delivery: DeliverySettings = part()
    routes: Path = setting("Path of the routes file: channels, and which severity goes to which of them.")
    lease: timedelta = setting(
        "After this time another instance takes over what an instance was about to send; above all time-outs.",
        default=timedelta(seconds=30),
    )
    retention: timedelta = setting(
        "How long what was delivered is remembered; longer than Kafka keeps notifications, or a replay tells it again."
        " What is PENDING, and what tells of an alert that is still open, is kept always.",
        default=timedelta(days=90),
    )
    max_batch: int = setting("Most notifications that are taken from Kafka at once.", default=200)
