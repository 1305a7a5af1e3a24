"""Batches of transitions in a worker on a store in memory: laws, whatever fails, and the incidents that they make."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chassis.failures import StoreUnavailable
from services.chassis.kafka import Record, UnreadableRecordError
from services.chassis.telemetry import exposition, telemetry
from services.chassis.tenants import PerTenant
from services.contract.record_tenants import tenant_reader
from services.manager.adapters.broadcasters import RuleBroadcaster
from services.manager.adapters.tenant_caches import CatalogCache, SilenceCache
from services.manager.core.alert_lifecycle import Ended, Fired
from services.manager.core.catalog import ServiceEntry, StoredService
from services.manager.core.incident import IncidentState
from services.manager.core.incident_batch import IncidentSettings
from services.manager.core.rule_edits import RuleEnding
from services.manager.core.transitions import ReceivedTransition
from services.manager.metrics import Metrics
from services.manager.worker.incidents import IncidentWorker
from services.manager.worker.labels import TransitionLabels
from services.manager.worker.transitions import TransitionWorker
from tests.fakes.clock import FakeClock
from tests.fakes.incidents import FixedRouting
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import MemoryCatalogReader, MemoryDedupCache, MemoryRuleReader, MemorySilenceReader
from tests.fakes.on_call import FixedOnCall
from tests.fakes.routing import a_stored_tree, a_tree
from tests.fakes.transitions import NOW, a_subject, a_transition
from tocsin.alerts.v1.alert_pb2 import AlertTransition


def record(transition: ReceivedTransition, offset: int = 0) -> Record:
    message = AlertTransition(
        id=transition.id,
        state=AlertTransition.FIRING if isinstance(transition.observation, Fired) else AlertTransition.RESOLVED,
        fingerprint=transition.subject.fingerprint,
        rule_id=transition.subject.rule_id,
        rule_revision=transition.evaluation.rule_revision,
        selection_revision=transition.evaluation.selection_revision,
        severity=int(transition.subject.severity),  # type: ignore[arg-type]
        resource=transition.subject.resource,
    )
    message.group["service"] = transition.subject.resource
    message.first_window_time.FromDatetime(transition.evaluation.episode)
    message.create_time.FromDatetime(transition.evaluation.time)
    return Record("alerts", 0, offset, None, message.SerializeToString(), (), 0)


@dataclass
class World:
    """A worker whose cache may be wrong and whose store may lose commits, and the one that shares incidents with it."""

    store: MemoryStore
    dedup_cache: MemoryDedupCache
    worker: TransitionWorker
    incidents: IncidentWorker
    catalog: CatalogCache
    clock: FakeClock
    routing: FixedRouting

    async def process(self, *transitions: ReceivedTransition) -> None:
        """Process as the consumer does: again until it succeeds."""
        while True:
            try:
                await self.worker.handle([record(each) for each in transitions])
            except StoreUnavailable:
                continue
            return

    async def turn(self) -> None:
        """Let what was not correlated at once be so."""
        self.store.tables.incidents.is_locked = False
        await self.incidents.turn()

    def notified(self) -> list[tuple[str, str]]:
        return sorted((each.id, each.kind.value) for each, _ in self.store.tables.outbox)


def new_world() -> World:
    store, dedup_cache = MemoryStore(), MemoryDedupCache()
    clock, metrics, catalog = FakeClock(NOW), Metrics(), CatalogCache(MemoryCatalogReader(store))
    labels = TransitionLabels(RuleBroadcaster(MemoryRuleReader(store)), catalog)
    silences, routing = SilenceCache(MemorySilenceReader(store), clock), FixedRouting()
    workers = PerTenant(
        lambda: IncidentWorker(store, catalog, routing, FixedOnCall(), clock, metrics, settings=IncidentSettings())
    )
    worker = TransitionWorker(store, dedup_cache, labels, silences, workers, clock, metrics=metrics)
    return World(store, dedup_cache, worker, workers.mine, catalog, clock, routing)


@pytest.fixture
def world() -> Iterator[World]:
    with telemetry("manager", "test", ""):
        yield new_world()


transitions = st.builds(
    lambda kind, name, episode, window, revision: a_transition(
        kind, subject=a_subject(name), episode=episode, window=episode + window, revision=revision
    ),
    st.sampled_from([Fired, Ended]),
    st.sampled_from("ab"),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(1, 2),
)
disturbances = st.sampled_from(
    ["", "", "redis forgets", "redis is stale", "redis is away", "commit is lost", "incidents are held"]
)


@given(st.lists(st.tuples(st.lists(transitions, min_size=1, max_size=4), disturbances), max_size=6))
@settings(max_examples=200, deadline=None)
def test_whatever_the_cache_answers_and_the_store_loses_the_alerts_are_the_same(
    batches: list[tuple[list[ReceivedTransition], str]],
) -> None:
    async def scenario() -> None:
        calm, disturbed = new_world(), new_world()
        await calm.turn()
        for batch, disturbance in batches:
            await calm.process(*batch)
            _disturb(disturbed, disturbance)
            await disturbed.process(*batch)
            await disturbed.turn()
        one, other = disturbed.store.tables, calm.store.tables
        assert (one.alerts, one.history) == (other.alerts, other.history)
        assert one.incidents.seen_versions == other.incidents.seen_versions
        assert one.incidents.history == other.incidents.history
        assert disturbed.notified() == calm.notified()

    asyncio.run(scenario())


def _disturb(world: World, disturbance: str) -> None:
    world.dedup_cache.is_away = disturbance == "redis is away"
    if disturbance == "redis forgets":
        world.dedup_cache.keys.clear()
    if disturbance == "redis is stale":
        world.dedup_cache.keys |= {a_subject("a").open_key, a_subject("b").open_key}
    if disturbance == "commit is lost":
        world.store.fail_commits = 2
    world.store.tables.incidents.is_locked = disturbance == "incidents are held"


@given(st.lists(transitions, max_size=12))
@settings(deadline=None)
def test_delivering_everything_twice_in_any_batches_equals_once(sent: list[ReceivedTransition]) -> None:
    async def scenario() -> None:
        once, twice = new_world(), new_world()
        for each in sent:
            await once.process(each)
        if sent:
            await twice.process(*sent, *sent)
            await twice.process(*sent)
        assert twice.store.tables.alerts == once.store.tables.alerts
        assert twice.store.tables.history == once.store.tables.history

    asyncio.run(scenario())


async def test_an_end_that_overtakes_the_ending_of_its_rule_says_which_edit_it_was(world: World) -> None:
    await world.process(a_transition())
    ending = RuleEnding(revision=2, rule_id="rule-1", comment="the rule was deleted (revision 2)")
    world.store.tables.rule_endings = {1: replace(ending, revision=1, comment="before"), 2: ending}
    await world.process(a_transition(Ended, window=1))
    comments = [entry.comment for entry in world.store.tables.history.values()]
    assert comments == ["", ending.comment]


async def test_alerts_become_incidents_in_their_own_transaction(world: World) -> None:
    await world.turn()
    await world.process(a_transition(), a_transition(subject=a_subject("other")))
    tables = world.store.tables
    assert len(tables.incidents.incidents) == len(tables.outbox) == 2
    assert tables.incidents.seen_versions == {alert.id: alert.version for alert in tables.alerts.values()}
    await world.process(a_transition(Ended, window=1))
    assert [kind for _, kind in world.notified()].count("RESOLVED") == 1
    revision = tables.incidents.revision
    await world.turn()
    assert tables.incidents.revision == revision


async def test_alerts_wait_for_no_other_instance_to_be_stored(world: World) -> None:
    await world.turn()
    world.store.tables.incidents.is_locked = True
    await world.process(a_transition())
    assert len(world.store.tables.alerts) == 1
    assert not world.store.tables.outbox
    await world.turn()
    assert len(world.store.tables.outbox) == 1


async def test_after_a_lost_commit_incidents_are_read_again(world: World) -> None:
    await world.turn()
    world.store.fail_commits = 1
    with pytest.raises(StoreUnavailable):
        await world.worker.handle([record(a_transition())])
    # Before they are read, alerts are stored alone.
    await world.process(a_transition())
    assert not world.store.tables.outbox
    await world.turn()
    await world.turn()
    assert len(world.store.tables.outbox) == len(world.store.tables.incidents.incidents) == 1


async def test_a_wrong_guess_leaves_incidents_in_memory(world: World) -> None:
    await world.turn()
    await world.process(a_transition())
    world.dedup_cache.keys.clear()
    await world.process(a_transition(window=1))
    await world.process(a_transition(subject=a_subject("other")))
    # None of them is left to the next turn.
    assert len(world.store.tables.outbox) == 2


async def test_what_incidents_know_for_long_opens_none_again(world: World) -> None:
    await world.turn()
    await world.process(a_transition())
    ((incident, _),) = world.store.tables.incidents.incidents.values()
    old = replace(incident, state=IncidentState.RESOLVED, resolve_time=NOW - timedelta(days=1))
    # Another instance has resolved it, long ago.
    rows = world.store.tables.incidents
    rows.incidents[incident.id], rows.revision = (old, rows.revision + 1), rows.revision + 1
    stranger = new_world()
    stranger.store.tenants = world.store.tenants
    await stranger.turn()
    await stranger.process(a_transition(Ended, window=1))
    assert len(stranger.store.tables.incidents.incidents) == 1
    assert len(stranger.store.tables.outbox) == 1


async def test_a_cached_key_without_a_commit_loses_nothing(world: World) -> None:
    world.store.fail_commits = 1
    with pytest.raises(StoreUnavailable):
        await world.worker.handle([record(a_transition())])
    assert world.dedup_cache.keys
    assert world.store.tables.alerts == {}
    await world.worker.handle([record(a_transition())])
    assert len(world.store.tables.alerts) == 1


async def test_transitions_are_counted(world: World) -> None:
    await world.process(a_transition(), a_transition())
    await world.process(a_transition(window=1))
    shown = exposition()[0].decode()
    assert "alerts_processed_total 2.0" in shown
    assert "alerts_deduplicated_total 1.0" in shown
    assert 'tocsin_manager_transitions_total{reason="duplicate"} 1.0' in shown


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param(b"\xff", "UNREADABLE_TRANSITION", id="no message"),
        pytest.param(AlertTransition(id="x").SerializeToString(), "UNUSABLE_TRANSITION", id="half of one"),
    ],
)
async def test_a_record_that_is_no_transition_is_named_and_nothing_is_written(
    world: World, value: bytes, reason: str
) -> None:
    bad = Record("alerts", 0, 7, None, value, (), 0)
    with pytest.raises(UnreadableRecordError) as error:
        await world.worker.handle([record(a_transition()), bad])
    assert (error.value.record, error.value.reason) == (bad, reason)
    assert world.store.tables.alerts == {}


def of(tenant: str, *transitions: ReceivedTransition) -> list[Record]:
    """Return the records of a tenant's transitions."""
    made = [record(each) for each in transitions]
    messages = [AlertTransition.FromString(each.value) for each in made]
    for message in messages:
        message.tenant = tenant
    return [replace(each, value=message.SerializeToString()) for each, message in zip(made, messages, strict=True)]


