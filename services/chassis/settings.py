"""Settings: one frozen dataclass per service, read once from the environment.

A service writes

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Settings:
        process: ProcessSettings = part(listen="127.0.0.1:50051", admin_listen="127.0.0.1:9101")
        kafka: KafkaSettings = part()
        max_batch: int = setting("Most events in one batch.", default=10_000)

and `load(Settings, "INGEST_", environ)` reads INGEST_LISTEN, INGEST_BROKERS, INGEST_MAX_BATCH and so on: a nested
dataclass is flattened under the same prefix. `part(...)` gives a nested one this service's own defaults.
"""

import re
import socket
from dataclasses import dataclass
from datetime import timedelta

from services.chassis.environment import Secret, SettingDoc, SettingsError, describe, load, part, setting

__all__ = [
    "KafkaSettings",
    "PostgresSettings",
    "ProcessSettings",
    "RedisSettings",
    "Secret",
    "SettingDoc",
    "SettingsError",
    "describe",
    "load",
    "part",
    "setting",
]

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """Where a service listens, what it calls itself, and how it stops."""

    listen: str = setting("Address of the gRPC server, host:port; port 0 takes a free one.")
    admin_listen: str = setting("Address of /metrics and /health over HTTP, host:port.")
    instance: str = setting(
        "Name of this instance, different from every other instance's of the same service.",
        default_factory=socket.gethostname,
        shown="the host's name",
    )
    otlp: str = setting("Where traces go, host:port of an OTLP gRPC receiver; empty: nowhere.", default="")
    log_level: str = setting(f"Least severe log line that is written: {', '.join(_LEVELS)}.", default="INFO")
    notice: timedelta = setting(
        "How long calls are still taken after health said NOT_SERVING, so that Envoy notices first.",
        default=timedelta(milliseconds=500),
    )
    drain: timedelta = setting("Longest time that stopping may take.", default=timedelta(seconds=10))

    def __post_init__(self) -> None:
        if self.log_level not in _LEVELS:
            raise ValueError(f"log_level must be one of {', '.join(_LEVELS)}, got {self.log_level}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """Which Kafka, and which of its topics."""

    brokers: str = setting("Kafka's bootstrap servers, host:port, separated by commas.")
    topic_prefix: str = setting("Stands in front of every topic's and consumer group's name.", default="")
    delivery_timeout: timedelta = setting(
        "After this time a record that Kafka has not confirmed counts as failed.", default=timedelta(seconds=5)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresSettings:
    """Which PostgreSQL."""

    database_url: Secret = setting("PostgreSQL's address, postgresql://user:password@host:port/database.")
    pool_size: int = setting("Most connections that this instance opens.", default=10)

    def __post_init__(self) -> None:
        _check_url("database_url", self.database_url, "postgresql", "postgres")


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """Which Redis."""

    redis_url: Secret = setting("Redis's address, redis://user:password@host:port/number.")
    redis_prefix: str = setting("Stands in front of every key.", default="")

    def __post_init__(self) -> None:
        _check_url("redis_url", self.redis_url, "redis", "rediss")


_HOST = r"(?:[^\s/?#@:,\[\]]*|\[[^\s\]]+\])(?::\d+)?"
_REST_OF_URL = re.compile(rf"(?:[^/?#]*@)?{_HOST}(?:,{_HOST})*(?:/[^/?#@]*)?(?:\?[^#]*)?")


def _check_url(name: str, url: Secret, *schemes: str) -> None:
    """Raise ValueError where a driver would, but without the password that drivers repeat."""
    scheme, _, rest = url.reveal().partition("://")
    if scheme not in schemes or not _REST_OF_URL.fullmatch(rest):
        raise ValueError(
            f"{name} must be {schemes[0]}://user:password@host:port/name,"
            " with / ? # @ of a password written as %2F %3F %23 %40"
        )
