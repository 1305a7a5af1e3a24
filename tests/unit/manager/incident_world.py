"""What tests of incidents work on: a store and a clock, with the worker and the rpcs of incidents."""

from dataclasses import replace

from services.manager.adapters.incident_broadcaster import IncidentBroadcaster
from services.manager.core.alert_lifecycle import Ended, Fired
from services.manager.core.catalog import Catalog, CatalogChanges, ServiceEntry, StoredService
from services.manager.core.incident import Incident
from services.manager.core.incident_batch import IncidentSettings
from services.manager.core.transitions import decide
from services.manager.metrics import Metrics
from services.manager.rpc.alerts import AlertContext
from services.manager.rpc.incident_commands import IncidentCommands
from services.manager.rpc.incident_queries import watch_response
from services.manager.rpc.incidents import IncidentRpc
from services.manager.worker.incidents import IncidentWorker
from tests.fakes.clock import FakeClock
from tests.fakes.incidents import FixedRouting, MemoryIncidentReader
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import MemoryChangeReader, MemoryDedupCache
from tests.fakes.on_call import FixedOnCall
from tests.fakes.transitions import NOW, a_subject, a_transition

SETTINGS = IncidentSettings()


class FakeCatalog:
    """A catalog in which each service depends on the database."""

    def __init__(self, *services: str) -> None:
        stored = [
            StoredService(
                entry=ServiceEntry(name=name, depends_on=("database",)), revision=1, create_time=NOW, update_time=NOW
            )
            for name in services
        ]
        self.current = Catalog.of(CatalogChanges(revision=1, services=tuple(stored)))

    async def refresh(self) -> None:
        """Be as new as it gets."""


CATALOG = FakeCatalog("shop", "search")


class World:
    """A store, a clock, and what works on them."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = FakeClock(NOW)
        self.dedup_cache = MemoryDedupCache()
        self.routing = FixedRouting()
        self.on_call = FixedOnCall()
        commands = IncidentCommands(self.store, CATALOG, self.dedup_cache, self.clock, SETTINGS)
        reader = MemoryIncidentReader(self.store)
        context = AlertContext(CATALOG, MemoryChangeReader(self.store))
        self.rpc = IncidentRpc(commands, reader, IncidentBroadcaster(reader, watch_response), context)

    def worker(self, batch: int = 500) -> IncidentWorker:
        return IncidentWorker(
            self.store, CATALOG, self.routing, self.on_call, self.clock, Metrics(), settings=SETTINGS, batch=batch
        )

    async def alerts(self, kind: type[Fired] | type[Ended], *services: str) -> None:
        """Let an alert of each service fire or end."""
        for service in services:
            subject = replace(a_subject(service), labels={"service": service, "team": "a"})
            async with self.store.transaction() as transaction:
                sent = [a_transition(kind, subject=subject)]
                context = await transaction.alerts.load_for_update(sent, expected_new=())
                await transaction.transitions.insert(sent)
                _, outcomes = decide(context, sent, NOW)
                await transaction.alerts.save([(change, ()) for outcome in outcomes for change in outcome.changes])

    def incidents(self) -> list[Incident]:
        return [incident for incident, _ in self.store.tables.incidents.incidents.values()]

    def services(self) -> list[list[str]]:
        open_ones = [each for each in self.incidents() if not each.merged_into]
        return sorted(sorted(alert.service for alert in each.alerts.values()) for each in open_ones)
