"""What ingest counts."""

from collections.abc import Callable, Iterable

from opentelemetry.metrics import CallbackOptions, Observation

from services.chassis.telemetry import meter
from services.ingest.core.adjustments import Adjustment
from services.ingest.core.field_checks import EventField


class Metrics:
    """One function per observation; make it inside the telemetry block."""

    def __init__(self, *, in_flight: Callable[[], int], receiving: Callable[[], int]) -> None:
        ingest = meter("tocsin.ingest")
        self._accepted = ingest.create_counter(
            "tocsin.ingest.events.accepted", "{event}", "Events that Kafka has confirmed."
        )
        self._refused = ingest.create_counter(
            "tocsin.ingest.events.refused", "{event}", "Refused events, by the first wrong field."
        )
        self._adjusted = ingest.create_counter(
            "tocsin.ingest.values.adjusted", "{value}", "Adjusted values of accepted events, by field and action."
        )
        self._redacted = ingest.create_counter(
            "tocsin.ingest.values.redacted", "{value}", "Values in which secrets were masked, by what was masked."
        )
        self._written = ingest.create_counter(
            "tocsin.ingest.written", "By", "Bytes of records that Kafka has confirmed."
        )
        self._flush_size = ingest.create_histogram(
            "tocsin.ingest.flush.size",
            "{event}",
            "Single events that went to Kafka together.",
            explicit_bucket_boundaries_advisory=[1, 2, 5, 10, 20, 50, 100, 200, 500],
        )
        self._produced = ingest.create_histogram(
            "tocsin.ingest.produce.duration", "s", "Time from publishing a record until Kafka has confirmed it."
        )
        ingest.create_observable_gauge(
            "tocsin.ingest.in_flight",
            callbacks=[_observing(in_flight)],
            unit="By",
            description="Bytes of requests that are not answered yet.",
        )
        ingest.create_observable_gauge(
            "tocsin.ingest.receiving",
            callbacks=[_observing(receiving)],
            unit="{request}",
            description="Requests that are being received.",
        )
        self._accepted.add(0)
        for field in EventField:
            self._refused.add(0, {"reason": field.value})

    def accepted(self, events: int) -> None:
        """Count events that Kafka has."""
        self._accepted.add(events)

    def refused(self, field: EventField) -> None:
        """Count one refused event."""
        self._refused.add(1, {"reason": field.value})

    def adjusted(self, adjustment: Adjustment, values: int) -> None:
        """Count adjusted values of accepted events."""
        self._adjusted.add(values, {"field": adjustment.field.value, "action": adjustment.action.name})

    def redacted(self, name: str, values: int) -> None:
        """Count values in which secrets of one name were masked."""
        self._redacted.add(values, {"name": name})

    def written(self, size: int, seconds: float) -> None:
        """Count a record that Kafka has confirmed."""
        self._written.add(size)
        self._produced.record(seconds)

    def flushed(self, events: int) -> None:
        """Count single events that go together."""
        self._flush_size.record(events)


def _observing(value: Callable[[], int]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _options: [Observation(value())]
