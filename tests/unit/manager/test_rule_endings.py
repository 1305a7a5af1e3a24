"""The alerts of a rule that was disabled or deleted: resolved in batches, also after a kill in the middle."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from services.chassis.callers import Caller, as_caller
from services.chassis.failures import StoreUnavailable
from services.chassis.telemetry import exposition, telemetry
from services.manager.core.alert import AlertHistoryKind
from services.manager.core.rule_edits import RuleEnding, create
from services.manager.core.transitions import TransitionContext, decide
from services.manager.metrics import Metrics
from services.manager.rpc.rule_commands import RuleChecker, RuleCommands
from services.manager.worker.default_rules import DEFAULT_RULES
from services.manager.worker.rule_endings import RuleEndingWorker
from services.rule_language.rule import complete
from tests.fakes.clock import FakeClock
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import MemoryDedupCache
from tests.fakes.transitions import NOW, a_subject, a_transition
from tocsin.rules.v1 import alert_rule_service_pb2 as pb
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

ENDING = RuleEnding(revision=5, rule_id="rule-1", comment="the rule was deleted")


@pytest.fixture(autouse=True)
def _telemetry() -> Iterator[None]:
    with telemetry("manager", "test", ""):
        yield


async def store_with(open_alerts: int) -> MemoryStore:
    store = MemoryStore()
    transitions = [a_transition(subject=a_subject(f"service {n}")) for n in range(open_alerts)]
    transitions += [
        a_transition(subject=a_subject("other", rule_id="rule-2")),
        a_transition(subject=a_subject("newer"), revision=6),
    ]
    context, _ = decide(TransitionContext(), transitions, NOW)
    store.tables.alerts = {alert.id: alert for alert in context.open_alerts.values()}
    store.tables.rule_endings = {ENDING.revision: ENDING}
    return store


def worker_on(store: MemoryStore) -> RuleEndingWorker:
    return RuleEndingWorker(store, MemoryDedupCache(), FakeClock(NOW), Metrics(), batch=3)


def still_open(store: MemoryStore) -> list[str]:
    return sorted(alert.subject.resource for alert in store.tables.alerts.values() if alert.is_open)


async def test_alerts_are_resolved_in_batches_and_once_whatever_is_killed_in_the_middle() -> None:
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
    assert store.tables.rule_endings == {}
    ends = Counter(entry.alert_id for entry in store.tables.history.values() if entry.kind is AlertHistoryKind.RESOLVED)
    assert ends == {alert.id: 1 for alert in store.tables.alerts.values() if not alert.is_open}
    assert {entry.comment for entry in store.tables.history.values()} == {ENDING.comment}
    assert "tocsin_manager_rule_alerts_ended_total 8.0" in exposition()[0].decode()


async def test_a_command_only_stores_which_alerts_have_to_end() -> None:
    store = await store_with(8)
    store.tables.rule_endings.clear()
    rule = create(complete(DEFAULT_RULES[0]), "rule-1", 1, now=NOW)
    store.tables.rules["rule-1"] = rule
    checker = RuleChecker()
    commands = RuleCommands(store, FakeClock(NOW), lambda: "new", Metrics(), checker)
    # What goes on counting ends no alert.
    await commands.update(
        pb.UpdateAlertRuleRequest(
            id="rule-1", alert_rule=AlertRule(threshold=7), update_mask=FieldMask(paths=["threshold"])
        )
    )
    await commands.update(
        pb.UpdateAlertRuleRequest(
            id="rule-1", alert_rule=AlertRule(filter="true"), update_mask=FieldMask(paths=["filter"])
        )
    )
    with as_caller(Caller(name="ann", role="editor", kind="key")):
        await commands.disable(pb.DisableAlertRuleRequest(id="rule-1"))
    # Nothing of a disabled rule is open.
    await commands.update(
        pb.UpdateAlertRuleRequest(
            id="rule-1", alert_rule=AlertRule(scope="true"), update_mask=FieldMask(paths=["scope"])
        )
    )
    await commands.delete(pb.DeleteAlertRuleRequest(id="rule-1"))
    assert [(each.rule_id, each.comment) for each in store.tables.rule_endings.values()] == [
        ("rule-1", "the rule was edited so that counting begins again (revision 2)"),
        ("rule-1", "the rule was disabled by ann (revision 3)"),
        ("rule-1", "the rule was deleted (revision 5)"),
    ]
    checker.close()
    assert len(still_open(store)) == 10


async def test_rules_end_in_their_order_and_one_without_alerts_is_deleted_at_once() -> None:
    store = await store_with(0)
    store.tables.rule_endings[9] = replace(ENDING, revision=9, rule_id="rule-2")
    worker = worker_on(store)
    assert await worker.turn() == timedelta()
    assert still_open(store) == ["newer", "other"]
    assert await worker.turn() == timedelta()
    assert still_open(store) == ["newer"]
    assert await worker.turn() is None
