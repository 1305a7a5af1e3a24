"""What the manager's rpcs and loops share: the store, readers, caches, broadcasters, and handlers of topics."""

from grpc.aio import Channel
from uuid_utils import uuid7

from services.access.key_snapshot import KeySnapshots
from services.chassis.health import Health
from services.chassis.postgres import Database
from services.chassis.redis import RedisClient
from services.chassis.tenants import ALL_TENANTS, PerTenant, as_tenant
from services.manager.adapters.broadcasters import AlertBroadcaster, RuleBroadcaster, TenantAlertFeed
from services.manager.adapters.incident_broadcaster import IncidentBroadcaster, TenantIncidentFeed
from services.manager.adapters.key_source import StoredKeySource
from services.manager.adapters.notifier_client import NotifierClient
from services.manager.adapters.postgres.alert_reader import PostgresAlertReader, PostgresMatchedAlertReader
from services.manager.adapters.postgres.api_keys import PostgresApiKeyReader
from services.manager.adapters.postgres.catalog import PostgresCatalogReader
from services.manager.adapters.postgres.incidents import PostgresIncidentReader
from services.manager.adapters.postgres.on_call import PostgresOnCallReader
from services.manager.adapters.postgres.routing import PostgresRoutingReader
from services.manager.adapters.postgres.rules import PostgresRuleReader
from services.manager.adapters.postgres.silences import PostgresSilenceReader
from services.manager.adapters.postgres.store import PostgresStore
from services.manager.adapters.redis import GuardedRedis, RedisDedupCache, RedisResponseCache
from services.manager.adapters.tenant_caches import (
    TenantCatalogs,
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
from services.manager.rpc.incident_queries import watch_response
from services.manager.rpc.rule_commands import RuleChecker
from services.manager.settings import Settings
from services.manager.worker.audit import AuditWorker, StoredAuditSink
from services.manager.worker.default_rules import create_default_rules
from services.manager.worker.incidents import IncidentWorker
from services.manager.worker.labels import TransitionLabels
from services.manager.worker.results import ResultWorker
from services.manager.worker.tenants import EachTenant
from services.manager.worker.transitions import TransitionWorker


class ManagerParts:
    """Store, caches, broadcasters and handlers of one manager."""

    def __init__(
        self, settings: Settings, database: Database, redis: RedisClient, mesh: Channel, health: Health
    ) -> None:
        self.settings = settings
        self.health = health
        self.database = database
        self.clock = database.clock
        self.checker = RuleChecker()
        self.metrics = Metrics()
        guarded_redis = GuardedRedis(redis, self.clock)
        self.tenants = TenantNames(database)
        self.catalog = TenantCatalogs(PostgresCatalogReader(database))
        self.store = PostgresStore(database, self.catalog)
        self.dedup_cache = RedisDedupCache(guarded_redis, settings.dedup_ttl)
        self.response_cache = RedisResponseCache(guarded_redis, settings.cache_ttl, self.metrics)
        self.rule_reader = PostgresRuleReader(database)
        self.alert_reader = PostgresAlertReader(database)
        flapping = FlappingSettings(count=settings.flapping_count, span=settings.flapping_span)
        self.incident_settings = IncidentSettings(flapping=flapping)
        self.learning = LearningSettings(retention=settings.learned_edge_retention)
        unstored = (canary_rule(),) if settings.canary_interval else ()
        self.rules = RuleBroadcaster(self.rule_reader, unstored)
        self.alerts = TenantAlertFeed(
            lambda: AlertBroadcaster(self.alert_reader, self.catalog, max_resolved=settings.max_watch_backlog)
        )
        self.incident_reader = PostgresIncidentReader(database)
        self.watched_incidents = TenantIncidentFeed(
            lambda: IncidentBroadcaster(self.incident_reader, watch_response, max_resolved=settings.max_watch_backlog)
        )
        self.silence_reader = PostgresSilenceReader(database)
        self.matched_alerts = PostgresMatchedAlertReader(database)
        self.silences = TenantSilences(self.silence_reader, self.clock)
        self.on_call = TenantOnCall(PostgresOnCallReader(database))
        self.routing_reader = PostgresRoutingReader(database)
        self.routing = TenantRouting(self.routing_reader)
        self.receivers = NotifierClient(mesh, self.clock)
        self.incidents = PerTenant(
            lambda: IncidentWorker(
                self.store,
                self.catalog,
                self.routing,
                self.on_call,
                self.clock,
                self.metrics,
                settings=self.incident_settings,
            )
        )
        self.transitions = TransitionWorker(
            self.store,
            self.dedup_cache,
            TransitionLabels(self.rules, self.catalog),
            self.silences,
            self.incidents,
            self.clock,
            metrics=self.metrics,
        )
        self.results = ResultWorker(self.store, self.metrics)
        self.audit, self.audit_sink = AuditWorker(self.store), StoredAuditSink(self.store)
        self.key_reader = PostgresApiKeyReader(database)
        self.keys = KeySnapshots(StoredKeySource(self.store, self.key_reader, self.clock))
        self.metrics.observe(
            "watchers", "{watcher}", "Callers that watch alerts in this instance.", lambda: self.alerts.watchers
        )

    async def begin(self) -> None:
        """Create the default rules, and load what is kept in memory, before the first call."""
        await self.database.sync_clock()
        await create_default_rules(self.store, new_id, self.clock.now())
        await self.refresh_rules()
        await self.tenants.refresh()
        await EachTenant(self.tenants, lambda: self.refresh_caches).turn()
        await EachTenant(self.tenants, lambda: self.silences.refresh).turn()

    async def refresh_rules(self) -> None:
        """Read the rules of all tenants anew where they changed."""
        with as_tenant(ALL_TENANTS):
            await self.rules.refresh()

    async def refresh_caches(self) -> None:
        """Read what is kept of the current tenant in memory anew, and the keys."""
        await self.catalog.refresh()
        await self.routing.refresh()
        await self.on_call.refresh()
        await self.keys.refresh()


def new_id() -> str:
    """Return a new id; later ones sort behind."""
    return str(uuid7())
