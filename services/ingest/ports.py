"""What ingest needs from the world."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from services.domain.trace_context import TraceHeaders
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

    def count_events(self, request: bytes) -> int:
        """Return how many events a batch's request has, at little cost. Raises UnreadableRequestError."""

    def read_events(self, request: bytes) -> Columns:
        """Return the events of a batch's request. Raises UnreadableRequestError."""

    def read_requests(self, requests: Sequence[bytes]) -> tuple[Columns, Offsets]:
        """Return the events of several batches' requests, and where those of each begin and the last ones end.

        Raises UnreadableRequestError where one of the requests cannot be read.
        """

    def read_single(self, request: bytes) -> bytes | None:
        """Turn the request with one event into a batch with this one; None when it holds no event at all.

        A request that gives its event in several pieces means one event, merged from all.
        Raises UnreadableRequestError.
        """

    def new_batch(self) -> "BatchWriter":
        """Begin a batch of events that are given field by field."""

    def write_record(self, events: Columns) -> bytes:
        """Return these events as the value of one record of `log-events`."""


class EventProducer(Protocol):
    """Where accepted events go."""

    def enqueue(self, topic: str, value: bytes, *, headers: TraceHeaders) -> asyncio.Future[None]:
        """Publish one record without waiting. The future ends when all in-sync replicas have it, or with a Failure.

        It ends within the delivery timeout. After a failure the record may still have been written.
        Raises Overloaded when no more can be published now; then it was not written.
        """
