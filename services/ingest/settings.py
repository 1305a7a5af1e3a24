"""Settings of ingest."""

from dataclasses import dataclass
from datetime import timedelta

from services.chassis.settings import KafkaSettings, ProcessSettings, part, setting, socket_or_nothing
from services.contract.event_columns import MAX_STREAM_BYTES
from services.domain.event_fields import DEFAULT_MAX_ATTRIBUTES
from services.domain.tenants import TenantLimits
from services.ingest.core.batching import BatchPolicy, JoinPolicy
from services.ingest.core.field_checks import Limits
from services.redaction.presets import SECRET_PRESETS
from services.redaction.settings import check_patterns_file, known_presets

PREFIX = "INGEST_"
# What describes the columns of a stream has its place too.
_MAX_RECORD_BYTES = MAX_STREAM_BYTES - 65_536
# No mask is larger.
_MIN_MASKED_BYTES = 64
_COMPRESSIONS = ("lz4", "zstd")


def _tenant_limits(text: str) -> None:
    TenantLimits.parse(text)


def _known_compression(value: str) -> None:
    if value not in _COMPRESSIONS:
        raise ValueError(f"must be one of {', '.join(_COMPRESSIONS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Read from INGEST_… once, at start."""

    process: ProcessSettings = part(listen="127.0.0.1:50051", admin_listen="127.0.0.1:9101")
    kafka: KafkaSettings = part()
    manager_target: str = setting(
        "Address of AccessService, host:port, which knows the API keys; asked where AUTHENTICATION is required.",
        default="127.0.0.1:10000",
    )
    gateway_socket: str = setting(
        "Path of a Unix socket for Envoy on the same machine, by which it sends events as gRPC over HTTP/1.1, without"
        " TLS: whoever opens it counts as Envoy, so only this user may have access to its folder. Each instance has its"
        " own. Empty: none.",
        default="",
        check=socket_or_nothing,
    )
    max_batch_events: int = setting("Maximum number of events in one call.", default=10_000)
    max_request_bytes: int = setting("Maximum size of one call, in bytes.", default=4 * 1024 * 1024)
    max_columns_bytes: int = setting(
        "Maximum size of the stream of one IngestColumns call before compression, in bytes; at most half of"
        " MAX_INFLIGHT_BYTES is taken.",
        default=8 * 1024 * 1024,
    )
    max_message_bytes: int = setting("Maximum size of one event's message, in bytes.", default=32_768)
    max_attributes: int = setting("Maximum number of attributes of one event.", default=DEFAULT_MAX_ATTRIBUTES)
    max_record_bytes: int = setting(
        "Maximum size of the events in one Kafka record before compression, in bytes; keep it below the topic's"
        " max.message.bytes.",
        default=900_000,
    )
    compression: str = setting(
        "How records of log-events are compressed: lz4 or zstd, which makes them smaller and costs more CPU.",
        default="lz4",
        check=_known_compression,
    )
    max_inflight_bytes: int = setting(
        "Maximum size of all requests that wait for Kafka, in bytes; more calls are answered with RESOURCE_EXHAUSTED.",
        default=64 * 1024 * 1024,
    )
    max_receiving: int = setting(
        "Maximum number of requests that are received at once, each of 8 MiB or less. Others wait for a second, unread,"
        " and are then answered with RESOURCE_EXHAUSTED.",
        default=16,
    )
    linger: timedelta = setting(
        "How long a single event waits for others that go to Kafka with it, and a batch while another is on its way;"
        " 0s: they do not wait.",
        default=timedelta(milliseconds=3),
        former="gather",
    )
    max_linger_events: int = setting(
        "Maximum number of single events that go to Kafka together.", default=500, former="gather_events"
    )
    redact: tuple[str, ...] = setting(
        "Secrets that are masked in messages and attributes before Kafka, some of"
        f" {', '.join(SECRET_PRESETS)}, with commas; empty: none.",
        default=(),
        check=known_presets,
    )
    redact_patterns_file: str = setting(
        "Path of a file with patterns of other secrets, a `name: regular expression` in each line; empty: none.",
        default="",
        check=check_patterns_file,
    )

    tenant_events_per_second: str = setting(
        "How many events a second each tenant may send to this instance, and after a comma others for tenants by name:"
        " 1000,acme=5000; 0: any number. A call beyond that waits for up to a second, or gets RESOURCE_EXHAUSTED.",
        default="0",
        check=_tenant_limits,
    )

    def __post_init__(self) -> None:
        """Refuse limits that let nothing through."""
        _ = (self.limits, self.batch_policy)
        if (self.redact or self.redact_patterns_file) and self.max_message_bytes < _MIN_MASKED_BYTES:
            raise ValueError(
                f"max_message_bytes must be at least {_MIN_MASKED_BYTES} where secrets are masked,"
                f" got {self.max_message_bytes}"
            )
        if self.max_inflight_bytes < self.max_request_bytes:
            raise ValueError("max_inflight_bytes must not be below max_request_bytes")
        if self.max_record_bytes > _MAX_RECORD_BYTES:
            raise ValueError(f"max_record_bytes must be at most {_MAX_RECORD_BYTES}, got {self.max_record_bytes}")
        if not 1 <= self.max_columns_bytes <= MAX_STREAM_BYTES:
            raise ValueError(f"max_columns_bytes must be 1 to {MAX_STREAM_BYTES}, got {self.max_columns_bytes}")
        if self.max_receiving < 1:
            raise ValueError(f"max_receiving must be at least 1, got {self.max_receiving}")

    @property
    def limits(self) -> Limits:
        """What one event, request and record may hold."""
        return Limits(
            max_batch_events=self.max_batch_events,
            max_request_bytes=self.max_request_bytes,
            max_message_bytes=self.max_message_bytes,
            max_attributes=self.max_attributes,
            max_record_bytes=self.max_record_bytes,
        )

    @property
    def max_stream_bytes(self) -> int:
        """The largest stream of columns for which there is memory besides its request."""
        return min(self.max_columns_bytes, self.max_inflight_bytes // 2)

    @property
    def join_policy(self) -> JoinPolicy:
        """How calls with many events go together; events are a little larger as columns than in their requests."""
        return JoinPolicy(linger=self.linger, max_bytes=max(1, self.max_record_bytes * 3 // 4))

    @property
    def batch_policy(self) -> BatchPolicy:
        """How single events go together."""
        return BatchPolicy(linger=self.linger, max_events=self.max_linger_events, max_bytes=self.max_record_bytes)
