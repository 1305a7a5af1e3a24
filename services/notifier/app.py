"""Where the notifier is put together, and what is opened is closed in reverse."""

import os
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import structlog

from services.chassis.backoff import Backoff
from services.chassis.breaker import Breaker, BreakerState
from services.chassis.clock import Clock
from services.chassis.grpc_server import grpc_server
from services.chassis.health import Health, admin_server
from services.chassis.kafka import DeadLetterPublisher, consuming, producer
from services.chassis.lifecycle import serving
from services.chassis.loops import Loop, background, looping
from services.chassis.outbox import relaying
from services.chassis.postgres import Database, connect, migrate
from services.chassis.settings import SettingsError
from services.contract.dead_letters import encode_dead_letter
from services.contract.topics import LOG_EVENTS_DEAD_LETTER, NOTIFICATION_GROUP, NOTIFICATIONS
from services.notifier.adapters.archive import PostgresArchive
from services.notifier.adapters.channels.making import open_channel
from services.notifier.adapters.failed import PostgresFailedOnes
from services.notifier.adapters.outcomes import PostgresOutcomes
from services.notifier.adapters.plans import PostgresPlans
from services.notifier.adapters.queue import PostgresQueue
from services.notifier.adapters.routes import load_routes
from services.notifier.core.channel import ChannelSpec
from services.notifier.core.dispatch import Door
from services.notifier.core.routes_file import RoutesError
from services.notifier.core.routing import Routes
from services.notifier.metrics import Metrics
from services.notifier.ports import Channel
from services.notifier.rpc import NotificationRpc
from services.notifier.settings import Settings
from services.notifier.worker.dispatching import Dispatcher, Switchboard
from services.notifier.worker.housekeeping import EVERY, forget
from services.notifier.worker.intake import Intake
from services.notifier.worker.leftovers import give_up_unknown
from services.notifier.worker.sending import Sender, door_of

log = structlog.get_logger()

SCHEMA = "notifier"
MIGRATIONS = Path(__file__).parent / "migrations"

# A breaker's own time-out is the last resort behind the channel's.
_LAST_RESORT = timedelta(seconds=2)
_DATABASE_PAUSE = timedelta(seconds=1)


@asynccontextmanager
async def notifier(settings: Settings) -> AsyncIterator[None]:
    """Deliver notifications until the end of the block."""
    health = Health("notifier")
    routes = _routes(settings)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(admin_server(settings.process.admin_listen, health))
        await migrate(settings.postgres, schema=SCHEMA, scripts=MIGRATIONS)
        database = await stack.enter_async_context(
            connect(settings.postgres, schema=SCHEMA, dependency=health.dependency("postgres"))
        )
        kafka = await stack.enter_async_context(
            producer(
                settings.kafka,
                f"notifier-{settings.process.instance}",
                dependency=health.dependency("kafka", required=False),
            )
        )
        await stack.enter_async_context(relaying(database, kafka, health))
        clock = database.clock
        parts = _Parts(settings, routes, database, health)
        await Loop(parts.recover, name="recover", health=health).until_success()
        for spec in routes.channels.values():
            await stack.enter_async_context(_running(parts, spec, clock))
        tidy = partial(forget, PostgresArchive(database), clock, settings.retention)
        await stack.enter_async_context(looping(Loop(tidy, name="housekeeping", health=health, every=EVERY)))
        await stack.enter_async_context(grpc_server(settings.process, [parts.rpc().mount()], health))
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
                    producer=kafka, encode=encode_dead_letter, clock=clock, topic=LOG_EVENTS_DEAD_LETTER
                ),
                max_batch=settings.max_batch,
            )
        )
        await stack.enter_async_context(serving(health, settings.process.shutdown_delay))
        yield


@asynccontextmanager
async def _running(parts: "_Parts", spec: ChannelSpec, clock: Clock) -> AsyncIterator[None]:
    """Send through one channel; on the way out what is being sent is finished."""
    async with open_channel(spec, clock) as channel:
        dispatcher = parts.dispatcher(spec, channel)
        within = spec.timeout + _LAST_RESORT
        async with background(dispatcher.run(), name=f"channel {spec.name}", stop=dispatcher.stop, stop_timeout=within):
            yield


def _routes(settings: Settings) -> Routes:
    try:
        # The routes file itself names the variables that hold its secrets, so no setting can.
        return load_routes(settings.routes, os.environ)  # noqa: TID251
    except RoutesError as invalid:
        raise SettingsError([f"{settings.routes}: {problem}" for problem in invalid.problems]) from None


class _Parts:
    """What the pieces of one notifier share, and how they are made of it."""

    def __init__(self, settings: Settings, routes: Routes, database: Database, health: Health) -> None:
        self._settings = settings
        self._health = health
        self._routes = routes
        self._clock = database.clock
        self._database = database
        self._patience = settings.delivery.patience
        self._switchboard = Switchboard()
        instance = settings.process.instance
        self._queue = PostgresQueue(database, instance=instance, lease=settings.lease)
        self._outcomes = PostgresOutcomes(
            database, instance=instance, fallbacks=routes.fallbacks, reset_timeout=self._patience.reset_timeout
        )
        self._metrics = Metrics(list(routes.channels), self._doors)

    async def recover(self) -> None:
        """Take up what an earlier life of this instance left; before anything else is taken."""
        await self._database.sync_clock()
        reclaimed = await self._queue.reclaim(now=self._clock.now())
        log.info("leases_reclaimed", deliveries=reclaimed)
        known = frozenset(self._routes.channels)
        await give_up_unknown(known, self._queue, self._outcomes, self._patience, self._clock)

    def dispatcher(self, spec: ChannelSpec, channel: Channel) -> Dispatcher:
        """The bulkhead of one channel."""
        delivery = self._settings.delivery
        breaker = Breaker(
            spec.name,
            fail_max=delivery.breaker_fail_max,
            reset_timeout=delivery.breaker_reset,
            clock=self._clock,
            on_change=_note_breaker,
            timeout=spec.timeout + _LAST_RESORT,
        )
        sender = Sender(
            channel=channel,
            breaker=breaker,
            outcomes=self._outcomes,
            patience=self._patience,
            clock=self._clock,
            chance=random.random,
            metrics=self._metrics,
            wake=self._switchboard.wake,
            backoff=Backoff(max_delay=_DATABASE_PAUSE),
        )
        made = Dispatcher(
            spec.name,
            workers=spec.workers,
            queue=self._queue,
            sender=sender,
            breaker=breaker,
            clock=self._clock,
            metrics=self._metrics,
            health=self._health,
            backoff=Backoff(max_delay=_DATABASE_PAUSE),
            max_wait=delivery.max_wait,
        )
        self._switchboard.add(made)
        return made

    def intake(self) -> Intake:
        """The handler of the topic `notifications`."""
        return Intake(
            routes=self._routes,
            plans=PostgresPlans(self._database, channels=self._routes.channels),
            clock=self._clock,
            metrics=self._metrics,
            wake=self._switchboard.wake,
        )

    def rpc(self) -> NotificationRpc:
        """The servicer."""
        failed, fail_max = PostgresFailedOnes(self._database), self._settings.delivery.breaker_fail_max
        return NotificationRpc(failed, self._switchboard, self._clock, fail_max=fail_max)

    def _doors(self) -> Iterable[tuple[str, Door]]:
        return [(name, door_of(breaker)) for name, breaker in self._switchboard.breakers.items()]


def _note_breaker(channel: str, state: BreakerState) -> None:
    log.warning("breaker_changed", channel=channel, state=state.value)
