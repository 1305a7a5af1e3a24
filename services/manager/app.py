"""The composition root of the manager: opens everything in order, and closes it in reverse."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from secrets import token_bytes

from grpc.aio import Channel
from uuid_utils import uuid7

from services.access.audit import AuditLog, auditing
from services.access.guarding import guarding
from services.access.key_snapshot import KeySnapshots
from services.access.methods import own_methods
from services.chassis.grpc_client import channel
from services.chassis.grpc_server import Mount, grpc_server
from services.chassis.health import Health, admin_server
from services.chassis.kafka import DeadLetterPublisher, consuming, producer
from services.chassis.lifecycle import serving
from services.chassis.loops import Loop, looping
from services.chassis.outbox import relaying
from services.chassis.postgres import Database, connect, listen, migrate
from services.chassis.redis import RedisClient, redis_client
from services.chassis.request_ids import REQUEST_RETENTION
from services.chassis.tenants import ALL_TENANTS, as_tenant
from services.contract.dead_letters import encode_dead_letter
from services.contract.public_services import PUBLIC_SERVICES
from services.contract.topics import (
    ALERTS,
    AUDIT_GROUP,
    AUDIT_LOG,
    LOG_EVENTS_DEAD_LETTER,
    NOTIFICATION_RESULTS,
    RESULT_GROUP,
    TRANSITION_GROUP,
)
from services.domain.tenants import TenantLimits
from services.manager.adapters.broadcasters import RULE_REFRESH_INTERVAL, AlertBroadcaster, RuleBroadcaster
from services.manager.adapters.incident_broadcaster import INCIDENT_WATCH_INTERVAL, IncidentBroadcaster
from services.manager.adapters.ingest_client import IngestClient
from services.manager.adapters.key_source import StoredKeySource
from services.manager.adapters.notifier_client import NotifierClient
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
from services.manager.adapters.postgres.alert_reader import PostgresAlertReader, PostgresMatchedAlertReader
from services.manager.adapters.postgres.api_keys import PostgresApiKeyReader
from services.manager.adapters.postgres.audit import PostgresAuditReader
from services.manager.adapters.postgres.catalog import PostgresCatalogReader
from services.manager.adapters.postgres.explanations import PostgresExplanationReader
from services.manager.adapters.postgres.incidents import PostgresIncidentReader
from services.manager.adapters.postgres.learned_edges import PostgresLearnedEdgeReader
from services.manager.adapters.postgres.on_call import PostgresOnCallReader
from services.manager.adapters.postgres.reports import PostgresReportReader
from services.manager.adapters.postgres.retention import PostgresRetention
from services.manager.adapters.postgres.routing import PostgresRoutingReader
from services.manager.adapters.postgres.rule_problems import PostgresRuleProblemReader
from services.manager.adapters.postgres.rules import PostgresRuleReader, PostgresRuleStatisticsReader
from services.manager.adapters.postgres.service_changes import PostgresChangeReader
from services.manager.adapters.postgres.silences import PostgresSilenceReader
from services.manager.adapters.postgres.store import PostgresStore
from services.manager.adapters.redis import GuardedRedis, RedisDedupCache, RedisResponseCache
from services.manager.adapters.tenant_caches import (
    TenantAlertFeed,
    TenantCatalogs,
    TenantIncidentFeed,
    TenantNames,
    TenantOnCall,
    TenantRouting,
    TenantSilences,
)
from services.manager.core.canary import canary_rule
from services.manager.core.flapping import FlappingSettings
from services.manager.core.incident_batch import IncidentSettings
from services.manager.core.learned_edges import LearningSettings
from services.manager.metrics import Metrics
from services.manager.rpc.access import AccessRpc
from services.manager.rpc.alerts import AlertCommands, AlertContext, AlertRpc
from services.manager.rpc.catalog import CatalogRpc
from services.manager.rpc.catalog_commands import CatalogCommands
from services.manager.rpc.changes import ChangeRpc
from services.manager.rpc.explanations import ExplanationRpc
from services.manager.rpc.gateway_refusals import GatewayRefusalRpc
from services.manager.rpc.incident_commands import IncidentCommands
from services.manager.rpc.incident_queries import watch_response
from services.manager.rpc.incidents import IncidentRpc
from services.manager.rpc.learned_edges import LearnedEdgeRpc
from services.manager.rpc.on_call import OnCallRpc
from services.manager.rpc.on_call_commands import OnCallCommands
from services.manager.rpc.reports import ReportRpc
from services.manager.rpc.routing import RoutingContext, RoutingRpc
from services.manager.rpc.routing_commands import RoutingChecker, RoutingCommands
from services.manager.rpc.rule_commands import RuleChecker, RuleCommands
from services.manager.rpc.rule_statistics import CurrentProblems, RuleStatisticsRpc
from services.manager.rpc.rules import AlertRuleRpc
from services.manager.rpc.silence_commands import SilenceCommands
from services.manager.rpc.silences import SilenceRpc
from services.manager.settings import Settings
from services.manager.worker.audit import AuditWorker, StoredAuditSink
from services.manager.worker.canaries import CanaryWorker
from services.manager.worker.default_rules import create_default_rules
from services.manager.worker.file_routes import FileRoutesWorker
from services.manager.worker.incidents import IncidentWorker
from services.manager.worker.labels import TransitionLabels
from services.manager.worker.learning import LearningWorker
from services.manager.worker.results import ResultWorker
from services.manager.worker.retention import RetentionPolicy, RetentionWorker
from services.manager.worker.rule_endings import RuleEndingWorker
from services.manager.worker.silences import SilenceWorker
from services.manager.worker.tenants import EachTenant
from services.manager.worker.transitions import TransitionWorker

SCHEMA = "manager"
MIGRATIONS = Path(__file__).parent / "migrations"

# What another instance has left undone is found after this time.
_ENDING_INTERVAL = timedelta(seconds=1)
# A NOTIFY that was lost is made up for after this time.
_REFRESH_INTERVAL = timedelta(seconds=2)
_RECONNECT_INTERVAL = timedelta(milliseconds=500)


@asynccontextmanager
async def app(settings: Settings) -> AsyncIterator[None]:
    """Manage rules and alerts until the end of the block."""
    health = Health("manager")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(admin_server(settings.process, health))
        await migrate(settings.postgres, schema=SCHEMA, scripts=MIGRATIONS)
        database = await stack.enter_async_context(
            connect(settings.postgres, schema=SCHEMA, dependency=health.dependency("postgres"))
        )
        redis = await stack.enter_async_context(
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
        mesh = await stack.enter_async_context(channel(settings.notifier_target, settings.process.tls))
        parts = _Parts(settings, database, redis, mesh, health)
        stack.callback(parts.checker.close)
        await Loop(parts.begin, name="begin", health=health).until_success()
        guard = await stack.enter_async_context(
            guarding(settings.process, parts.keys, parts.audit_sink, database.clock, health)
        )
        mounts = parts.mounts()
        if settings.process.authentication == "required":
            refused = AuditLog(parts.audit_sink, "gateway", database.clock, _new_id)
            await stack.enter_async_context(auditing(refused, health))
            mounts.append(GatewayRefusalRpc(refused.refuse, database.clock, _new_id, own_methods()).mount())
        await stack.enter_async_context(grpc_server(settings.process, mounts, health, guard, PUBLIC_SERVICES))
        # After the server, so that streams end before it stops.
        await stack.enter_async_context(parts.running())
        for topic, group, handle in (
            (ALERTS, TRANSITION_GROUP, parts.transitions.handle),
            (NOTIFICATION_RESULTS, RESULT_GROUP, parts.results.handle),
            (AUDIT_LOG, AUDIT_GROUP, parts.audit.handle),
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
                    dead_letters=DeadLetterPublisher(
                        producer=kafka, encode=encode_dead_letter, clock=database.clock, topic=LOG_EVENTS_DEAD_LETTER
                    ),
                    max_batch=settings.max_batch,
                )
            )
        if settings.canary_interval:
            ingest = await stack.enter_async_context(channel(settings.ingest_target))
            await stack.enter_async_context(looping(parts.canaries(ingest)))
        await stack.enter_async_context(serving(health, settings.process.shutdown_delay))
        yield


class _Parts:
    """The parts of one manager, which share its store, caches and broadcasters."""

    def __init__(
        self, settings: Settings, database: Database, redis: RedisClient, mesh: Channel, health: Health
    ) -> None:
        self._settings = settings
        self._health = health
        self._database = database
        self._clock = database.clock
        self.checker = RuleChecker()
        self._metrics = Metrics()
        guarded_redis = GuardedRedis(redis, self._clock)
        self._tenants = TenantNames(database)
        self._catalog = TenantCatalogs(PostgresCatalogReader(database))
        self._store = PostgresStore(database, self._catalog)
        self._dedup_cache = RedisDedupCache(guarded_redis, settings.dedup_ttl)
        self._response_cache = RedisResponseCache(guarded_redis, settings.cache_ttl, self._metrics)
        self._rule_reader = PostgresRuleReader(database)
        self._alert_reader = PostgresAlertReader(database)
        flapping = FlappingSettings(count=settings.flapping_count, span=settings.flapping_span)
        self._incident_settings = IncidentSettings(flapping=flapping)
        self._learning = LearningSettings(retention=settings.learned_edge_retention)
        unstored = (canary_rule(),) if settings.canary_interval else ()
        self._rules = RuleBroadcaster(self._rule_reader, unstored)
        self._alerts = TenantAlertFeed(
            lambda: AlertBroadcaster(self._alert_reader, self._catalog, max_resolved=settings.max_watch_backlog)
        )
        self._incident_reader = PostgresIncidentReader(database)
        self._watched_incidents = TenantIncidentFeed(
            lambda: IncidentBroadcaster(self._incident_reader, watch_response, max_resolved=settings.max_watch_backlog)
        )
        self._silence_reader = PostgresSilenceReader(database)
        self._matched_alerts = PostgresMatchedAlertReader(database)
        self._silences = TenantSilences(self._silence_reader, self._clock)
        self._on_call = TenantOnCall(PostgresOnCallReader(database))
        self._routing_reader = PostgresRoutingReader(database)
        self._routing = TenantRouting(self._routing_reader)
        self._receivers = NotifierClient(mesh, self._clock)
        self.transitions = TransitionWorker(
            self._store,
            self._dedup_cache,
            TransitionLabels(self._rules, self._catalog),
            self._silences,
            self._clock,
            self._metrics,
        )
        self.results = ResultWorker(self._store, self._metrics)
        self.audit, self.audit_sink = AuditWorker(self._store), StoredAuditSink(self._store)
        self._key_reader = PostgresApiKeyReader(database)
        self.keys = KeySnapshots(StoredKeySource(self._store, self._key_reader, self._clock))
        self._metrics.observe(
            "watchers", "{watcher}", "Callers that watch alerts in this instance.", lambda: self._alerts.watchers
        )

    async def begin(self) -> None:
        """Create the default rules, and load what is kept in memory, before the first call."""
        await self._database.sync_clock()
        await create_default_rules(self._store, _new_id, self._clock.now())
        await self._refresh_rules()
        await self._tenants.refresh()
        await EachTenant(self._tenants, lambda: self._refresh_caches).turn()
        await EachTenant(self._tenants, lambda: self._silences.refresh).turn()

    async def _refresh_rules(self) -> None:
        with as_tenant(ALL_TENANTS):
            await self._rules.refresh()

    async def _refresh_caches(self) -> None:
        await self._catalog.refresh()
        await self._routing.refresh()
        await self._on_call.refresh()
        await self.keys.refresh()

    def mounts(self) -> list[Mount]:
        problems = PostgresRuleProblemReader(self._database)
        rules = AlertRuleRpc(
            RuleCommands(
                self._store,
                self._clock,
                _new_id,
                self._metrics,
                self.checker,
                TenantLimits.parse(self._settings.tenant_rules),
            ),
            self._rule_reader,
            self._response_cache,
            self._rules,
            self._settings.heartbeat,
            CurrentProblems(problems, self._clock),
        )
        commands = AlertCommands(self._store, self._dedup_cache, self._clock, self._metrics)
        changes = PostgresChangeReader(self._database)
        context = AlertContext(self._catalog, changes)
        alerts = AlertRpc(commands, self._alert_reader, self._response_cache, self._alerts, context)
        recorded = ChangeRpc(self._store, changes, self._clock, _new_id)
        catalog = CatalogRpc(CatalogCommands(self._store, self._clock, self._catalog), self._catalog)
        incidents = IncidentRpc(
            IncidentCommands(self._store, self._catalog, self._dedup_cache, self._clock, self._incident_settings),
            self._incident_reader,
            self._watched_incidents,
        )
        learned_edges = LearnedEdgeRpc(
            self._store, PostgresLearnedEdgeReader(self._database), self._clock, self._metrics, self._learning
        )
        statistics = RuleStatisticsRpc(self._store, PostgresRuleStatisticsReader(self._database), problems, self._clock)
        silences = SilenceRpc(
            SilenceCommands(self._store, self._clock, _new_id, self._silences),
            self._silence_reader,
            self._alert_reader,
            self._matched_alerts,
            self._clock,
        )
        reports = ReportRpc(PostgresReportReader(self._database), self._clock)
        on_call = OnCallRpc(
            OnCallCommands(self._store, self._clock, _new_id, self._on_call, self._receivers),
            self._on_call,
            self._clock,
        )
        explanations = ExplanationRpc(
            self._alert_reader,
            self._incident_reader,
            self._silence_reader,
            PostgresExplanationReader(self._database),
        )
        served = (rules, alerts, statistics, catalog, learned_edges, incidents, recorded, silences, reports, on_call)
        audit = PostgresAuditReader(self._database)
        access = AccessRpc(self._store, self._key_reader, audit, self.keys, self._clock, token_bytes)
        return [each.mount() for each in (*served, explanations, self._routing_rpc(), access)]

    def _routing_rpc(self) -> RoutingRpc:
        checker = RoutingChecker(self._receivers, lambda: self._on_call.current.policies)
        context = RoutingContext(
            catalog=self._catalog,
            silences=self._silences,
            silence_reader=self._silence_reader,
            alerts=self._matched_alerts,
            on_call=self._on_call,
        )
        commands = RoutingCommands(self._store, self._routing_reader, self._clock, self._routing, checker)
        return RoutingRpc(commands, checker, self._routing_reader, self._routing, context, self._clock)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the loops; at the end close the broadcasters, which ends their streams, so that the server can stop."""
        refresh_tenants = self._loop(self._tenants.refresh, "refresh tenants", every=_REFRESH_INTERVAL)
        refresh_rules = self._loop(self._refresh_rules, "refresh rules", every=RULE_REFRESH_INTERVAL)
        apply_silences = self._each("apply silences", lambda: self._silence_worker().turn)
        refresh_caches = self._each("refresh caches", lambda: self._refresh_caches, every=_REFRESH_INTERVAL)
        file_routes = FileRoutesWorker(self._store, self._routing, self._receivers, self._clock)
        endings = RuleEndingWorker(self._store, self._dedup_cache, self._clock, self._metrics)
        end_alerts = self._each("end alerts of rules", lambda: endings.turn, every=_ENDING_INTERVAL)
        correlate = self._each("correlate alerts", lambda: self._incident_worker().turn)

        watch_incidents = self._loop(self._watched_incidents.turn, "broadcast incidents", every=INCIDENT_WATCH_INTERVAL)

        def incidents_changed(_: str) -> None:
            correlate.wake()
            watch_incidents.wake()

        def alerts_changed(alert_ids: str) -> None:
            self._alerts.mark_changed(alert_ids)
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
            self._alerts.mark_stale()
            listener.mark_working()

        listener = self._loop(
            lambda: listen(self._database, channels, connected=connected),
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
                self._each("learn dependencies", lambda: self._learning_worker().turn),
                self._loop(file_routes.turn, "store file routes"),
                self._loop(self._alerts.turn, "broadcast alerts"),
                watch_incidents,
                self._loop(self._retention().turn, "retention", every=self._settings.count_interval),
            ):
                await stack.enter_async_context(looping(loop))
            try:
                yield
            finally:
                self._rules.close()
                self._alerts.close()
                self._watched_incidents.close()

    def canaries(self, ingest: Channel) -> Loop:
        """Return what sends canaries to ingest."""
        every = self._settings.canary_interval
        worker = CanaryWorker(IngestClient(ingest), self._clock, self._metrics, _new_id, every)
        return self._loop(worker.turn, "send canaries")

    def _loop(
        self, turn: Callable[[], Awaitable[timedelta | None]], name: str, *, every: timedelta = timedelta()
    ) -> Loop:
        return Loop(turn, name=name, health=self._health, every=every)

    def _each(
        self,
        name: str,
        make: Callable[[], Callable[[], Awaitable[timedelta | None]]],
        *,
        every: timedelta = timedelta(),
    ) -> Loop:
        return self._loop(EachTenant(self._tenants, make).turn, name, every=every)

    def _silence_worker(self) -> SilenceWorker:
        return SilenceWorker(self._store, self._silences, self._matched_alerts, self._clock, self._metrics)

    def _incident_worker(self) -> IncidentWorker:
        return IncidentWorker(
            self._store,
            self._catalog,
            self._routing,
            self._on_call,
            self._clock,
            self._metrics,
            settings=self._incident_settings,
        )

    def _learning_worker(self) -> LearningWorker:
        return LearningWorker(
            self._store,
            self._clock,
            self._metrics,
            close_delay=self._settings.trace_close_delay,
            settings=self._learning,
        )

    def _retention(self) -> RetentionWorker:
        policy = RetentionPolicy(
            alerts=self._settings.retention,
            incidents=self._settings.incident_retention,
            transitions=self._settings.transition_retention,
            requests=REQUEST_RETENTION,
            changes=self._settings.change_retention,
            silences=self._settings.silence_retention,
            audit=self._settings.audit_retention,
        )
        return RetentionWorker(PostgresRetention(self._database), policy, self._clock, self._metrics)


def _new_id() -> str:
    return str(uuid7())
