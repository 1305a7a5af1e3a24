"""What the manager counts."""

from collections.abc import Callable

from opentelemetry.metrics import CallbackOptions, Observation

from services.chassis.telemetry import meter
from services.domain.alert import Reason

# Firing again, while its alert is open or was closed by hand: nobody is told twice.
_DEDUPLICATED = frozenset({Reason.REPEATED, Reason.EPISODE_CLOSED})


class Metrics:
    """One function per observation; make it inside the telemetry block."""

    def __init__(self) -> None:
        self._count_alerts()
        found = meter("tocsin.manager")
        self._results = found.create_counter(
            "tocsin.manager.results", "{result}", "Words of the notifier about deliveries, by whether they were new."
        )
        self._guesses = found.create_counter(
            "tocsin.manager.dedup.guesses", "{batch}", "Batches, by what the guess at new alerts was worth."
        )
        self._cache = found.create_counter(
            "tocsin.manager.cache.lookups", "{lookup}", "Reads that may be answered from the cache, by outcome."
        )
        self._edits = found.create_counter("tocsin.manager.rule.edits", "{edit}", "Changes of alert rules.")
        self._edits.add(0)
        self._ended = found.create_counter(
            "tocsin.manager.rule.alerts.ended",
            "{alert}",
            "Alerts that ended because their rule was disabled or deleted.",
        )
        self._ended.add(0)
        for value in ("new", "known"):
            self._results.add(0, {"outcome": value})
        for value in ("hit", "miss"):
            self._cache.add(0, {"outcome": value})
        for value in ("right", "wrong"):
            self._guesses.add(0, {"outcome": value})

    def _count_alerts(self) -> None:
        # The first two are charted by name since the first version of this system, hence without a prefix.
        found = meter("tocsin.manager")
        self._processed = found.create_counter(
            "alerts_processed", description="The evaluator's transitions that were done, each once."
        )
        self._deduplicated = found.create_counter(
            "alerts_deduplicated", description="Firings of an alert that was told already."
        )
        self._transitions = found.create_counter(
            "tocsin.manager.transitions", "{transition}", "The evaluator's transitions, by what became of them."
        )
        self._stored = found.create_histogram(
            "tocsin.manager.store.latency", "s", "Time from the evaluator's decision until it was committed."
        )
        self._processed.add(0)
        self._deduplicated.add(0)
        for reason in Reason:
            self._transitions.add(0, {"reason": reason.value})

    def transition(self, reason: Reason, seconds: float) -> None:
        """Count what became of a transition, `seconds` after the evaluator decided it."""
        self._transitions.add(1, {"reason": reason.value})
        if reason is Reason.DELIVERED_AGAIN:
            return
        self._processed.add(1)
        self._stored.record(max(0.0, seconds))
        if reason in _DEDUPLICATED:
            self._deduplicated.add(1)

    def guessed(self, *, is_right: bool) -> None:
        """Count a batch that was tried by the guess first."""
        self._guesses.add(1, {"outcome": "right" if is_right else "wrong"})

    def results(self, new: int, known: int) -> None:
        """Count the notifier's words."""
        self._results.add(new, {"outcome": "new"})
        self._results.add(known, {"outcome": "known"})

    def looked_up(self, *, is_hit: bool) -> None:
        """Count a read that may be answered from the cache."""
        self._cache.add(1, {"outcome": "hit" if is_hit else "miss"})

    def edited(self) -> None:
        """Count a change of a rule."""
        self._edits.add(1)

    def ended(self, alerts: int) -> None:
        """Count alerts that ended with their rule."""
        self._ended.add(alerts)

    def watch(self, name: str, unit: str, description: str, value: Callable[[], int]) -> None:
        """Show a number as it is when somebody looks."""

        def observe(_: CallbackOptions) -> list[Observation]:
            return [Observation(value())]

        meter("tocsin.manager").create_observable_gauge(
            f"tocsin.manager.{name}", callbacks=[observe], unit=unit, description=description
        )
