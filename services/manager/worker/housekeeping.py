"""What is looked after from time to time: numbers to show, and rows that have served their time."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from services.chassis.clock import Clock
from services.manager.metrics import Metrics
from services.manager.ports.housekeeping import Cutoffs, Figures, House

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """How often, and how long things are kept."""

    sweep: timedelta
    keep_alerts: timedelta
    keep_transitions: timedelta
    keep_requests: timedelta

    def cutoffs(self, now: datetime) -> Cutoffs:
        """The moments before which things have served their time."""
        return Cutoffs(
            alerts=now - self.keep_alerts,
            transitions=now - self.keep_transitions,
            requests=now - self.keep_requests,
        )


class Housekeeper:
    """Counts and sweeps, a turn at a time."""

    def __init__(self, house: House, rhythm: Rhythm, clock: Clock, metrics: Metrics) -> None:
        self._house = house
        self._rhythm = rhythm
        self._clock = clock
        self._figures = Figures()
        self._swept = float("-inf")
        metrics.watch("rules", "{rule}", "Alert rules.", lambda: self._figures.rules)
        metrics.watch("rules.enabled", "{rule}", "Enabled alert rules.", lambda: self._figures.enabled_rules)
        metrics.watch("alerts.open", "{alert}", "Alerts that are not resolved.", lambda: self._figures.open_alerts)
        metrics.watch(
            "outbox.depth", "{record}", "Notifications not yet handed to Kafka.", lambda: self._figures.outbox
        )

    async def turn(self) -> None:
        """Look once, and sweep when it is time."""
        self._figures = await self._house.figures()
        if self._clock.monotonic() - self._swept < self._rhythm.sweep.total_seconds():
            return
        cutoffs, removed = self._rhythm.cutoffs(self._clock.now()), 0
        while portion := await self._house.sweep(cutoffs):
            removed += portion
        self._swept = self._clock.monotonic()
        log.info("rows_swept", rows=removed)
