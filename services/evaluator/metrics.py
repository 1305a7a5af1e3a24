"""The evaluator's instruments, one method for each observation."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from opentelemetry.metrics import CallbackOptions, Observation

from services.chassis.telemetry import meter
from services.evaluator.core.records import TransitionReason


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionState:
    """The state of one partition of the window stage; without a watermark its age is None."""

    watermark_age: float | None
    open_groups: int
    firing_groups: int


class Metrics:
    """Create it once, inside the running service."""

    def __init__(self) -> None:
        instruments = meter(__name__)
        self._events = instruments.create_counter(
            "events_evaluated", description="Events that were matched against all rules."
        )
        self._unreadable = instruments.create_counter(
            "tocsin.evaluator.records.unreadable", description="Records of log-events that could not be decoded."
        )
        self._failed = instruments.create_counter(
            "tocsin.evaluator.rules.failed", description="Fetches on which a rule could not be evaluated."
        )
        self._over_step_limit = instruments.create_counter(
            "tocsin.evaluator.events.given_up",
            description="Events for which an expression would take too many steps; it did not select them.",
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
            "late_events",
            description="Events that a rule selected after their window was closed; they are not judged.",
        )
        self._gaps = instruments.create_counter(
            "tocsin.evaluator.gaps", description="Flushes before which another flush was missing."
        )
        self._transitions = instruments.create_counter(
            "tocsin.evaluator.transitions", description="Transitions written to alerts, by reason."
        )
        # Observed, not set: a partition that was revoked must not be shown here any more.
        self._partitions: Mapping[int, PartitionState] = {}
        self._rules: Mapping[str, int] = {}
        instruments.create_observable_gauge(
            "tocsin.evaluator.rules",
            [lambda _: [Observation(count, {"state": state}) for state, count in self._rules.items()]],
            description="Enabled rules, by whether they are evaluated or refused (rule_refused in the log says why).",
        )
        instruments.create_observable_gauge(
            "tocsin.evaluator.watermark.age",
            [self._observe(lambda partition: partition.watermark_age)],
            unit="s",
            description="How far the watermark is behind the wall clock.",
        )
        instruments.create_observable_gauge(
            "tocsin.evaluator.groups.open",
            [self._observe(lambda partition: partition.open_groups)],
            description="Groups with an open window, by partition of window-partials.",
        )
        instruments.create_observable_gauge(
            "tocsin.evaluator.groups.firing",
            [self._observe(lambda partition: partition.firing_groups)],
            description="Groups with an open alert, by partition of window-partials.",
        )
        for counter in (
            self._events,
            self._unreadable,
            self._failed,
            self._over_step_limit,
            self._rewinds,
            self._late,
            self._gaps,
        ):
            counter.add(0)
        for reason in TransitionReason:
            self._transitions.add(0, {"reason": reason.value})

    def matched(self, seconds: float) -> None:
        """Record the time to match one fetch against all rules."""
        self._match.record(seconds)

    def flushed(self, events: int, rows: int) -> None:
        """Record that Kafka has the rows of one flush, which covers so many new events."""
        self._events.add(events)
        self._rows.record(rows)

    def unreadable(self) -> None:
        """Count a record whose dead letter was published."""
        self._unreadable.add(1)

    def rule_failed(self) -> None:
        """Count a fetch on which a rule could not be evaluated."""
        self._failed.add(1)

    def over_step_limit(self, events: int) -> None:
        """Count events for which an expression would take too many steps."""
        self._over_step_limit.add(events)

    def rewound(self) -> None:
        """Count that the match stage began its blocks again."""
        self._rewinds.add(1)

    def late(self, events: int) -> None:
        """Count events that came after their window was closed."""
        self._late.add(events)

    def gap(self) -> None:
        """Count a flush before which another was missing."""
        self._gaps.add(1)

    def transition(self, reason: TransitionReason) -> None:
        """Count a transition that Kafka has."""
        self._transitions.add(1, {"reason": reason.value})

    def partitions(self, states: Mapping[int, PartitionState]) -> None:
        """Show the partitions of the window stage that are assigned to this instance, and no others."""
        self._partitions = states

    def rules(self, evaluated: int, refused: int) -> None:
        """Show how many rules are evaluated, and how many cannot be."""
        self._rules = {"evaluated": evaluated, "refused": refused}

    def _observe(
        self, value_of: Callable[[PartitionState], float | None]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for partition, state in self._partitions.items():
                value = value_of(state)
                if value is not None:
                    yield Observation(value, {"partition": partition})

        return observe
