"""Kafka: producing with a bound, consuming in batches with the commit after the effect.

Topic and group names are logical; the prefix of the settings is added inside.
"""

from services.chassis.kafka.config import consumer_config, physical, producer_config
from services.chassis.kafka.consumer import consuming
from services.chassis.kafka.producer import Producer, producer
from services.chassis.kafka.record import Headers, Record, record_of
from services.chassis.kafka.settling import DeadLetters, Handle, Poison

__all__ = [
    "DeadLetters",
    "Handle",
    "Headers",
    "Poison",
    "Producer",
    "Record",
    "consumer_config",
    "consuming",
    "physical",
    "producer",
    "producer_config",
    "record_of",
]
