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
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from services.chassis.address import split_address
from services.chassis.environment import Secret, SettingDoc, SettingsError, describe, load, part, renamed, setting

__all__ = [
    "KafkaSettings",
    "PostgresSettings",
    "ProcessSettings",
    "RedisSettings",
    "Secret",
    "SettingDoc",
    "SettingsError",
    "address",
    "address_or_nothing",
    "addresses",
    "describe",
    "load",
    "part",
    "renamed",
    "setting",
]

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_HOST = r"(?:[^\s/?#@:,\[\]]*|\[[^\s\]]+\])(?::\d+)?"
_REST_OF_URL = re.compile(rf"(?:[^/?#]*@)?{_HOST}(?:,{_HOST})*(?:/[^/?#@]*)?(?:\?[^#]*)?")


def address(value: str) -> None:
    """Check that a setting is host:port."""
    try:
        split_address(value)
    except ValueError:
        raise ValueError("must be host:port") from None


def addresses(value: str) -> None:
    """Check that a setting is host:port, or several of these with commas."""
    for each in value.split(","):
        address(each)


def address_or_nothing(value: str) -> None:
    """Check that a setting is host:port or empty."""
    if value:
        address(value)


def _level(value: str) -> None:
    if value not in _LEVELS:
        raise ValueError(f"must be one of {', '.join(_LEVELS)}")


def _some_time(value: timedelta) -> None:
    if not value:
        raise ValueError("must be longer than nothing")


def _one_or_more(value: int) -> None:
    if value < 1:
        raise ValueError("must be at least 1")


def _url(*schemes: str) -> Callable[[Secret], None]:
    """Check an address where a driver would, but without saying the password that drivers repeat."""

    def check(url: Secret) -> None:
        scheme, _, rest = url.reveal().partition("://")
        if scheme not in schemes or not _REST_OF_URL.fullmatch(rest):
            raise ValueError(
                f"must be {schemes[0]}://user:password@host:port/name,"
                " with / ? # @ of a password written as %2F %3F %23 %40"
            )

    return check


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """Where a service listens, what it calls itself, and how it stops."""

    listen: str = setting("Address of the gRPC server, host:port; port 0 takes a free one.", check=address)
    admin_listen: str = setting("Address of /metrics and /health over HTTP, host:port.", check=address)
    instance: str = setting(
        "Name of this instance, different from every other instance's of the same service.",
        default_factory=socket.gethostname,
        shown="the host's name",
    )
    otlp: str = setting(
        "Where traces go, host:port of an OTLP gRPC receiver; empty: nowhere.", default="", check=address_or_nothing
    )
    log_level: str = setting(
        f"Least severe log line that is written: {', '.join(_LEVELS)}.", default="INFO", check=_level
    )
    notice: timedelta = setting(
        "How long calls are still taken after health said NOT_SERVING, so that Envoy notices first.",
        default=timedelta(milliseconds=500),
    )
    drain: timedelta = setting("Longest time that stopping may take.", default=timedelta(seconds=10), check=_some_time)


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """Which Kafka, and which of its topics."""

    brokers: str = setting("Kafka's bootstrap servers, host:port, separated by commas.")
    topic_prefix: str = setting("Stands in front of every topic's and consumer group's name.", default="")
    delivery_timeout: timedelta = setting(
        "After this time a record that Kafka has not confirmed counts as failed.",
        default=timedelta(seconds=5),
        check=_some_time,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresSettings:
    """Which PostgreSQL."""

    database_url: Secret = setting(
        "PostgreSQL's address, postgresql://user:password@host:port/database.", check=_url("postgresql", "postgres")
    )
    pool_size: int = setting("Most connections that this instance opens.", default=10, check=_one_or_more)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """Which Redis."""

    redis_url: Secret = setting(
        "Redis's address, redis://user:password@host:port/number.", check=_url("redis", "rediss")
    )
    redis_prefix: str = setting("Stands in front of every key.", default="")
