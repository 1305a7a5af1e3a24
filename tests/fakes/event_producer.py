"""A topic in memory."""

import asyncio
from collections.abc import Sequence

from services.chassis.failures import Failure
from services.contract.topics import LOG_EVENTS
from services.domain.trace_context import TraceHeaders
from tests.fakes.log_events import events_in
from tocsin.logs.v1.log_event_pb2 import LogEvent


class MemoryProducer:
    """Confirms at once, or, while `holds`, when told to; what was confirmed stands in `records`."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes, TraceHeaders]] = []
        self.holds = False
        self.refuses_with: Failure | None = None
        self.waiting: list[tuple[asyncio.Future[None], bytes, TraceHeaders]] = []

    def enqueue(self, topic: str, value: bytes, *, headers: TraceHeaders) -> asyncio.Future[None]:
        assert topic == LOG_EVENTS
        if self.refuses_with is not None:
            raise self.refuses_with
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((written, value, headers))
        if not self.holds:
            self.confirm()
        return written

    def confirm(self) -> None:
        """Confirm all that waits."""
        waiting, self.waiting = self.waiting, []
        for written, batch, headers in waiting:
            self.records.append((batch, headers))
            written.set_result(None)

    def fail(self, *failures: Failure | None) -> None:
        """End what waits: with the failure in its place, or written where there is None."""
        waiting, self.waiting = self.waiting, []
        for (written, batch, headers), failure in zip(waiting, failures, strict=True):
            if failure is None:
                self.records.append((batch, headers))
                written.set_result(None)
            else:
                written.set_exception(failure)

    @property
    def events(self) -> Sequence[LogEvent]:
        """All confirmed events in order."""
        return [event for batch, _ in self.records for event in events_in(batch)]
