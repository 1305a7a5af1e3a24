"""What ingest needs from the world."""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

import pyarrow as pa

from services.domain.trace_context import TraceHeaders
from services.ingest.core.adjustments import Adjustment
from services.ingest.core.columns import Columns, Offsets


class UnreadableRequestError(Exception):
    """The bytes are not the message that they should be."""


class BatchWriter(Protocol):
    """A batch that grows."""

    def add(self, fields: Mapping[str, Any], attributes: Mapping[str, str]) -> None:
        """Add one event, from the proto's fields by their names; its time is seconds and nanos."""

    def to_bytes(self) -> bytes:
        """Return the batch as bytes."""


class Wire(Protocol):
    """The wire format of the requests. Nothing here blocks, and nothing keeps what it is given."""

    def split_events(self, request: bytes) -> pa.BinaryArray:
        """Cut a batch's request into the bytes of its events. Raises UnreadableRequestError."""

    def read_columns(self, request: bytes) -> Columns:
        """Read the columns of a batch that every reader of the topic can read too. Raises UnreadableRequestError.

        They have the names of the proto's fields; the event time is in seconds and nanoseconds, as it was sent.
        """

    def read_single(self, request: bytes) -> bytes | None:
        """Turn the request with one event into a batch with this one; None when it holds no event at all.

        A request that gives its event in several pieces means one event, merged from all.
        Raises UnreadableRequestError.
        """

    def write_batches(self, frames: pa.BinaryArray, cuts: Offsets) -> list[bytes]:
        """Write the events from each cut to the next as one batch, byte for byte as they were cut out."""

    def new_batch(self) -> "BatchWriter":
        """Begin a batch of events that are given field by field."""

    def write_batch(self, event: bytes) -> bytes:
        """Write one event as a batch."""

    def adjust(self, event: bytes, max_attributes: int) -> tuple[bytes, frozenset[Adjustment]]:
        """Adjust the values of one readable event that do not fit, and return what was done."""


class EventProducer(Protocol):
    """Where accepted events go."""

    def enqueue(self, topic: str, value: bytes, *, headers: TraceHeaders) -> asyncio.Future[None]:
        """Publish one record without waiting. The future ends when all in-sync replicas have it, or with a Failure.

        It ends within the delivery timeout. After a failure the record may still have been written.
        Raises Overloaded when no more can be published now; then it was not written.
        """
