"""Kafka: producing with a bound, consuming in batches with the commit after the effect.

Topic and group names are logical; the prefix of the settings is added inside.
"""

from services.chassis.kafka.batch_processor import DeadLetterPublisher, Handle, UnreadableRecordError
from services.chassis.kafka.config import consumer_config, physical, producer_config
from services.chassis.kafka.consumer import consuming
from services.chassis.kafka.producer import Producer, producer
from services.chassis.kafka.record import Headers, Record, record_of

__all__ = [
    "DeadLetterPublisher",
    "Handle",
    "Headers",
    "Producer",
    "Record",
    "UnreadableRecordError",
    "consumer_config",
    "consuming",
    "physical",
    "producer",
    "producer_config",
    "record_of",
]
