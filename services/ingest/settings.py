"""What can be set about ingest."""

from dataclasses import dataclass
from datetime import timedelta

from services.chassis.settings import KafkaSettings, ProcessSettings, part, setting
from services.ingest.core.gathering import Gathering
from services.ingest.core.limits import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Read from INGEST_… once, at start."""

    process: ProcessSettings = part(listen="127.0.0.1:50051", admin_listen="127.0.0.1:9101")
    kafka: KafkaSettings = part()
    max_batch_events: int = setting("Most events that one call may carry.", default=10_000)
    max_request_bytes: int = setting("Most bytes that one call may carry.", default=4 * 1024 * 1024)
    max_message_bytes: int = setting("Most bytes of one event's message.", default=32_768)
    max_attributes: int = setting("Most attributes of one event.", default=32)
    max_record_bytes: int = setting(
        "Most bytes of one Kafka record before compression; stay below the topic's max.message.bytes.", default=900_000
    )
    max_inflight_bytes: int = setting(
        "Most bytes of requests that wait for Kafka; beyond that calls are answered with RESOURCE_EXHAUSTED.",
        default=64 * 1024 * 1024,
    )
    max_receiving: int = setting(
        "Most requests that are received at once, each of 8 MiB at most; others wait for a second, unread, and are then"
        " answered with RESOURCE_EXHAUSTED.",
        default=16,
    )
    gather: timedelta = setting(
        "How long a single event waits for others to go to Kafka with it; 0s: not at all.",
        default=timedelta(milliseconds=3),
    )
    gather_events: int = setting("Most single events that go to Kafka together.", default=500)

    def __post_init__(self) -> None:
        """Refuse limits that let nothing through."""
        _ = (self.limits, self.gathering)
        if self.max_inflight_bytes < self.max_request_bytes:
            raise ValueError("max_inflight_bytes must not be below max_request_bytes")
        if self.max_receiving < 1:
            raise ValueError(f"max_receiving must be at least 1, got {self.max_receiving}")

    @property
    def limits(self) -> Limits:
        """How much is taken."""
        return Limits(
            max_batch_events=self.max_batch_events,
            max_request_bytes=self.max_request_bytes,
            max_message_bytes=self.max_message_bytes,
            max_attributes=self.max_attributes,
            max_record_bytes=self.max_record_bytes,
        )

    @property
    def gathering(self) -> Gathering:
        """How single events go together."""
        return Gathering(wait=self.gather, max_events=self.gather_events, max_bytes=self.max_record_bytes)
