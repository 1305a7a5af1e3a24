"""The manager's metrics, one function an observation."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta

from opentelemetry.metrics import CallbackOptions, Observation

from services.chassis.telemetry import meter
from services.domain.severity import Severity
from services.manager.core.alert_lifecycle import AlertReason
from services.manager.core.incident import NotifyReason
from services.manager.core.incident_changes import IncidentReason

# Fired again while its alert is open or was resolved by hand: receivers are not notified twice.
_DEDUPLICATED = frozenset({AlertReason.REPEATED, AlertReason.EPISODE_CLOSED})

# From 10 seconds to a day.
_ACKNOWLEDGE_BUCKETS = (10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 28_800, 86_400)


class Metrics:
    """The instruments; create it inside of the telemetry block."""

    def __init__(self) -> None:
        self._create_alert_instruments()
        manager = meter("tocsin.manager")
        self._results = manager.create_counter(
            "tocsin.manager.results", "{result}", "Results of deliveries, by whether they were new."
        )
        self._guesses = manager.create_counter(
            "tocsin.manager.dedup.guesses", "{batch}", "Batches, by whether the guess at new alerts was right."
        )
        self._cache = manager.create_counter(
            "tocsin.manager.cache.lookups", "{lookup}", "Lookups in the response cache, by outcome."
        )
        self._edits = manager.create_counter("tocsin.manager.rule.edits", "{edit}", "Changes of alert rules.")
        self._ended = manager.create_counter(
            "tocsin.manager.rule.alerts.ended",
            "{alert}",
            "Alerts that ended because their rule was disabled, deleted, or edited so that counting began again.",
        )
        self._incidents = manager.create_counter(
            "tocsin.manager.incident.changes", "{change}", "Changes of incidents by alerts and by time, by reason."
        )
        for reason in IncidentReason:
            self._incidents.add(0, {"reason": reason.value})
        self._notified = manager.create_counter(
            "tocsin.manager.incident.notifications", "{notification}", "Notifications of incidents, by reason."
        )
        for notify_reason in NotifyReason:
            self._notified.add(0, {"reason": notify_reason.value})
        self._silenced = manager.create_counter(
            "tocsin.manager.silence.alerts",
            "{alert}",
            "Open alerts of which other silences hold, and those of which none does any more, by outcome.",
        )
        self._sightings = manager.create_counter(
            "tocsin.manager.trace.sightings",
            "{sighting}",
            "Services seen in sampled traces, by outcome; those beyond the limit are dropped.",
        )
        self._traces = manager.create_counter(
            "tocsin.manager.traces", "{trace}", "Sampled traces that were counted for learned dependencies."
        )
        self._canaries = manager.create_counter(
            "tocsin.manager.canaries", "{event}", "Canaries that were sent to ingest, by outcome."
        )
        self._edits.add(0)
        self._ended.add(0)
        self._traces.add(0)
        for counter, outcomes in (
            (self._results, ("new", "duplicate")),
            (self._cache, ("hit", "miss")),
            (self._guesses, ("right", "wrong")),
            (self._sightings, ("stored", "dropped")),
            (self._silenced, ("marked", "released")),
            (self._canaries, ("accepted", "refused")),
        ):
            for outcome in outcomes:
                counter.add(0, {"outcome": outcome})

    def _create_alert_instruments(self) -> None:
        # The first two are charted by name since the first version of this system, hence without a prefix.
        manager = meter("tocsin.manager")
        self._processed = manager.create_counter(
            "alerts_processed", description="The evaluator's transitions that were processed, each once."
        )
        self._deduplicated = manager.create_counter(
            "alerts_deduplicated", description="Firings of an alert whose receivers were notified before."
        )
        self._transitions = manager.create_counter(
            "tocsin.manager.transitions", "{transition}", "The evaluator's transitions, by what became of them."
        )
        self._stored = manager.create_histogram(
            "tocsin.manager.store.latency", "s", "Time from the evaluator's decision until it was committed."
        )
        # Not in the unit "s": its histograms end at a minute, and people take longer.
        self._acknowledged = manager.create_histogram(
            "tocsin.manager.time_to_acknowledge.seconds",
            description="Time from the firing of an alert until somebody acknowledged it, by severity.",
            explicit_bucket_boundaries_advisory=_ACKNOWLEDGE_BUCKETS,
        )
        self._processed.add(0)
        self._deduplicated.add(0)
        for reason in AlertReason:
            self._transitions.add(0, {"reason": reason.value})

    def transitions(self, delays: Mapping[AlertReason, Sequence[float]]) -> None:
        """Count what became of a batch's transitions, each with the seconds since the evaluator decided it."""
        for reason, seconds in delays.items():
            self._transitions.add(len(seconds), {"reason": reason.value})
            if reason is AlertReason.DUPLICATE:
                continue
            self._processed.add(len(seconds))
            for each in seconds:
                self._stored.record(max(0.0, each))
            if reason in _DEDUPLICATED:
                self._deduplicated.add(len(seconds))

    def acknowledged(self, severity: Severity, time: timedelta) -> None:
        """Record how long after its firing an alert was acknowledged for the first time."""
        self._acknowledged.record(max(0.0, time.total_seconds()), {"severity": severity.name})

    def guessed(self, *, is_right: bool) -> None:
        """Count a batch that was tried with a guess first."""
        self._guesses.add(1, {"outcome": "right" if is_right else "wrong"})

    def results(self, new: int, duplicates: int) -> None:
        """Count the results of deliveries."""
        self._results.add(new, {"outcome": "new"})
        self._results.add(duplicates, {"outcome": "duplicate"})

    def looked_up(self, *, is_hit: bool) -> None:
        """Count a lookup in the response cache."""
        self._cache.add(1, {"outcome": "hit" if is_hit else "miss"})

    def rules_edited(self, edits: int) -> None:
        """Count changes of rules that were committed."""
        self._edits.add(edits)

    def rule_alerts_ended(self, alerts: int) -> None:
        """Count alerts that were resolved with their rule."""
        self._ended.add(alerts)

    def incidents_changed(self, reasons: Iterable[IncidentReason]) -> None:
        """Count changes of incidents, each by its last step."""
        for reason, count in Counter(reasons).items():
            self._incidents.add(count, {"reason": reason.value})

    def notified(self, reasons: Iterable[NotifyReason]) -> None:
        """Count notifications of incidents."""
        for reason, count in Counter(reasons).items():
            self._notified.add(count, {"reason": reason.value})

    def silences_applied(self, *, marked: int, released: int) -> None:
        """Count open alerts that were changed because a silence began or ended."""
        self._silenced.add(marked, {"outcome": "marked"})
        self._silenced.add(released, {"outcome": "released"})

    def traces_reported(self, *, stored: int, dropped: int) -> None:
        """Count the sightings of a report."""
        self._sightings.add(stored, {"outcome": "stored"})
        self._sightings.add(dropped, {"outcome": "dropped"})

    def traces_counted(self, traces: int) -> None:
        """Count traces that were closed and counted."""
        self._traces.add(traces)

    def canary_sent(self, *, is_accepted: bool) -> None:
        """Count a canary that ingest accepted or refused."""
        self._canaries.add(1, {"outcome": "accepted" if is_accepted else "refused"})

    def observe(self, name: str, unit: str, description: str, value: Callable[[], int]) -> None:
        """Export a number as it is at each scrape."""

        def callback(_: CallbackOptions) -> list[Observation]:
            return [Observation(value())]

        meter("tocsin.manager").create_observable_gauge(
            f"tocsin.manager.{name}", callbacks=[callback], unit=unit, description=description
        )
