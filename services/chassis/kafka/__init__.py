"""Kafka: produce within a bound, consume in batches and commit after the effect.

Topic and group names are logical; the prefix of the settings is added inside.
"""

from services.chassis.kafka.batch_processor import DeadLetterPublisher, Handle, UnreadableRecordError
from services.chassis.kafka.config import admin_config, consumer_config, login_config, physical, producer_config
from services.chassis.kafka.consumer import Consumer
from services.chassis.kafka.consuming import consuming
from services.chassis.kafka.producer import Producer, producer
from services.chassis.kafka.producing import OutgoingRecord, encode_and_produce_all, partition_count, produce_all
from services.chassis.kafka.record import CommittedOffset, Headers, Rebalance, Record, record_of

__all__ = [
    "CommittedOffset",
    "Consumer",
    "DeadLetterPublisher",
    "Handle",
    "Headers",
    "OutgoingRecord",
    "Producer",
    "Rebalance",
    "Record",
    "UnreadableRecordError",
    "admin_config",
    "consumer_config",
    "consuming",
    "encode_and_produce_all",
    "login_config",
    "partition_count",
    "physical",
    "produce_all",
    "producer",
    "producer_config",
    "record_of",
]
