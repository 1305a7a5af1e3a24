"""What the watchers of rules are sent: all of them in pages, then what changes."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.chassis.callers import ANONYMOUS_ADMIN, Caller, as_caller
from services.domain.severity import Severity
from services.manager.adapters.broadcasters import RuleBroadcaster
from services.manager.core import rule as module
from services.manager.core.rule import RuleChanges, RuleSnapshot, StoredRule
from services.manager.core.rule_edits import create
from services.manager.messages import rules
from services.manager.metrics import Metrics
from services.manager.rpc.rule_commands import RuleChecker, RuleCommands
from services.manager.rpc.rule_statistics import CurrentProblems
from services.manager.rpc.rules import AlertRuleRpc
from services.rule_language.rule import Draft, RuleType, complete
from tests.fakes.clock import FakeClock
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import MemoryResponseCache, MemoryRuleProblemReader, MemoryRuleReader
from tests.fakes.transitions import NOW
from tocsin.rules.v1 import alert_rule_service_pb2 as pb

Response = pb.WatchAlertRulesResponse


def rule(name: str, revision: int = 1) -> StoredRule:
    draft = Draft(
        name=name, type=RuleType.ERROR_THRESHOLD, threshold=1, window=timedelta(minutes=1), severity=Severity.LOW
    )
    return create(complete(draft), name, revision, now=NOW)


KNOWN = RuleSnapshot(revision=3, epoch="e", rules=(rule("a", 1), rule("b", 2), rule("c", 3)), since=3)


def test_changes_are_known_since_the_revision_that_was_read_first() -> None:
    changed = KNOWN.apply(RuleChanges(revision=5, epoch="e", rules=(rule("b", 4),), removed=("a",)))
    again = changed.apply(RuleChanges(revision=6, epoch="e", rules=(rule("a", 6),)))
    assert [stored.rule.id for stored in changed.rules] == ["c", "b"]
    assert changed.changes_since("e.3") == RuleChanges(revision=5, epoch="e", rules=(rule("b", 4),), removed=("a",))
    assert changed.changes_since("e.5") == RuleChanges(revision=5, epoch="e")
    assert again.changes_since("e.3") == RuleChanges(revision=6, epoch="e", rules=(rule("b", 4), rule("a", 6)))
    assert again.version == "e.6"


@pytest.mark.parametrize("version", ["", "e.2", "e.4", "other.3", "e.", "e.three", "3", "e.-3", "e." + "9" * 5000])
def test_changes_since_an_unknown_version_are_not_known(version: str) -> None:
    assert KNOWN.changes_since(version) is None


def test_the_number_of_remembered_removed_rules_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REMOVED", 1)
    one = KNOWN.apply(RuleChanges(revision=4, epoch="e", removed=("a",)))
    two = one.apply(RuleChanges(revision=5, epoch="e", removed=("b",)))
    assert one.changes_since("e.3") is not None
    assert (two.removed, two.changes_since("e.4"), two.changes_since("e.3")) == ({}, None, None)
    assert two.changes_since("e.5") == RuleChanges(revision=5, epoch="e")


def test_all_rules_come_in_pages_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PAGE_BYTES", 2 * rules.rule_message(rule("a")).ByteSize())
    pages = list(rules.snapshot_pages(KNOWN, ""))
    assert [[each.id for each in page.alert_rules] for page in pages] == [["a", "b"], ["c"]]
    assert [(page.kind, page.has_more, page.resume_token) for page in pages] == [
        (Response.SNAPSHOT, True, ""),
        (Response.SNAPSHOT, False, "e.3"),
    ]


class RuleWatcher:
    """A watcher of the rules of a store."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.rules = RuleBroadcaster(MemoryRuleReader(self.store))
        self._checker = RuleChecker()
        self._checker.close()

    async def change(self, *rules: StoredRule) -> None:
        self.store.tables.rules |= {each.rule.id: each for each in rules}
        self.store.tables.revision = max(each.rule.revision for each in self.store.tables.rules.values())
        await self.rules.refresh()

    def rpc(self) -> AlertRuleRpc:
        commands = RuleCommands(self.store, FakeClock(), lambda: "id", Metrics(), self._checker)
        reader, cache = MemoryRuleReader(self.store), MemoryResponseCache()
        problems = CurrentProblems(MemoryRuleProblemReader(self.store), FakeClock())
        return AlertRuleRpc(commands, reader, cache, self.rules, timedelta(milliseconds=20), problems)

    def watch(self, **asked: Any) -> Any:
        return self.rpc().WatchAlertRules(pb.WatchAlertRulesRequest(**asked), None)