async def test_a_tenant_with_few_transitions_does_not_wait_for_one_with_many(world: World) -> None:
    many = [a_transition(subject=a_subject(f"many-{number}")) for number in range(3)]
    few = a_transition(subject=a_subject("few"))
    await world.worker.handle([*of("many", *many), *of("few", few)])
    # In the order in which they have written something.
    assert list(world.store.tenants) == ["default", "few", "many"]
    assert [tenant_reader(AlertTransition)(each) for each in of("few", few)] == ["few"]


async def test_each_tenants_transitions_are_processed_by_themselves(world: World) -> None:
    mine, other = a_transition(subject=a_subject("mine")), a_transition(subject=a_subject("other"))
    await world.worker.handle([*of("acme", mine), *of("", other), *of("acme", replace(mine, id="again"))])
    resources = {
        tenant: [alert.subject.resource for alert in tables.alerts.values()]
        for tenant, tables in world.store.tenants.items()
    }
    assert resources == {"acme": ["mine"], "default": ["other"]}
    with pytest.raises(UnreadableRecordError) as error:
        await world.worker.handle(of("*", mine))
    assert error.value.reason == "UNUSABLE_TRANSITION"


async def test_of_a_thousand_related_alerts_each_receiver_has_three_messages(world: World) -> None:
    services = [f"service-{number}" for number in range(1000)]
    entries = [ServiceEntry(name=name, depends_on=("database",)) for name in services]
    world.store.tables.services = {
        each.name: StoredService(entry=each, revision=1, create_time=NOW, update_time=NOW) for each in entries
    }
    world.store.tables.catalog_revision = 1
    await world.catalog.refresh()
    world.routing.current = a_stored_tree(a_tree(receivers=("pager", "chat")))
    await world.turn()
    await world.process(a_transition(subject=a_subject("database")))
    for first in range(0, len(services), 100):
        await world.process(*(a_transition(subject=a_subject(name)) for name in services[first : first + 100]))
        world.clock.advance(timedelta(seconds=1))
        await world.turn()
    world.clock.advance(timedelta(minutes=2))
    await world.turn()
    ends = [a_transition(Ended, subject=a_subject(name), window=1) for name in ("database", *services)]
    for first in range(0, len(ends), 500):
        await world.process(*ends[first : first + 500])
        await world.turn()
    for _ in range(3):
        world.clock.advance(timedelta(minutes=2))
        await world.turn()
    ((incident, _),) = world.store.tables.incidents.incidents.values()
    assert {alert.service for alert in incident.alerts.values()} == {"database", *services}
    sent = [each for each, _ in world.store.tables.outbox]
    assert [each.kind.value for each in sent] == ["FIRING", "UPDATED", "RESOLVED"]
    assert {each.receivers for each in sent} == {("pager", "chat")}
    assert sent[1].new_alerts == len(services)
