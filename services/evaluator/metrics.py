"""The evaluator's instruments, one method for each observation."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from opentelemetry.metrics import CallbackOptions, Observation

from services.chassis.telemetry import meter
from services.evaluator.core.records import TransitionReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How one partition of the window stage stands; the watermark's age is None while there is no watermark."""

    watermark_age: float | None
    open_groups: int
    firing_groups: int


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
        self._failed = instruments.create_counter(
            "tocsin.evaluator.rules.failed", description="Fetches that a rule could not be evaluated on."
        )
        self._given_up = instruments.create_counter(
            "tocsin.evaluator.events.given_up",
            description="Events that a rule's expression would have taken too many steps for; it did not select them.",
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
            "tocsin.evaluator.gaps", description="Flushes before which something was missing."
        )
        self._transitions = instruments.create_counter(
            "tocsin.evaluator.transitions", description="Steps of groups written to alerts, by reason."
        )
        # Observed, not set: a partition that another instance has taken over must not be told here any more.
        self._figures: Mapping[int, Figures] = {}
        self._lags: dict[str, Mapping[int, int]] = {}
        self._rules: Mapping[str, int] = {}
        instruments.create_observable_gauge(
            "tocsin.evaluator.rules",
            [lambda _: [Observation(count, {"state": state}) for state, count in self._rules.items()]],
            description="Enabled rules, by whether they are evaluated or refused (rule_refused in the log says why).",
        )
        instruments.create_observable_gauge(
            "tocsin.evaluator.watermark.age",
            [self._observe(lambda figures: figures.watermark_age)],
            unit="s",
            description="How far the watermark is behind the wall clock.",
        )
        instruments.create_observable_gauge(
            "tocsin.evaluator.groups.open",
            [self._observe(lambda figures: figures.open_groups)],
            description="Groups with an open window, by partition of window-partials.",
        )
        instruments.create_observable_gauge(
            "tocsin.evaluator.groups.firing",
            [self._observe(lambda figures: figures.firing_groups)],
            description="Groups with an open alert, by partition of window-partials.",
        )
        instruments.create_observable_gauge(
            "tocsin.evaluator.lag",
            [self._observe_lags],
            description="Records between what a stage has taken and the end, by stage and partition.",
        )
        for counter in (
            self._events,
            self._poisoned,
            self._failed,
            self._given_up,
            self._rewinds,
            self._late,
            self._gaps,
        ):
            counter.add(0)
        for reason in TransitionReason:
            self._transitions.add(0, {"reason": reason.value})

    def matched(self, seconds: float) -> None:
        """One fetch went through all rules."""
        self._match.record(seconds)

    def flushed(self, events: int, rows: int) -> None:
        """Kafka has the rows of one flush, which contained so many new events."""
        self._events.add(events)
        self._rows.record(rows)

    def unreadable(self, records: int) -> None:
        """Records were put aside."""
        self._poisoned.add(records)

    def rule_failed(self) -> None:
        """A rule could not be evaluated on one fetch."""
        self._failed.add(1)

    def given_up(self, events: int) -> None:
        """An expression gave up on events of one fetch."""
        self._given_up.add(events)

    def rewound(self) -> None:
        """The match stage began its blocks again."""
        self._rewinds.add(1)

    def late(self, events: int) -> None:
        """Events came after their window was closed."""
        self._late.add(events)

    def gap(self) -> None:
        """A flush was missing before another."""
        self._gaps.add(1)

    def transition(self, reason: TransitionReason) -> None:
        """A group took a step, and Kafka has it."""
        self._transitions.add(1, {"reason": reason.value})

    def stages(self, figures: Mapping[int, Figures]) -> None:
        """Tell the state of the window stage: the partitions that this instance has, and no others."""
        self._figures = figures

    def rules(self, evaluated: int, refused: int) -> None:
        """Tell how many rules there are, and how many of them cannot be evaluated."""
        self._rules = {"evaluated": evaluated, "refused": refused}

    def lags(self, stage: str, records: Mapping[int, int]) -> None:
        """Tell how far a stage is behind in the partitions that this instance has."""
        self._lags[stage] = records

    def _observe(self, figure: Callable[[Figures], float | None]) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for partition, figures in self._figures.items():
                value = figure(figures)
                if value is not None:
                    yield Observation(value, {"partition": partition})

        return observe

    def _observe_lags(self, _: CallbackOptions) -> Iterable[Observation]:
        for stage, lags in dict(self._lags).items():
            for partition, records in lags.items():
                yield Observation(records, {"stage": stage, "partition": partition})
