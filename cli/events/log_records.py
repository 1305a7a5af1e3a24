"""Records of `log-events`, read beside the services: as a member of no group, and without a committed offset."""

from collections.abc import Callable, Iterator

import confluent_kafka
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from services.chassis.kafka import Record, consumer_config, physical, record_of
from services.chassis.kafka.config import absence_of
from services.chassis.settings import KafkaSettings
from services.contract.topics import LOG_EVENTS

_CLIENT = "tocsin-events"
_ALL_BROKERS_DOWN: int = KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001
_TIMEOUT_S = 5.0
_BATCH_RECORDS = 100
# Ctrl-C takes effect within this time.
_WAIT_S = 0.2


class KafkaUnreachableError(Exception):
    """The broker does not answer."""


class NoTopicError(Exception):
    """The broker has no such topic."""


class LogRecords:
    """All records from the beginning, or those that come from now on; `notice` takes what the client reports."""

    def __init__(self, settings: KafkaSettings, notice: Callable[[str], None]) -> None:
        self._topic = physical(settings, LOG_EVENTS)
        self._notice = notice
        self._last_error = ""
        self._is_started = False
        self._client = confluent_kafka.Consumer(consumer_config(settings, _CLIENT) | {"error_cb": self._report_absence})

    def start(self, *, from_beginning: bool) -> None:
        """Find where to begin. Raise KafkaUnreachableError, or NoTopicError."""
        try:
            partitions = self._client.list_topics(self._topic, _TIMEOUT_S).topics[self._topic].partitions
            if not partitions:
                raise NoTopicError(f"there is no topic {self._topic}")
            self._client.assign([self._begin(partition, from_beginning) for partition in partitions])
        except KafkaException as error:
            raise KafkaUnreachableError(
                f"{absence_of(error.args[0])}; --kafka or TOCSIN_KAFKA names another Kafka"
            ) from error
        self._is_started = True

    def follow(self) -> Iterator[Record]:
        """Yield records as they come, without an end."""
        while True:
            for message in self._client.consume(_BATCH_RECORDS, _WAIT_S):
                error = message.error()
                if error is not None:
                    self._report(error.str())
                else:
                    self._last_error = ""
                    yield record_of(message, LOG_EVENTS)

    def close(self) -> None:
        """Leave the broker."""
        self._client.close()

    def _begin(self, partition: int, from_beginning: bool) -> TopicPartition:  # noqa: FBT001 - private
        place = TopicPartition(self._topic, partition, OFFSET_BEGINNING)
        if not from_beginning:
            # Asked for now: what comes while the client connects to the partition's broker is not left out.
            _, place.offset = self._client.get_watermark_offsets(place, _TIMEOUT_S)
        return place

    def _report_absence(self, error: KafkaError) -> None:
        """Report that no broker answers; of all else the client tries again without a word."""
        if self._is_started and error.code() == _ALL_BROKERS_DOWN:
            self._report(f"{absence_of(error)}; waiting for one")

    def _report(self, error: str) -> None:
        """Report an error once, until a record has come."""
        if error != self._last_error:
            self._last_error = error
            self._notice(error)
