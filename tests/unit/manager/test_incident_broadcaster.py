"""What watchers of incidents are sent when something goes wrong in between."""

import asyncio
from collections.abc import Sequence

import pytest

from services.chassis.failures import Overloaded, ShuttingDown, StoreUnavailable
from services.manager.adapters.incident_broadcaster import IncidentBroadcaster
from services.manager.core.incident import Incident, IncidentSummary
from services.manager.core.incident_changes import open_incident, resolve_incident
from services.manager.core.incident_log import WatchedIncidents
from services.manager.ports.feeds import IncidentSubscription
from services.manager.rpc.incident_queries import watch_response
from tests.fakes.incidents import MemoryIncidentReader
from tests.fakes.manager import MemoryStore
from tests.fakes.transitions import NOW
from tests.unit.manager.test_incident_queries import alert
from tocsin.incidents.v1.incident_service_pb2 import WatchIncidentsResponse

ALL = WatchedIncidents()


class FlakyIncidents(MemoryIncidentReader):
    """Fails as often as a test asks."""

    failures = 0
    reads = 0

    async def list_changed(self, revision: int, *, open_only: bool) -> Sequence[tuple[int, IncidentSummary]]:
        self.reads += 1
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("away")
        return await super().list_changed(revision, open_only=open_only)


class World:
    """Stored incidents, and a broadcaster that reads them."""

    def __init__(self, *, max_resolved: int = 10) -> None:
        self.store = MemoryStore()
        self.reader = FlakyIncidents(self.store)
        self.broadcaster = IncidentBroadcaster(self.reader, watch_response, max_resolved=max_resolved)
        for name in "ab":
            self.put(open_incident(alert(name, {}), now=NOW).incident)

    def put(self, incident: Incident) -> None:
        rows = self.store.tables.incidents
        rows.revision += 1
        rows.incidents[incident.alerts[incident.cause].id] = incident, rows.revision

    def resolve(self, name: str) -> None:
        incident, _ = self.store.tables.incidents.incidents[name]
        self.put(resolve_incident(incident, actor="ann", comment="", now=NOW).incident)


def taken(subscription: IncidentSubscription) -> list[tuple[str, str]]:
    sent = [WatchIncidentsResponse.FromString(raw).incident for raw in subscription.take()]
    return [(each.cause_alert_id, each.resolved_by) for each in sent]


async def test_a_watcher_is_sent_the_open_incidents_and_each_change() -> None:
    world = World()
    world.resolve("a")
    async with world.broadcaster.subscribe(ALL) as subscription:
        assert world.broadcaster.watchers == 1
        assert taken(subscription) == [("b", "")]
        world.resolve("b")
        await world.broadcaster.turn()
        await subscription.wait()
        assert taken(subscription) == [("b", "ann")]
    assert world.broadcaster.watchers == 0


async def test_without_watchers_and_without_changes_nothing_is_read() -> None:
    world = World()
    await world.broadcaster.turn()
    assert world.reader.reads == 0
    async with world.broadcaster.subscribe(ALL), world.broadcaster.subscribe(ALL):
        await world.broadcaster.turn()
        assert world.reader.reads == 1
    async with world.broadcaster.subscribe(ALL):
        assert world.reader.reads == 2


async def test_what_could_not_be_read_is_read_in_the_next_turn() -> None:
    world = World()
    world.reader.failures = 1
    with pytest.raises(StoreUnavailable):
        async with world.broadcaster.subscribe(ALL):
            pass
    async with world.broadcaster.subscribe(ALL) as subscription:
        assert len(taken(subscription)) == 2
        world.resolve("a")
        world.reader.failures = 1
        with pytest.raises(StoreUnavailable):
            await world.broadcaster.turn()
        await world.broadcaster.turn()
        assert taken(subscription) == [("a", "ann")]


async def test_the_stream_of_a_slow_watcher_is_ended_with_a_hint() -> None:
    world = World(max_resolved=1)
    async with world.broadcaster.subscribe(ALL) as slow:
        for name in "ab":
            world.resolve(name)
        await world.broadcaster.turn()
        with pytest.raises(Overloaded):
            slow.take()


async def test_streams_are_ended_when_the_database_was_restored_from_a_backup() -> None:
    world = World()
    async with world.broadcaster.subscribe(ALL) as subscription:
        taken(subscription)
        world.store.tables.incidents.revision = 1
        await world.broadcaster.turn()
        with pytest.raises(StoreUnavailable):
            await subscription.wait()
        async with world.broadcaster.subscribe(ALL) as again:
            assert len(taken(again)) == 2


async def test_streams_are_ended_when_the_instance_stops() -> None:
    world = World()
    async with world.broadcaster.subscribe(ALL) as subscription:
        waiting = asyncio.create_task(subscription.wait())
        await asyncio.sleep(0)
        world.broadcaster.close()
        with pytest.raises(ShuttingDown):
            await waiting
    with pytest.raises(ShuttingDown):
        async with world.broadcaster.subscribe(ALL):
            pass
