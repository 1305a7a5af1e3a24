"""The evaluator's instruments, one method for each observation."""

from services.chassis.telemetry import meter
from services.evaluator.core.transition import Reason


class Metrics:
    """Made once, inside the running service."""

    def __init__(self) -> None:
        instruments = meter(__name__)
        self._events = instruments.create_counter(
            "events_evaluated", description="Events that all rules have been matched against."
        )
        self._poisoned = instruments.create_counter(
            "tocsin.evaluator.records.poisoned", description="Records of log-events that could not be decoded."
        )
        self._match = instruments.create_histogram(
            "tocsin.evaluator.match.duration", unit="s", description="Time to match one fetch."
        )
        self._rows = instruments.create_histogram(
            "tocsin.evaluator.flush.rows",
            description="Changed rows that one flush wrote to window-partials.",
            explicit_bucket_boundaries_advisory=[0, 10, 30, 100, 300, 1000, 3000, 10_000, 100_000],
        )
        self._rewinds = instruments.create_counter(
            "tocsin.evaluator.rewinds", description="Times that the match stage began its blocks again."
        )
        self._late = instruments.create_counter(
            "late_events", description="Events whose window was closed already; they are not judged."
        )
        self._gaps = instruments.create_counter(
            "tocsin.evaluator.gaps", description="Flushes before which something was missing."
        )
        self._transitions = instruments.create_counter(
            "tocsin.evaluator.transitions", description="Steps of groups written to alerts, by reason."
        )
        self._watermark_age = instruments.create_gauge(
            "tocsin.evaluator.watermark.age", unit="s", description="How far the watermark is behind the wall clock."
        )
        self._groups = instruments.create_gauge(
            "tocsin.evaluator.groups.open", description="Groups with an open window, by partition of window-partials."
        )
        self._firing = instruments.create_gauge(
            "tocsin.evaluator.groups.firing", description="Groups with an open alert, by partition of window-partials."
        )
        self._lag = instruments.create_gauge(
            "tocsin.evaluator.lag",
            description="Records between what a stage has taken and the end, by stage and partition.",
        )
        for counter in (self._events, self._poisoned, self._rewinds, self._late, self._gaps):
            counter.add(0)
        for reason in Reason:
            self._transitions.add(0, {"reason": reason.value})

    def matched(self, seconds: float) -> None:
        """One fetch went through all rules."""
        self._match.record(seconds)

    def flushed(self, events: int, rows: int) -> None:
        """Kafka has the rows of one flush, which contained so many new events."""
        self._events.add(events)
        self._rows.record(rows)

    def poisoned(self, records: int) -> None:
        """Records were put aside."""
        self._poisoned.add(records)

    def rewound(self) -> None:
        """The match stage began its blocks again."""
        self._rewinds.add(1)

    def late(self, events: int) -> None:
        """Events came after their window was closed."""
        self._late.add(events)

    def gap(self) -> None:
        """A flush was missing before another."""
        self._gaps.add(1)

    def transition(self, reason: Reason) -> None:
        """A group took a step, and Kafka has it."""
        self._transitions.add(1, {"reason": reason.value})

    def stage(self, partition: int, *, watermark_age: float | None, open_groups: int, firing_groups: int) -> None:
        """Tell the state of one partition of the window stage."""
        where = {"partition": partition}
        if watermark_age is not None:
            self._watermark_age.set(watermark_age, where)
        self._groups.set(open_groups, where)
        self._firing.set(firing_groups, where)

    def lag(self, stage: str, partition: int, records: int) -> None:
        """Tell how far a stage is behind."""
        self._lag.set(records, {"stage": stage, "partition": partition})
