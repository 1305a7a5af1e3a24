"""The client's own error codes, by names that are not private."""

from confluent_kafka import KafkaError

ALL_BROKERS_DOWN: int = KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001  (the client's public codes begin with an underscore)
FATAL: int = KafkaError._FATAL  # noqa: SLF001
TRANSPORT: int = KafkaError._TRANSPORT  # noqa: SLF001
RESOLVE: int = KafkaError._RESOLVE  # noqa: SLF001
TIMED_OUT: int = KafkaError._TIMED_OUT  # noqa: SLF001
MSG_TIMED_OUT: int = KafkaError._MSG_TIMED_OUT  # noqa: SLF001
INVALID_ARG: int = KafkaError._INVALID_ARG  # noqa: SLF001
MSG_SIZE_TOO_LARGE: int = KafkaError.MSG_SIZE_TOO_LARGE

# What a client reports over and over while a broker is away; health tells it once.
ABSENCE = frozenset({ALL_BROKERS_DOWN, TRANSPORT, RESOLVE, TIMED_OUT})
