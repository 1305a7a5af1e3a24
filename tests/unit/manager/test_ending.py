"""The alerts of a rule that was disabled or deleted: ended in batches, also over a kill in the middle."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from services.chassis.failures import StoreUnavailable
from services.chassis.telemetry import exposition, telemetry
from services.domain.alert import State
from services.manager.core.alert import Notice
from services.manager.core.commands.defaults import DEFAULT_RULES
from services.manager.core.commands.rules import Ending, created
from services.manager.core.commands.transitions import Book, decide
from services.manager.metrics import Metrics
from services.manager.rpc.rule_checking import RuleChecker
from services.manager.rpc.rule_commands import RuleCommands
from services.manager.worker.ending import EndingWorker
from services.rule_language.rule import complete
from tests.fakes.clock import FakeClock
from tests.fakes.manager import MemoryClaims, MemoryStore
from tests.unit.manager.stories import NOW, subject, word
from tocsin.rules.v1 import alert_rule_service_pb2 as pb

ENDING = Ending(revision=5, rule_id="rule-1", comment="the rule was deleted")


@pytest.fixture(autouse=True)
def _telemetry() -> Iterator[None]:
    with telemetry("manager", "test", ""):
        yield


async def store_with(open_alerts: int) -> MemoryStore:
    store = MemoryStore()
    words = [word(about=subject(f"service {n}")) for n in range(open_alerts)]
    words += [word(about=subject("other", rule_id="rule-2")), word(about=subject("newer"), revision=6)]
    book, _ = decide(Book(), words, NOW)
    store.kept.alerts = {alert.id: alert for alert in book.open.values()}
    store.kept.endings = {ENDING.revision: ENDING}
    return store


def worker_on(store: MemoryStore) -> EndingWorker:
    return EndingWorker(store, MemoryClaims(), FakeClock(NOW), Metrics(), batch=3)


def still_open(store: MemoryStore) -> list[str]:
    return sorted(alert.subject.resource for alert in store.kept.alerts.values() if alert.life.is_open)


async def test_they_end_a_batch_at_a_time_and_are_told_once_whatever_is_killed_in_the_middle() -> None:
    store = await store_with(8)
    killed = worker_on(store)
    assert await killed.turn() == timedelta()
    assert len(still_open(store)) == 7
    store.fail_commits = 1
    with pytest.raises(StoreUnavailable):
        await killed.turn()
    assert len(still_open(store)) == 7
    other = worker_on(store)
    while await other.turn() is not None:
        pass
    assert still_open(store) == ["newer", "other"]
    assert store.kept.endings == {}
    told = Counter((alert.id, notice) for alert, notice, _ in store.kept.outbox)
    ended = {alert.id for alert in store.kept.alerts.values() if alert.life.state is State.RESOLVED}
    assert told == {(alert, Notice.RESOLVED): 1 for alert in ended}
    assert {entry.comment for entry in store.kept.history.values()} == {ENDING.comment}
    assert "tocsin_manager_rule_alerts_ended_total 8.0" in exposition()[0].decode()


async def test_a_command_only_says_what_has_to_end() -> None:
    store = await store_with(8)
    store.kept.endings.clear()
    rule = created(complete(DEFAULT_RULES[0]), "rule-1", 1, now=NOW)
    store.kept.rules["rule-1"] = rule
    checker = RuleChecker()
    commands = RuleCommands(store, FakeClock(NOW), lambda: "new", Metrics(), checker)
    await commands.switch("rule-1", enabled=False)
    await commands.delete(pb.DeleteAlertRuleRequest(id="rule-1"))
    assert [(each.rule_id, each.comment) for each in store.kept.endings.values()] == [
        ("rule-1", "the rule was disabled"),
        ("rule-1", "the rule was deleted"),
    ]
    checker.close()
    assert len(still_open(store)) == 10
    assert store.kept.outbox == []


async def test_rules_end_in_their_order_and_one_without_alerts_is_done_at_once() -> None:
    store = await store_with(0)
    store.kept.endings[9] = replace(ENDING, revision=9, rule_id="rule-2")
    worker = worker_on(store)
    assert await worker.turn() == timedelta()
    assert still_open(store) == ["newer", "other"]
    assert await worker.turn() == timedelta()
    assert still_open(store) == ["newer"]
    assert await worker.turn() is None
