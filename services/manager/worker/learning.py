"""Learn dependencies: count closed traces, and decide again which learned edges count."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog

from services.chassis.clock import Clock
from services.manager.core.learned_edges import (
    LearnedChanges,
    LearningSettings,
    ServicePair,
    concerned_pairs,
    count_orders,
    learn,
)
from services.manager.metrics import Metrics
from services.manager.ports.tables import Store, Transaction

log = structlog.get_logger()

_INTERVAL = timedelta(seconds=10)
# In one transaction; and those of the same traces.
_MAX_SIGHTINGS = 2000
# Edges fade with time, also when no trace is closed. Between these times only those are looked at that traces concern,
# unless there are far too many.
_DECIDE_INTERVAL = timedelta(minutes=1)
_MAX_EXCESS = 1.1


class LearningWorker:
    """Counts some traces each turn; of several instances one at a time."""

    def __init__(
        self, store: Store, clock: Clock, metrics: Metrics, *, close_delay: timedelta, settings: LearningSettings
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        # How long after the first report of a trace others may come.
        self._close_delay = close_delay
        self._settings = settings
        self._decided_at = float("-inf")

    async def turn(self) -> timedelta:
        """Count once; return after which time to count again."""
        now = self._clock.now()
        async with self._store.transaction() as transaction:
            await transaction.learned_edges.lock()
            sightings = await transaction.traces.take_closed(now - self._close_delay, _MAX_SIGHTINGS)
            changes = await self._learn(transaction, count_orders(sightings), now)
        self._metrics.traces_counted(len({each.trace_id for each in sightings}))
        if changes.is_graph_changed:
            log.info("learned_edges_changed", written=len(changes.written), deleted=len(changes.deleted))
        return timedelta() if len(sightings) >= _MAX_SIGHTINGS else min(_INTERVAL, self._close_delay)

    async def _learn(
        self, transaction: Transaction, orders: Mapping[ServicePair, int], now: datetime
    ) -> LearnedChanges:
        edges, monotonic = transaction.learned_edges, self._clock.monotonic()
        is_due = monotonic - self._decided_at >= _DECIDE_INTERVAL.total_seconds()
        if not orders and not is_due:
            return LearnedChanges()
        if is_due or await edges.count() + len(orders) > _MAX_EXCESS * self._settings.max_edges:
            stored = await edges.load_all()
            self._decided_at = monotonic
        else:
            stored = await edges.load(concerned_pairs(orders))
        # In a thread, since there may be thousands.
        changes = await asyncio.to_thread(learn, stored, orders, self._settings, now=now)
        await edges.save(changes)
        return changes
