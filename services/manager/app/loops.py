"""The manager's loops, made of its parts, and what wakes them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from grpc.aio import Channel

from services.chassis.loops import Loop, looping
from services.chassis.postgres import listen
from services.chassis.request_ids import REQUEST_RETENTION
from services.manager.adapters.broadcasters import RULE_REFRESH_INTERVAL
from services.manager.adapters.incident_broadcaster import INCIDENT_WATCH_INTERVAL
from services.manager.adapters.ingest_client import IngestClient
from services.manager.adapters.postgres import (
    ALERTS_CHANGED,
    CATALOG_CHANGED,
    INCIDENTS_CHANGED,
    NOTIFICATIONS_EXHAUSTED,
    ON_CALL_CHANGED,
    ROUTING_CHANGED,
    RULE_ENDED,
    RULES_CHANGED,
    SILENCES_CHANGED,
    TENANTS_CHANGED,
)
from services.manager.adapters.postgres.retention import PostgresRetention
from services.manager.app.parts import ManagerParts, new_id
from services.manager.worker.canaries import CanaryWorker
from services.manager.worker.file_routes import FileRoutesWorker
from services.manager.worker.learning import LearningWorker
from services.manager.worker.retention import RetentionPolicy, RetentionWorker
from services.manager.worker.rule_endings import RuleEndingWorker
from services.manager.worker.silences import SilenceWorker
from services.manager.worker.tenants import EachTenant

# What another instance has left undone is found after this time.
_ENDING_INTERVAL = timedelta(seconds=1)
# A NOTIFY that was lost is made up for after this time.
_REFRESH_INTERVAL = timedelta(seconds=2)
_RECONNECT_INTERVAL = timedelta(milliseconds=500)


@asynccontextmanager
async def running_loops(parts: ManagerParts) -> AsyncIterator[None]:
    """Run the loops; at the end close the broadcasters, which ends their streams, so that the server can stop."""
    refresh_tenants = _loop(parts, parts.tenants.refresh, "refresh tenants", every=_REFRESH_INTERVAL)
    refresh_rules = _loop(parts, parts.refresh_rules, "refresh rules", every=RULE_REFRESH_INTERVAL)
    apply_silences = _each(parts, "apply silences", lambda: _silence_worker(parts).turn)
    refresh_caches = _each(parts, "refresh caches", lambda: parts.refresh_caches, every=_REFRESH_INTERVAL)
    file_routes = FileRoutesWorker(parts.store, parts.routing, parts.receivers, parts.clock)
    endings = RuleEndingWorker(parts.store, parts.dedup_cache, parts.clock, parts.metrics)
    end_alerts = _each(parts, "end alerts of rules", lambda: endings.turn, every=_ENDING_INTERVAL)
    correlate = _each(parts, "correlate alerts", lambda: parts.incidents.mine.turn)

    watch_incidents = _loop(parts, parts.watched_incidents.turn, "broadcast incidents", every=INCIDENT_WATCH_INTERVAL)

    def incidents_changed(_: str) -> None:
        correlate.wake()
        watch_incidents.wake()

    def alerts_changed(alert_ids: str) -> None:
        parts.alerts.mark_changed(alert_ids)
        correlate.wake()

    channels: dict[str, Callable[[str], None]] = {
        TENANTS_CHANGED: lambda _: refresh_tenants.wake(),
        RULES_CHANGED: lambda _: refresh_rules.wake(),
        SILENCES_CHANGED: lambda _: apply_silences.wake(),
        CATALOG_CHANGED: lambda _: refresh_caches.wake(),
        ROUTING_CHANGED: lambda _: refresh_caches.wake(),
        ON_CALL_CHANGED: lambda _: refresh_caches.wake(),
        ALERTS_CHANGED: alerts_changed,
        INCIDENTS_CHANGED: incidents_changed,
        NOTIFICATIONS_EXHAUSTED: lambda _: correlate.wake(),
        RULE_ENDED: lambda _: end_alerts.wake(),
    }

    def connected() -> None:
        for loop in (refresh_tenants, refresh_rules, refresh_caches, apply_silences):
            loop.wake()
        parts.alerts.mark_stale()
        listener.mark_working()

    listener = _loop(
        parts,
        lambda: listen(parts.database, channels, connected=connected),
        "listen to postgres",
        every=_RECONNECT_INTERVAL,
    )
    async with AsyncExitStack() as stack:
        for loop in (
            listener,
            refresh_tenants,
            refresh_rules,
            refresh_caches,
            apply_silences,
            end_alerts,
            correlate,
            _each(parts, "learn dependencies", lambda: _learning_worker(parts).turn),
            _loop(parts, file_routes.turn, "store file routes"),
            _loop(parts, parts.alerts.turn, "broadcast alerts"),
            watch_incidents,
            _loop(parts, _retention(parts).turn, "retention", every=parts.settings.count_interval),
        ):
            await stack.enter_async_context(looping(loop))
        try:
            yield
        finally:
            parts.rules.close()
            parts.alerts.close()
            parts.watched_incidents.close()


def canary_loop(parts: ManagerParts, ingest: Channel) -> Loop:
    """Return what sends canaries to ingest."""
    every = parts.settings.canary_interval
    worker = CanaryWorker(IngestClient(ingest), parts.clock, parts.metrics, new_id, every)
    return _loop(parts, worker.turn, "send canaries")


def _loop(
    parts: ManagerParts, turn: Callable[[], Awaitable[timedelta | None]], name: str, *, every: timedelta = timedelta()
) -> Loop:
    return Loop(turn, name=name, health=parts.health, every=every)


def _each(
    parts: ManagerParts,
    name: str,
    make: Callable[[], Callable[[], Awaitable[timedelta | None]]],
    *,
    every: timedelta = timedelta(),
) -> Loop:
    return _loop(parts, EachTenant(parts.tenants, make).turn, name, every=every)


def _silence_worker(parts: ManagerParts) -> SilenceWorker:
    return SilenceWorker(parts.store, parts.silences, parts.matched_alerts, parts.clock, parts.metrics)


def _learning_worker(parts: ManagerParts) -> LearningWorker:
    return LearningWorker(
        parts.store,
        parts.clock,
        parts.metrics,
        close_delay=parts.settings.trace_close_delay,
        settings=parts.learning,
    )


def _retention(parts: ManagerParts) -> RetentionWorker:
    policy = RetentionPolicy(
        alerts=parts.settings.retention,
        incidents=parts.settings.incident_retention,
        transitions=parts.settings.transition_retention,
        requests=REQUEST_RETENTION,
        changes=parts.settings.change_retention,
        silences=parts.settings.silence_retention,
        audit=parts.settings.audit.audit_retention,
    )
    return RetentionWorker(PostgresRetention(parts.database), policy, parts.clock, parts.metrics)
