"""Composition root of the notifier: opens everything, and closes it in reverse."""

import os
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import structlog

from services.access.audit import TopicAuditSink
from services.access.guarding import guarding
from services.access.key_snapshot import KeySnapshots, ManagerKeySource
from services.chassis.admin_server import admin_server
from services.chassis.backoff import Backoff
from services.chassis.breaker import Breaker, BreakerState
from services.chassis.grpc_client import channel
from services.chassis.grpc_server import grpc_server
from services.chassis.health import Health
from services.chassis.kafka import DeadLetterPublisher, consuming, producer
from services.chassis.lifecycle import serving
from services.chassis.loops import Loop, background, looping
from services.chassis.migrations import prepare_schema
from services.chassis.outbox import relaying
from services.chassis.postgres import Database, connect
from services.chassis.settings import SettingsError
from services.contract.dead_letters import encode_dead_letter
from services.contract.public_services import PUBLIC_SERVICES
from services.contract.record_tenants import tenant_reader
from services.contract.topics import LOG_EVENTS_DEAD_LETTER, NOTIFICATION_GROUP, NOTIFICATIONS
from services.domain.tenants import TenantLimits
from services.notifier.adapters.channels.renewal import renewed_channel
from services.notifier.adapters.postgres.bundles import PostgresBundles
from services.notifier.adapters.postgres.deliveries import PostgresDeliveryPlans
from services.notifier.adapters.postgres.delivery_log import PostgresDeliveryLog, PostgresFailedDeliveries
from services.notifier.adapters.postgres.outcomes import PostgresDeliveryOutcomes
from services.notifier.adapters.postgres.queue import QUEUE_SESSION, PostgresDeliveryQueue
from services.notifier.adapters.postgres.retention import PURGE_INTERVAL, PostgresRetention
from services.notifier.core.channels import ChannelSpec
from services.notifier.core.routes_file import RoutesError
from services.notifier.core.routing import Routes
from services.notifier.metrics import Metrics
from services.notifier.ports import Channel
from services.notifier.rpc import NotificationRpc
from services.notifier.settings import BREAKER_MARGIN, RoutesSource, Settings, lease_of
from services.notifier.worker.dispatcher import Dispatcher, Dispatchers
from services.notifier.worker.intake import NotificationIntake
from services.notifier.worker.recovery import fail_removed_channels, release_own_leases
from services.notifier.worker.sender import Sender
from services.redaction.named_texts import RedactTexts
from services.redaction.settings import read_patterns
from tocsin.notifications.v1.notification_pb2 import Notification

log = structlog.get_logger()

SCHEMA = "notifier"
MIGRATIONS = Path(__file__).parent / "migrations"

# Of results, which histories and escalations read; nobody waits for one.
_RESULTS_LINGER = timedelta(milliseconds=250)
_SECRETS_INTERVAL = timedelta(seconds=1)
# How often is looked whether a bundle is due; a bundle waits for a minute at least.
_BUNDLE_INTERVAL = timedelta(seconds=5)
_MAX_DATABASE_DELAY = timedelta(seconds=1)


@asynccontextmanager
async def app(settings: Settings) -> AsyncIterator[None]:
    """Deliver notifications until the end of the block."""
    health = Health("notifier")
    source = _routes(settings)
    routes = source.routes
    redact = chosen_text_redact(settings)
    if not routes.routes:
        log.warning("file_routes_absent", effect="notifications that name no receivers reach nobody")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(admin_server(settings.process, health))
        await prepare_schema(settings.postgres, schema=SCHEMA, scripts=MIGRATIONS)
        # Channels work for whoever they belong to; people are shown what is their tenant's.
        database = await stack.enter_async_context(
            connect(
                settings.postgres,
                schema=SCHEMA,
                dependency=health.dependency("postgres"),
                serves_all=True,
                session=QUEUE_SESSION,
            )
        )
        shown = await stack.enter_async_context(connect(settings.postgres, schema=SCHEMA))
        kafka = await stack.enter_async_context(
            producer(
                settings.kafka,
                f"notifier-{settings.process.instance}",
                dependency=health.dependency("kafka", required=False),
            )
        )
        await stack.enter_async_context(relaying(database, kafka, health, linger=_RESULTS_LINGER))
        parts = _Parts(settings, routes, database, health, redact)
        await Loop(parts.recover, name="recover", health=health).until_success()
        mesh = await stack.enter_async_context(channel(settings.manager_target, settings.process.tls))
        keys, sink = KeySnapshots(ManagerKeySource(mesh)), TopicAuditSink(kafka)
        guard = await stack.enter_async_context(guarding(settings.process, keys, sink, parts.clock, health))
        await stack.enter_async_context(
            grpc_server(settings.process, [parts.rpc(shown).mount()], health, guard, PUBLIC_SERVICES)
        )
        await stack.enter_async_context(looping(_renewing(source, health)))
        for spec in routes.channels.values():
            await stack.enter_async_context(_dispatching(parts, spec, source))
        retention = PostgresRetention(database, database.clock, retention=settings.retention)
        await stack.enter_async_context(looping(parts.bundling()))
        purge = Loop(retention.purge, name="purge", health=health, every=PURGE_INTERVAL)
        await stack.enter_async_context(looping(purge))
        await stack.enter_async_context(
            consuming(
                settings.kafka,
                topic=NOTIFICATIONS,
                group=NOTIFICATION_GROUP,
                handle=parts.intake().handle,
                dependency=health.dependency("kafka"),
                health=health,
                instance=settings.process.instance,
                dead_letters=DeadLetterPublisher(
                    producer=kafka, encode=encode_dead_letter, clock=database.clock, topic=LOG_EVENTS_DEAD_LETTER
                ),
                max_batch=settings.max_batch,
                tenant_of=tenant_reader(Notification),
            )
        )
        await stack.enter_async_context(serving(health, settings.process.shutdown_delay))
        yield


