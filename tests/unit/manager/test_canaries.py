"""Canaries: sent regularly, taken from the transitions of users' rules, and sent on."""

from datetime import timedelta

import pytest

from services.chassis import telemetry
from services.chassis.failures import StreamUnavailable
from services.chassis.kafka import Record
from services.contract.timestamps import timestamp_of
from services.domain.trace_context import headers_of
from services.manager.adapters.broadcasters import RuleBroadcaster
from services.manager.core.canary import CANARY_RULE_ID, Canary, canary_rule
from services.manager.core.rule import RuleSnapshot
from services.manager.metrics import Metrics
from services.manager.ports.incidents import ReturnedCanary
from services.manager.worker.canaries import CanaryWorker
from tests.fakes.clock import FakeClock
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import MemoryRuleReader
from tests.fakes.transitions import NOW, START
from tests.unit.manager.test_rule_stream import rule
from tests.unit.manager.test_transition_worker import new_world
from tocsin.alerts.v1.alert_pb2 import AlertTransition, SampleEvent
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

EVERY = timedelta(seconds=15)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class FakeIngest:
    def __init__(self) -> None:
        self.sent: list[Canary] = []
        self.is_away = False

    async def send(self, canary: Canary) -> None:
        if self.is_away:
            raise StreamUnavailable("Kafka does not answer")
        self.sent.append(canary)


def counted(outcome: str) -> float:
    exposed, _ = telemetry.exposition()
    (line,) = [
        each
        for each in exposed.decode().splitlines()
        if each.startswith("tocsin_manager_canaries_total") and outcome in each
    ]
    return float(line.rsplit(" ", 1)[1])


async def test_a_canary_is_sent_in_each_interval_but_not_at_the_start() -> None:
    with telemetry.telemetry("test", "1", ""):
        ingest, clock, ids = FakeIngest(), FakeClock(NOW), iter("ab")
        worker = CanaryWorker(ingest, clock, Metrics(), lambda: next(ids), EVERY)
        assert await worker.turn() == EVERY
        assert ingest.sent == []
        assert await worker.turn() == EVERY
        ingest.is_away = True
        assert await worker.turn() == EVERY
        assert ingest.sent == [Canary(id="a", time=NOW)]
        assert (counted("accepted"), counted("refused")) == (1, 1)


async def test_the_rule_of_canaries_is_watched_and_not_stored() -> None:
    store = MemoryStore()
    store.tables.rules["a"], store.tables.revision = rule("a"), 1
    plain, other = (RuleBroadcaster(MemoryRuleReader(store), unstored) for unstored in ((), (canary_rule(),)))
    for each in (plain, other):
        await each.refresh()
    assert [stored.rule.id for stored in other.current.rules] == ["a", CANARY_RULE_ID]
    assert store.tables.rules.keys() == {"a"}
    # Who has watched an instance without the rule is sent all of them, and the other way round.
    assert other.current.changes_since(plain.current.version) is None
    assert plain.current.changes_since(other.current.version) is None
    store.tables.rules["b"], store.tables.revision = rule("b", 2), 2
    before = other.current
    await other.refresh()
    changes = other.current.changes_since(before.version)
    assert changes is not None
    assert [stored.rule.id for stored in changes.rules] == ["b"]
    assert await other.after(before.version) == other.current


def test_without_such_a_rule_a_snapshot_stays_as_it_is() -> None:
    snapshot = RuleSnapshot(revision=3, epoch="e", rules=(rule("a"),))
    assert snapshot.with_unstored(()) is snapshot


def transition(rule_id: str, state: "AlertTransition.State.ValueType", *, samples: int = 1) -> Record:
    message = AlertTransition(
        id=f"{rule_id}-{state}",
        rule_id=rule_id,
        fingerprint="f",
        severity=AlertRule.LOW,
        state=state,
        resource="r",
        first_window_time=timestamp_of(START),
        create_time=timestamp_of(START),
        samples=[SampleEvent(event_time=timestamp_of(START))] * samples,
    )
    return Record("alerts", 0, 0, None, message.SerializeToString(), (("traceparent", TRACEPARENT.encode()),), 0)


@pytest.mark.parametrize(
    ("records", "returned"),
    [
        ([transition(CANARY_RULE_ID, AlertTransition.FIRING)], 1),
        ([transition(CANARY_RULE_ID, AlertTransition.RESOLVED)], 0),
        ([transition(CANARY_RULE_ID, AlertTransition.FIRING, samples=0)], 0),
    ],
)
async def test_a_canary_that_fires_is_sent_on_and_is_no_alert(records: list[Record], returned: int) -> None:
    world = new_world()
    store = world.store
    await world.worker.handle([*records, transition("users", AlertTransition.FIRING)])
    canary = ReturnedCanary(time=START, headers=headers_of(TRACEPARENT))
    assert store.tables.incidents.canaries == [canary] * returned
    assert [alert.subject.rule_id for alert in store.tables.alerts.values()] == ["users"]
    assert len(store.tables.transitions) == 1
