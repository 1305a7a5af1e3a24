"""What the events of all calls go through."""

from dataclasses import dataclass

from services.chassis.clock import Clock
from services.ingest.core.columns import Columns
from services.ingest.core.event_checker import CheckResult, EventChecker
from services.ingest.metrics import Metrics
from services.ingest.ports import Wire
from services.ingest.worker.event_redactor import EventRedactor
from services.ingest.worker.publisher import Publisher


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPipeline:
    """By what events are read, masked, checked, published and counted."""

    wire: Wire
    redactor: EventRedactor
    checker: EventChecker
    clock: Clock
    publisher: Publisher
    metrics: Metrics

    def check(self, events: Columns) -> CheckResult:
        """Check events at this moment, but for their sizes, which adjustments change."""
        return self.checker.check(events, self.clock.now())