async def test_a_watcher_that_accepts_pages_is_sent_the_changes() -> None:
    watcher = RuleWatcher()
    await watcher.change(rule("a", 1), rule("b", 2))
    stream = watcher.watch(accepts_pages=True)
    first = await anext(stream)
    assert (first.kind, [each.id for each in first.alert_rules]) == (Response.SNAPSHOT, ["a", "b"])
    heartbeat = await anext(stream)
    assert (heartbeat.kind, heartbeat.resume_token) == (Response.HEARTBEAT, first.resume_token)
    await watcher.change(rule("c", 3), replace(rule("a"), rule=replace(rule("a", 4).rule, enabled=False)))
    while (changes := await anext(stream)).kind == Response.HEARTBEAT:
        pass
    assert (changes.kind, changes.revision) == (Response.CHANGES, 4)
    assert ([each.id for each in changes.alert_rules], list(changes.removed_ids)) == (["c"], ["a"])
    resumed = await anext(watcher.watch(accepts_pages=True, resume_token=first.resume_token))
    assert resumed == changes


async def test_an_instance_reads_the_rules_for_a_watcher_that_has_newer_ones() -> None:
    watcher = RuleWatcher()
    await watcher.change(rule("a", 1))
    watcher.store.tables.rules["b"] = rule("b", 2)
    watcher.store.tables.revision = 2
    message = await anext(watcher.watch(accepts_pages=True, resume_token="memory.2"))
    assert (message.kind, message.revision) == (Response.HEARTBEAT, 2)


async def test_a_restored_database_is_read_as_a_whole() -> None:
    watcher = RuleWatcher()
    await watcher.change(rule("a", 1), rule("b", 2))
    del watcher.store.tables.rules["b"]
    await watcher.change()
    message = await anext(watcher.watch(accepts_pages=True, resume_token="memory.2"))
    assert (message.kind, [each.id for each in message.alert_rules]) == (Response.SNAPSHOT, ["a"])
    watcher.store.tables.epoch = "another"
    await watcher.rules.refresh()
    assert watcher.rules.current.version == "another.1"


async def test_a_watcher_that_does_not_accept_pages_is_sent_all_rules_each_time() -> None:
    watcher = RuleWatcher()
    await watcher.change(rule("a", 1))
    stream = watcher.watch()
    first = await anext(stream)
    assert (first.is_snapshot, first.kind, first.resume_token) == (True, Response.KIND_UNSPECIFIED, "")
    await watcher.change(rule("b", 2))
    while not (second := await anext(stream)).is_snapshot:
        pass
    assert [each.id for each in second.alert_rules] == ["a", "b"]
    assert not (await anext(watcher.watch(known_revision=2))).is_snapshot


async def test_a_list_goes_on_with_another_page_when_rules_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = RuleWatcher()
    await watcher.change(*map(rule, "abc"))
    monkeypatch.setattr(rules, "PAGE_BYTES", 2 * rules.rule_message(rule("a")).ByteSize())
    rpc = watcher.rpc()
    first = await rpc.ListAlertRules(pb.ListAlertRulesRequest(page_size=3), None)
    assert [each.name for each in first.alert_rules] == ["a", "b"]
    second = await rpc.ListAlertRules(pb.ListAlertRulesRequest(page_size=3, page_token=first.next_page_token), None)
    assert ([each.name for each in second.alert_rules], second.next_page_token) == (["c"], "")
    watcher.store.tables.rules.clear()
    watcher.store.tables.revision += 1
    assert await rpc.ListAlertRules(pb.ListAlertRulesRequest(), None) == pb.ListAlertRulesResponse()


async def test_a_service_is_sent_all_rules_and_anybody_else_those_of_the_own_tenant() -> None:
    watcher = RuleWatcher()
    mine = replace(rule("a"), rule=replace(rule("a").rule, tenant="acme"))
    await watcher.change(mine, rule("b", 2))
    for caller, shown in (
        (Caller(name="evaluator", role="service", kind="service"), [("a", "acme"), ("b", "default")]),
        (Caller(name="k", role="viewer", kind="key", tenant="acme"), [("a", "acme")]),
        (Caller(name="k", role="viewer", kind="key", tenant="other"), []),
        (ANONYMOUS_ADMIN, [("b", "default")]),
    ):
        with as_caller(caller):
            first = await anext(watcher.watch(accepts_pages=True))
        assert [(each.id, each.tenant) for each in first.alert_rules] == shown


def test_a_tenant_is_told_of_its_own_removed_rules() -> None:
    gone = RuleChanges(revision=4, epoch="e", removed=("a", "b"), removed_from={"a": "acme", "b": "default"})
    later = KNOWN.apply(gone).apply(RuleChanges(revision=5, epoch="e", removed=("x",), removed_from={"x": "acme"}))
    assert later.of_tenant("acme").removed == {"a": 4, "x": 5}
    assert later.of_tenant("default").removed == {"b": 4}
    again = replace(rule("a", 6), rule=replace(rule("a", 6).rule, tenant="acme"))
    assert later.apply(RuleChanges(revision=6, epoch="e", rules=(again,))).removed_from == {"b": "default", "x": "acme"}
