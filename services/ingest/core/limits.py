"""How much ingest takes."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one event, one request and one Kafka record may hold; each at least 1."""

    max_batch_events: int
    max_request_bytes: int
    max_message_bytes: int
    max_attributes: int
    max_record_bytes: int

    def __post_init__(self) -> None:
        """Refuse limits that let nothing through."""
        for limit in fields(self):
            if getattr(self, limit.name) < 1:
                raise ValueError(f"{limit.name} must be at least 1, got {getattr(self, limit.name)}")
