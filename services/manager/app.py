"""Where the manager is put together, and what is opened is closed in reverse."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

from uuid_utils import uuid7

from services.chassis.grpc_server import Mount, grpc_server
from services.chassis.health import Health, admin_server
from services.chassis.kafka import DeadLetterPublisher, consuming, producer
from services.chassis.lifecycle import serving
from services.chassis.loops import Loop, looping
from services.chassis.outbox import relaying
from services.chassis.postgres import Database, connect, listen, migrate
from services.chassis.redis import RedisClient, redis_client
from services.contract.dead_letters import encode_dead_letter
from services.contract.topics import (
    ALERTS,
    LOG_EVENTS_DEAD_LETTER,
    NOTIFICATION_RESULTS,
    RESULT_GROUP,
    TRANSITION_GROUP,
)
from services.manager.adapters.feeds.alerts import AlertHub
from services.manager.adapters.feeds.rules import LOOK, RuleHub
from services.manager.adapters.postgres import ALERTS_CHANGED, RULE_ENDED, RULES_CHANGED
from services.manager.adapters.postgres.alert_reader import PostgresAlertReader
from services.manager.adapters.postgres.house import PostgresHouse
from services.manager.adapters.postgres.requests import KEPT_FOR
from services.manager.adapters.postgres.rule_reader import PostgresRuleReader
from services.manager.adapters.postgres.store import PostgresStore
from services.manager.adapters.redis.answers import RedisAnswers
from services.manager.adapters.redis.asking import Asking
from services.manager.adapters.redis.claims import RedisClaims
from services.manager.metrics import Metrics
from services.manager.rpc.alert_commands import AlertCommands
from services.manager.rpc.alert_queries import AlertQueries
from services.manager.rpc.alerts import Alerts
from services.manager.rpc.rule_checking import RuleChecker
from services.manager.rpc.rule_commands import RuleCommands
from services.manager.rpc.rule_queries import RuleQueries
from services.manager.rpc.rules import AlertRules
from services.manager.rpc.seeding import sow_default_rules
from services.manager.settings import Settings
from services.manager.worker import results, transitions
from services.manager.worker.ending import EndingWorker
from services.manager.worker.housekeeping import Housekeeper, Rhythm
from tocsin.alerts.v1 import alert_service_pb2, alert_service_pb2_grpc
from tocsin.rules.v1 import alert_rule_service_pb2, alert_rule_service_pb2_grpc

SCHEMA = "manager"
MIGRATIONS = Path(__file__).parent / "migrations"

_SWEEP = timedelta(hours=1)
# What another instance has left is taken up after this long.
_LOOK_FOR_ENDINGS = timedelta(seconds=1)
_LISTEN_AGAIN = timedelta(milliseconds=500)


@asynccontextmanager
async def manager(settings: Settings) -> AsyncIterator[None]:
    """Keep rules and alerts until the end of the block."""
    health = Health("manager")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(admin_server(settings.process.admin_listen, health))
        await migrate(settings.postgres, schema=SCHEMA, scripts=MIGRATIONS)
        database = await stack.enter_async_context(
            connect(settings.postgres, schema=SCHEMA, dependency=health.dependency("postgres"))
        )
        cache = await stack.enter_async_context(
            redis_client(settings.redis, health.dependency("redis", required=False))
        )
        kafka = await stack.enter_async_context(
            producer(
                settings.kafka,
                f"manager-{settings.process.instance}",
                dependency=health.dependency("kafka", required=False),
            )
        )
        await stack.enter_async_context(relaying(database, kafka, health))
        parts = _Parts(settings, database, cache, health)
        stack.callback(parts.checker.close)
        await Loop(parts.begin, name="begin", health=health).until_success()
        await stack.enter_async_context(grpc_server(settings.process, parts.mounts(), health))
        await stack.enter_async_context(parts.following())
        dead_letters = DeadLetterPublisher(
            producer=kafka, encode=encode_dead_letter, clock=parts.clock, topic=LOG_EVENTS_DEAD_LETTER
        )
        for topic, group, handle in (
            (ALERTS, TRANSITION_GROUP, parts.transitions.handle),
            (NOTIFICATION_RESULTS, RESULT_GROUP, parts.results.handle),
        ):
            await stack.enter_async_context(
                consuming(
                    settings.kafka,
                    topic=topic,
                    group=group,
                    handle=handle,
                    dependency=health.dependency("kafka", required=False),
                    health=health,
                    instance=settings.process.instance,
                    dead_letters=dead_letters,
                    max_batch=settings.max_batch,
                )
            )
        await stack.enter_async_context(serving(health, settings.process.shutdown_delay))
        yield


class _Parts:
    """What the manager is made of, between its servers."""

    def __init__(self, settings: Settings, database: Database, cache: RedisClient, health: Health) -> None:
        self._settings = settings
        self._health = health
        self._database = database
        self.clock = database.clock
        self.checker = RuleChecker()
        self._metrics = Metrics()
        asking = Asking(cache, self.clock)
        self._store = PostgresStore(database)
        self._claims = RedisClaims(asking, settings.claim_ttl)
        self._answers = RedisAnswers(asking, settings.cache_ttl, self._metrics)
        self._rule_reader = PostgresRuleReader(database)
        self._alert_reader = PostgresAlertReader(database)
        self._rules = RuleHub(self._rule_reader)
        self._alerts = AlertHub(self._alert_reader, limit=settings.follower_limit)
        self.transitions = transitions.TransitionWorker(self._store, self._claims, self.clock, self._metrics)
        self._endings = EndingWorker(self._store, self._claims, self.clock, self._metrics)
        self.results = results.ResultWorker(self._store, self._metrics)
        self._metrics.watch(
            "followers", "{follower}", "Callers that follow alerts in this instance.", lambda: self._alerts.followers
        )

    async def begin(self) -> None:
        """What must be there before the first caller."""
        await self._database.sync_clock()
        await sow_default_rules(self._store, _new_id, self.clock.now())
        await self._rules.load()

    def mounts(self) -> list[Mount]:
        """The two public services."""
        rules = AlertRules(
            RuleCommands(self._store, self.clock, _new_id, self._metrics, self.checker),
            RuleQueries(self._rule_reader, self._answers, self._rules, self._settings.sign_of_life, self.checker),
        )
        alerts = Alerts(
            AlertCommands(self._store, self._claims, self.clock),
            AlertQueries(self._alert_reader, self._answers, self._alerts),
        )
        return [
            Mount(
                alert_rule_service_pb2.DESCRIPTOR.services_by_name["AlertRuleService"].full_name,
                lambda server: alert_rule_service_pb2_grpc.add_AlertRuleServiceServicer_to_server(rules, server),
            ),
            Mount(
                alert_service_pb2.DESCRIPTOR.services_by_name["AlertService"].full_name,
                lambda server: alert_service_pb2_grpc.add_AlertServiceServicer_to_server(alerts, server),
            ),
        ]

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follow what any instance commits; at the end send away those who follow us, so that the server can stop."""
        follow_rules = Loop(self._rules.load, name="follow rules", health=self._health, every=LOOK)
        end_alerts = Loop(self._endings.turn, name="end alerts of rules", health=self._health, every=_LOOK_FOR_ENDINGS)
        channels: dict[str, Callable[[str], None]] = {
            RULES_CHANGED: lambda _: follow_rules.wake(),
            ALERTS_CHANGED: self._alerts.wake,
            RULE_ENDED: lambda _: end_alerts.wake(),
        }

        def connected() -> None:
            follow_rules.wake()
            self._alerts.missed()
            listening.mark_working()

        listening = Loop(
            lambda: listen(self._database, channels, connected=connected),
            name="listen to postgres",
            health=self._health,
            every=_LISTEN_AGAIN,
        )

        loops = (
            listening,
            follow_rules,
            end_alerts,
            Loop(self._alerts.turn, name="follow alerts", health=self._health),
            Loop(self._keeper().turn, name="housekeeping", health=self._health, every=self._settings.look),
        )
        async with AsyncExitStack() as stack:
            for loop in loops:
                await stack.enter_async_context(looping(loop))
            try:
                yield
            finally:
                self._rules.close()
                self._alerts.close()

    def _keeper(self) -> Housekeeper:
        rhythm = Rhythm(
            sweep=_SWEEP,
            keep_alerts=self._settings.retention,
            keep_transitions=self._settings.keep_transitions,
            keep_requests=KEPT_FOR,
        )
        return Housekeeper(PostgresHouse(self._database), rhythm, self.clock, self._metrics)


def _new_id() -> str:
    return str(uuid7())
