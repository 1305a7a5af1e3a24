"""Moments between the contract and the core."""

from google.protobuf.timestamp_pb2 import Timestamp

from services.evaluator.core.records import SECOND_NS

# What a Timestamp may hold.
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799


def stamp(moment_ns: int) -> Timestamp:
    """Give a moment as the contract carries it."""
    seconds, nanos = divmod(moment_ns, SECOND_NS)
    return Timestamp(seconds=max(_FIRST_SECOND, min(seconds, _LAST_SECOND)), nanos=nanos)


def nanoseconds(timestamp: Timestamp) -> int:
    """Give a moment as the core counts it."""
    return timestamp.seconds * SECOND_NS + timestamp.nanos