@asynccontextmanager
async def _dispatching(parts: "_Parts", spec: ChannelSpec, source: RoutesSource) -> AsyncIterator[None]:
    """Send through one channel; on the way out finish what is being sent."""
    async with renewed_channel(spec, parts.clock, lambda: source.routes.channels[spec.name]) as channel:
        dispatcher = parts.dispatcher(spec, channel)
        stop_timeout = spec.timeout + BREAKER_MARGIN
        async with background(
            dispatcher.run(), name=f"channel {spec.name}", stop=dispatcher.stop, stop_timeout=stop_timeout
        ):
            yield


def _renewing(source: RoutesSource, health: Health) -> Loop:
    """Return the loop that reads files with secrets again when they change."""

    async def refresh() -> None:
        source.refresh()

    return Loop(refresh, name="renew secrets", health=health, every=_SECRETS_INTERVAL)


def _routes(settings: Settings) -> RoutesSource:
    try:
        # The routes file itself names the variables that hold its secrets, so no setting can.
        return RoutesSource(settings.routes, os.environ)  # noqa: TID251
    except RoutesError as invalid:
        raise SettingsError([f"{settings.routes}: {problem}" for problem in invalid.problems]) from None


def chosen_text_redact(settings: Settings) -> RedactTexts | None:
    """Return what masks secrets, None where nothing does; load and compile only what the settings name."""
    if not settings.redact and not settings.redact_patterns_file:
        return None
    # Hyperscan and RE2 take 20 MB and a tenth of a second.
    from services.redaction.text_redactor import TextRedactor  # noqa: PLC0415

    return TextRedactor(settings.redact, read_patterns(settings.redact_patterns_file)).redact


class _Parts:
    """What the notifier is made of, between its servers."""

    def __init__(
        self, settings: Settings, routes: Routes, database: Database, health: Health, redact: RedactTexts | None
    ) -> None:
        self._settings = settings
        self._redact = redact
        self._health = health
        self._routes = routes
        self.clock = database.clock
        self._database = database
        self._policy = settings.delivery.retry_policy
        self._dispatchers = Dispatchers()
        instance = settings.process.instance
        self._queue = PostgresDeliveryQueue(database, instance=instance, lease=lease_of(settings.lease, routes))
        self._outcomes = PostgresDeliveryOutcomes(
            database, instance=instance, fallbacks=routes.fallbacks, probe_interval=self._policy.probe_interval
        )
        self._metrics = Metrics(list(routes.channels), lambda: self._dispatchers.circuits)
        self._limits = TenantLimits.parse(settings.tenant_notifications_per_hour)

    async def recover(self) -> None:
        """Do what comes before anything is leased."""
        await self._database.sync_clock()
        await release_own_leases(self._queue, self.clock)
        await self._fail_removed_channels()

    async def _fail_removed_channels(self) -> None:
        channels = self._routes.channels.keys()
        await fail_removed_channels(channels, self._queue, self._outcomes, self._policy, self.clock)

    def dispatcher(self, spec: ChannelSpec, channel: Channel) -> Dispatcher:
        """Create the dispatcher of one channel, with a breaker and a pool of its own."""
        delivery = self._settings.delivery
        breaker = Breaker(
            spec.name,
            fail_max=delivery.breaker_fail_max,
            reset_timeout=delivery.breaker_reset,
            first_reset_timeout=delivery.breaker_first_reset,
            clock=self.clock,
            on_change=_log_breaker,
            timeout=spec.timeout + BREAKER_MARGIN,
        )
        sender = Sender(
            channel=channel,
            recipient=spec.settings.recipient,
            breaker=breaker,
            outcomes=self._outcomes,
            policy=self._policy,
            clock=self.clock,
            random=random.random,
            metrics=self._metrics,
            wake=self._dispatchers.wake,
            backoff=Backoff(max_delay=_MAX_DATABASE_DELAY),
            redact=self._redact,
        )
        dispatcher = Dispatcher(spec.name, workers=spec.workers, queue=self._queue, sender=sender, health=self._health)
        self._dispatchers.add(dispatcher)
        return dispatcher

    def bundling(self) -> Loop:
        """Create the loop that sends what tenants' limits hold, in bundles."""
        bundles = PostgresBundles(
            self._database, limits=self._limits, new_id=uuid4, on_waiting=self._metrics.held_waiting
        )

        removed: set[str] = set()

        async def turn() -> None:
            channels = await bundles.send_due(now=self.clock.now())
            self._dispatchers.wake(channels)
            # What was held outlives its channel.
            removed.update(channels - self._routes.channels.keys())
            if removed:
                await self._fail_removed_channels()
                removed.clear()

        return Loop(turn, name="bundle", health=self._health, every=_BUNDLE_INTERVAL)

    def intake(self) -> NotificationIntake:
        """Create the handler of the topic `notifications`."""
        return NotificationIntake(
            routes=self._routes,
            plans=PostgresDeliveryPlans(
                self._database, channels=self._routes.channels, limits=self._limits, on_held=self._metrics.held
            ),
            clock=self.clock,
            metrics=self._metrics,
            wake=self._dispatchers.wake,
        )

    def rpc(self, database: Database) -> NotificationRpc:
        deliveries, failed = PostgresDeliveryLog(database), PostgresFailedDeliveries(database)
        fail_max = self._settings.delivery.breaker_fail_max
        return NotificationRpc(
            deliveries, failed, self._dispatchers, self.clock, routes=self._routes, fail_max=fail_max
        )


def _log_breaker(channel: str, state: BreakerState) -> None:
    log.warning("breaker_changed", channel=channel, state=state.value)
