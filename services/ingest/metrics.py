"""What ingest counts."""

from collections.abc import Callable, Iterable

from opentelemetry.metrics import CallbackOptions, Observation

from services.chassis.telemetry import meter
from services.ingest.core.adjusting import Change
from services.ingest.core.checks import Field


class Metrics:
    """One function per observation; make it inside the telemetry block."""

    def __init__(self, *, in_flight: Callable[[], int], receiving: Callable[[], int]) -> None:
        found = meter("tocsin.ingest")
        self._accepted = found.create_counter(
            "tocsin.ingest.events.accepted", "{event}", "Events that Kafka has confirmed."
        )
        self._refused = found.create_counter(
            "tocsin.ingest.events.refused", "{event}", "Events that were not allowed, by the first wrong field."
        )
        self._adjusted = found.create_counter(
            "tocsin.ingest.values.adjusted",
            "{value}",
            "Values of accepted events that were put right, by field and action.",
        )
        self._written = found.create_counter(
            "tocsin.ingest.written", "By", "Bytes of events that Kafka has confirmed, before compression."
        )
        self._gathered = found.create_histogram(
            "tocsin.ingest.gathered",
            "{event}",
            "Single events that went to Kafka together.",
            explicit_bucket_boundaries_advisory=[1, 2, 5, 10, 20, 50, 100, 200, 500],
        )
        self._produced = found.create_histogram(
            "tocsin.ingest.produce.duration", "s", "Time from handing a record over until Kafka has confirmed it."
        )
        found.create_observable_gauge(
            "tocsin.ingest.in_flight",
            callbacks=[_observing(in_flight)],
            unit="By",
            description="Bytes of requests that are not answered yet.",
        )
        found.create_observable_gauge(
            "tocsin.ingest.receiving",
            callbacks=[_observing(receiving)],
            unit="{request}",
            description="Requests that are being received.",
        )
        self._accepted.add(0)
        for field in Field:
            self._refused.add(0, {"reason": field.value})

    def accepted(self, events: int) -> None:
        """Count events that Kafka has."""
        self._accepted.add(events)

    def refused(self, field: Field) -> None:
        """Count one event that was not allowed."""
        self._refused.add(1, {"reason": field.value})

    def adjusted(self, change: Change, values: int) -> None:
        """Count values that were put right in accepted events."""
        self._adjusted.add(values, {"field": change.field.value, "action": change.action.name})

    def written(self, size: int, seconds: float) -> None:
        """Count a record that Kafka has confirmed."""
        self._written.add(size)
        self._produced.record(seconds)

    def gathered(self, events: int) -> None:
        """Count single events that go together."""
        self._gathered.record(events)


def _observing(value: Callable[[], int]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _options: [Observation(value())]
