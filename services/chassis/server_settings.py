"""Which Kafka, PostgreSQL and Redis a service uses, and how it proves who it is there.

Import it from `services.chassis.settings`. Each secret is also read from a file, and each file with a key or
certificate is read again when it changes.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from services.chassis.secret_files import Secret
from services.chassis.settings_loader import setting

_HOST = r"(?:[^\s/?#@:,\[\]]*|\[[^\s\]]+\])(?::\d+)?"
_REST_OF_URL = re.compile(rf"(?:[^/?#]*@)?{_HOST}(?:,{_HOST})*(?:/[^/?#@]*)?(?:\?[^#]*)?")
_SENTINEL_REST = re.compile(rf"(?:[^/?#]*@)?{_HOST}(?:,{_HOST})*/[^/?#@]+(?:/\d+)?")
_MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")
_SENTINEL = ("redis+sentinel", "rediss+sentinel")
_CLUSTER = ("redis+cluster", "rediss+cluster")
_MAX_PORT = 65_535


def split_address(value: str) -> tuple[str, int]:
    """Split "host:port", also "[::1]:port"; raise ValueError."""
    host, separator, port = value.rpartition(":")
    if not separator or not (port.isascii() and port.isdigit()) or int(port) > _MAX_PORT:
        raise ValueError(f"not host:port: {value}")
    return host.strip("[]") or "0.0.0.0", int(port)


def address(value: str) -> None:
    """Check that a setting is host:port."""
    try:
        split_address(value)
    except ValueError:
        raise ValueError("must be host:port") from None


def addresses(value: str) -> None:
    """Check that a setting is host:port, or several of these separated by commas."""
    for item in value.split(","):
        address(item)


def positive(value: timedelta) -> None:
    """Check that a duration is longer than nothing."""
    if not value:
        raise ValueError("must be longer than 0s")


def _at_least_one(value: int) -> None:
    if value < 1:
        raise ValueError("must be at least 1")


def _url(*schemes: str) -> Callable[[Secret], None]:
    """Return a check of a URL: a driver would check it too, but repeat the password in its message."""

    def check(url: Secret) -> None:
        scheme, _, rest = url.reveal().partition("://")
        if scheme not in schemes or not _REST_OF_URL.fullmatch(rest):
            raise ValueError(
                f"must be {schemes[0]}://user:password@host:port/name,"
                " with / ? # @ of a password written as %2F %3F %23 %40"
            )

    return check


check_postgres_url = _url("postgresql", "postgres")


def _postgres_url_or_nothing(url: Secret) -> None:
    if url.reveal():
        check_postgres_url(url)


def check_redis_url(url: Secret) -> None:
    """Check that a setting is the URL of a Redis, of Sentinel or of a cluster."""
    scheme, _, rest = url.reveal().partition("://")
    match = _SENTINEL_REST.fullmatch(rest) if scheme in _SENTINEL else None
    if scheme in _SENTINEL and match is None:
        raise ValueError(
            "must be redis+sentinel://user:password@host:port,host:port/NAME/number, NAME being that of the primary"
            " that the sentinels watch, with / ? # @ of a password written as %2F %3F %23 %40"
        )
    if scheme not in _SENTINEL:
        _url("redis", "rediss", *_CLUSTER)(url)
    hosts, _, database = rest.rpartition("@")[2].partition("/")
    if scheme in _CLUSTER and database not in {"", "0"}:
        raise ValueError("must not name a database: a cluster has number 0 only")
    if scheme in {"redis", "rediss"} and "," in hosts:
        raise ValueError("must name one host; several need redis+sentinel:// or redis+cluster://")


def _mechanism(value: str) -> None:
    if value and value not in _MECHANISMS:
        raise ValueError(f"must be one of {', '.join(_MECHANISMS)}, or empty")


def _check_files(name: str, ca: str, certificate: str, key: str) -> None:
    if bool(certificate) != bool(key):
        raise ValueError(f"{name}_certificate and {name}_key belong together; only one of them is set")
    if certificate and not ca:
        raise ValueError(f"{name}_certificate needs {name}_ca, the certificates that the server's is checked with")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """Which Kafka, under which prefix, and the way in."""

    brokers: str = setting("Kafka's bootstrap servers, host:port, separated by commas.", check=addresses)
    topic_prefix: str = setting("Prefix of the names of all topics and consumer groups.", default="")
    delivery_timeout: timedelta = setting(
        "Time after which a record that Kafka has not confirmed counts as failed.",
        default=timedelta(seconds=5),
        check=positive,
    )
    kafka_sasl_mechanism: str = setting(
        f"How to log in at Kafka: {', '.join(_MECHANISMS)}; empty: without a password. PLAIN needs KAFKA_CA.",
        default="",
        check=_mechanism,
    )
    kafka_sasl_user: str = setting("User name at Kafka.", default="")
    kafka_sasl_password: Secret = setting("Password at Kafka.", default=Secret(""))
    kafka_ca: str = setting(
        "Path of the CA certificates (PEM) that Kafka's is checked with; with it all goes over TLS.", default=""
    )
    kafka_certificate: str = setting("Path of the client certificate (PEM) for Kafka.", default="")
    kafka_key: str = setting("Path of the client certificate's key (PEM) for Kafka.", default="")
    kafka_verify_host_name: bool = setting(
        "Whether a broker's certificate must have the name under which the broker is reached.", default=True
    )

    def __post_init__(self) -> None:
        """Refuse a login that is incomplete, or would show its password on the way."""
        _check_files("kafka", self.kafka_ca, self.kafka_certificate, self.kafka_key)
        has_login = bool(self.kafka_sasl_user), bool(self.kafka_sasl_password.reveal())
        if has_login != (bool(self.kafka_sasl_mechanism),) * 2:
            raise ValueError(
                "kafka_sasl_mechanism, kafka_sasl_user and kafka_sasl_password belong together; set all or none"
            )
        if self.kafka_sasl_mechanism == "PLAIN" and not self.kafka_ca:
            raise ValueError("kafka_sasl_mechanism PLAIN sends the password itself and needs kafka_ca")


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresSettings:
    """Which PostgreSQL, and the way in."""

    database_url: Secret = setting(
        "URL of PostgreSQL, postgresql://user:password@host:port/database. Of several hosts, with commas, the one that"
        " takes writes is used.",
        check=check_postgres_url,
    )
    database_password: Secret = setting("Password at PostgreSQL, in place of the URL's.", default=Secret(""))
    migrate_at_start: bool = setting(
        "Whether the service migrates its schema when it starts; false: it needs no user but its own, and starts only"
        " where `python -m services.<service>.migrate` has done that.",
        default=True,
    )
    migration_database_url: Secret = setting(
        "URL of the same PostgreSQL for the migrations, with a user who owns the tables and may create roles;"
        " empty: DATABASE_URL. The service's own user is then created where it is missing, and needs no rights but to"
        " log in.",
        default=Secret(""),
        check=_postgres_url_or_nothing,
    )
    migration_database_password: Secret = setting(
        "Password at PostgreSQL for the migrations, in place of the one of MIGRATION_DATABASE_URL.", default=Secret("")
    )
    database_ca: str = setting(
        "Path of the CA certificates (PEM) that PostgreSQL's is checked with; with it all goes over TLS, and the host's"
        " name is checked too (verify-full).",
        default="",
    )
    database_certificate: str = setting("Path of the client certificate (PEM) for PostgreSQL.", default="")
    database_key: str = setting("Path of the client certificate's key (PEM) for PostgreSQL.", default="")
    pool_size: int = setting("Maximum number of connections of this instance.", default=10, check=_at_least_one)

    def __post_init__(self) -> None:
        """Refuse half a certificate."""
        _check_files("database", self.database_ca, self.database_certificate, self.database_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """Which Redis, and the way in."""

    redis_url: Secret = setting(
        "URL of Redis: redis://user:password@host:port/number; of Sentinel:"
        " redis+sentinel://user:password@host:port,host:port/NAME/number, NAME being the primary's; of a cluster:"
        " redis+cluster://user:password@host:port,host:port. With rediss in place of redis: over TLS.",
        check=check_redis_url,
    )
    redis_password: Secret = setting("Password at Redis, in place of the URL's.", default=Secret(""))
    redis_sentinel_user: str = setting("User name at the sentinels themselves.", default="")
    redis_sentinel_password: Secret = setting("Password at the sentinels themselves.", default=Secret(""))
    redis_ca: str = setting(
        "Path of the CA certificates (PEM) that Redis' is checked with; empty: the machine's.", default=""
    )
    redis_certificate: str = setting("Path of the client certificate (PEM) for Redis.", default="")
    redis_key: str = setting("Path of the client certificate's key (PEM) for Redis.", default="")
    redis_prefix: str = setting("Prefix of all keys.", default="")

    def __post_init__(self) -> None:
        """Refuse half a certificate, and certificates without TLS."""
        _check_files("redis", self.redis_ca, self.redis_certificate, self.redis_key)
        if self.redis_ca and not self.redis_url.reveal().startswith("rediss"):
            raise ValueError("redis_ca has an effect only with a redis_url that begins with rediss")
