"""Count what is stored, for the metrics, and purge rows that have expired."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from services.chassis.clock import Clock
from services.manager.metrics import Metrics
from services.manager.ports.readers import RetentionCutoffs, RetentionStore, RowCounts

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """How long rows are kept, and how often expired ones are purged."""

    alerts: timedelta
    incidents: timedelta
    transitions: timedelta
    requests: timedelta
    changes: timedelta
    silences: timedelta
    audit: timedelta
    purge_interval: timedelta = timedelta(hours=1)

    def cutoffs(self, now: datetime) -> RetentionCutoffs:
        """Return the times before which rows have expired."""
        return RetentionCutoffs(
            alerts=now - self.alerts,
            incidents=now - self.incidents,
            transitions=now - self.transitions,
            requests=now - self.requests,
            changes=now - self.changes,
            silences=now - self.silences,
            audit=now - self.audit,
        )


class RetentionWorker:
    """Counts each turn, and purges when it is time."""

    def __init__(self, store: RetentionStore, policy: RetentionPolicy, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._policy = policy
        self._clock = clock
        self._counts = RowCounts()
        self._purged_at = float("-inf")
        metrics.observe("rules", "{rule}", "Alert rules.", lambda: self._counts.rules)
        metrics.observe("rules.enabled", "{rule}", "Enabled alert rules.", lambda: self._counts.enabled_rules)
        metrics.observe("alerts.open", "{alert}", "Alerts that are not resolved.", lambda: self._counts.open_alerts)
        metrics.observe(
            "outbox.depth", "{record}", "Notifications not yet published to Kafka.", lambda: self._counts.outbox
        )

    async def turn(self) -> None:
        """Count once, and purge all that has expired if the interval has passed."""
        self._counts = await self._store.count()
        if self._clock.monotonic() - self._purged_at < self._policy.purge_interval.total_seconds():
            return
        cutoffs, purged = self._policy.cutoffs(self._clock.now()), 0
        while batch := await self._store.purge(cutoffs):
            purged += batch
        self._purged_at = self._clock.monotonic()
        log.info("rows_purged", rows=purged)
