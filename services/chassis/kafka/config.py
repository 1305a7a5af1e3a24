"""Configure each producer and consumer, and name the client's error codes."""

import logging
from typing import Any

from confluent_kafka import KafkaError

from services.chassis.settings import KafkaSettings

# The client's own error codes, under names that are not private.
ALL_BROKERS_DOWN: int = KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001  (the client's public codes begin with an underscore)
FATAL: int = KafkaError._FATAL  # noqa: SLF001
FENCED: int = KafkaError.FENCED_INSTANCE_ID
TRANSPORT: int = KafkaError._TRANSPORT  # noqa: SLF001
RESOLVE: int = KafkaError._RESOLVE  # noqa: SLF001
PARTITION_EOF: int = KafkaError._PARTITION_EOF  # noqa: SLF001
AUTO_OFFSET_RESET: int = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001
TIMED_OUT: int = KafkaError._TIMED_OUT  # noqa: SLF001
MSG_TIMED_OUT: int = KafkaError._MSG_TIMED_OUT  # noqa: SLF001
INVALID_ARG: int = KafkaError._INVALID_ARG  # noqa: SLF001
MSG_SIZE_TOO_LARGE: int = KafkaError.MSG_SIZE_TOO_LARGE

# The client logs a fatal error as an emergency; here it is handled, and logged with what follows.
_CLIENT_LOG = logging.getLogger("kafka")
_CLIENT_LOG.addFilter(lambda record: not (isinstance(record.args, tuple) and record.args[:1] == ("FATAL",)))

# A client reports these over and over while a broker is away; health shows it once.
BROKER_ABSENT = frozenset({ALL_BROKERS_DOWN, TRANSPORT, RESOLVE, TIMED_OUT})


def absence_of(error: KafkaError) -> str:
    """Return in words why Kafka is down."""
    return (
        "no broker answers" if error.code() in BROKER_ABSENT | {MSG_TIMED_OUT} else str(KafkaError(error.code()).str())
    )


def kafka_error_name(error: KafkaError) -> str:
    """Return the error's name: of a fatal one its cause, which the client has in the text only."""
    fenced = KafkaError(FENCED)
    return str((fenced if fenced.str() in error.str() else error).name())


def physical(settings: KafkaSettings, name: str) -> str:
    """Return the name of a topic or group with the settings' prefix."""
    return settings.topic_prefix + name


def producer_config(settings: KafkaSettings, client_id: str, **overrides: Any) -> dict[str, Any]:
    """Return the configuration of an idempotent producer; in the names of overrides an underscore stands for a dot."""
    delivery_ms = int(settings.delivery_timeout.total_seconds() * 1000)
    return {
        **_connection(settings, client_id),
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "lz4",
        "linger.ms": 2,
        "message.timeout.ms": delivery_ms,
        "request.timeout.ms": max(1_000, min(delivery_ms - 1_000, 30_000)),
        "message.max.bytes": 10_000_000,
        # The producer has its own limit, in bytes, which takes effect before these.
        "queue.buffering.max.messages": 1_000_000,
        "queue.buffering.max.kbytes": 1_048_576,
        **_dotted(overrides),
    }


def consumer_config(settings: KafkaSettings, group: str, **overrides: Any) -> dict[str, Any]:
    """Return the configuration of a consumer that commits by hand; overrides as for the producer.

    With `group_instance_id` the membership is static: a process that comes back under the same name resumes its
    partitions at once, without waiting until the session of its predecessor expires.
    """
    return {
        **_connection(settings, group),
        "group.id": physical(settings, group),
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "session.timeout.ms": 6_000,
        "heartbeat.interval.ms": 1_000,
        # By default a consumer whose queue was full waits a second, and one that is idle half a second.
        "fetch.queue.backoff.ms": 5,
        "fetch.wait.max.ms": 50,
        "fetch.error.backoff.ms": 100,
        "queued.max.messages.kbytes": 32_768,
        "max.partition.fetch.bytes": 10_485_760,
        "fetch.message.max.bytes": 10_485_760,
        **_dotted(overrides),
    }


def admin_config(settings: KafkaSettings) -> dict[str, Any]:
    """Return the configuration of an admin client that does not log absent brokers."""
    return {
        "bootstrap.servers": settings.brokers,
        "log_level": 0,
        "socket.connection.setup.timeout.ms": 2_000,
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 200,
        **login_config(settings),
    }


def login_config(settings: KafkaSettings) -> dict[str, Any]:
    """Return what a client needs to get in: TLS, certificates, and the present password."""
    config: dict[str, Any] = {}
    if settings.kafka_ca:
        config["ssl.ca.location"] = settings.kafka_ca
        config["ssl.endpoint.identification.algorithm"] = "https" if settings.kafka_verify_host_name else "none"
    if settings.kafka_certificate:
        config["ssl.certificate.location"] = settings.kafka_certificate
        config["ssl.key.location"] = settings.kafka_key
    if settings.kafka_sasl_mechanism:
        config["sasl.mechanism"] = settings.kafka_sasl_mechanism
        config["sasl.username"] = settings.kafka_sasl_user
        config["sasl.password"] = settings.kafka_sasl_password.reveal()
    protocol = ("SASL_" if settings.kafka_sasl_mechanism else "") + ("SSL" if settings.kafka_ca else "PLAINTEXT")
    return {"security.protocol": protocol, **config}


def _connection(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    return {
        **login_config(settings),
        "bootstrap.servers": settings.brokers,
        "client.id": client_id,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1_000,
        "topic.metadata.refresh.interval.ms": 10_000,
        "socket.keepalive.enable": True,
        # By default the client logs each failed attempt to connect; health shows that once.
        "log_level": 2,
        "logger": _CLIENT_LOG,
    }


def _dotted(overrides: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("_", "."): value for name, value in overrides.items()}
