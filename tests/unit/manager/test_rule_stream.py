"""What those who follow the rules are sent: all of them in pages, then what changes."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.domain.severity import Severity
from services.manager.adapters.feeds.rules import RuleHub
from services.manager.core import rule as module
from services.manager.core.commands.rules import created
from services.manager.core.rule import KeptRule, RuleChanges, RuleSet
from services.manager.rpc.rule_checking import RuleChecker
from services.manager.rpc.rule_queries import RuleQueries
from services.manager.wire import rules as wire
from services.rule_language.rule import Draft, RuleType, complete
from tests.fakes.manager import MemoryAnswers, MemoryRuleReader, MemoryStore
from tests.unit.manager.stories import NOW
from tocsin.rules.v1 import alert_rule_service_pb2 as pb

Response = pb.WatchAlertRulesResponse


def rule(name: str, revision: int = 1) -> KeptRule:
    draft = Draft(
        name=name, type=RuleType.ERROR_THRESHOLD, threshold=1, window=timedelta(minutes=1), severity=Severity.LOW
    )
    return created(complete(draft), name, revision, now=NOW)


KNOWN = RuleSet(revision=3, epoch="e", rules=(rule("a", 1), rule("b", 2), rule("c", 3)), since=3)


def test_changes_are_known_from_the_revision_on_that_was_read_first() -> None:
    changed = KNOWN.changed(RuleChanges(revision=5, epoch="e", rules=(rule("b", 4),), removed=("a",)))
    again = changed.changed(RuleChanges(revision=6, epoch="e", rules=(rule("a", 6),)))
    assert [kept.rule.id for kept in changed.rules] == ["c", "b"]
    assert changed.changes_since("e.3") == RuleChanges(revision=5, epoch="e", rules=(rule("b", 4),), removed=("a",))
    assert changed.changes_since("e.5") == RuleChanges(revision=5, epoch="e")
    assert again.changes_since("e.3") == RuleChanges(revision=6, epoch="e", rules=(rule("b", 4), rule("a", 6)))
    assert again.version == "e.6"


@pytest.mark.parametrize("version", ["", "e.2", "e.4", "other.3", "e.", "e.three", "3", "e.-3", "e." + "9" * 5000])
def test_what_is_not_known_any_more_is_not_told_as_changes(version: str) -> None:
    assert KNOWN.changes_since(version) is None


def test_not_more_removed_rules_are_remembered_than_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REMOVED", 1)
    one = KNOWN.changed(RuleChanges(revision=4, epoch="e", removed=("a",)))
    two = one.changed(RuleChanges(revision=5, epoch="e", removed=("b",)))
    assert one.changes_since("e.3") is not None
    assert (two.removed, two.changes_since("e.4"), two.changes_since("e.3")) == ({}, None, None)
    assert two.changes_since("e.5") == RuleChanges(revision=5, epoch="e")


def test_all_rules_come_in_pages_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "PAGE_BYTES", 2 * wire.message(rule("a")).ByteSize())
    pages = list(wire.pages(KNOWN, ""))
    assert [[each.id for each in page.alert_rules] for page in pages] == [["a", "b"], ["c"]]
    assert [(page.kind, page.has_more, page.resume_token) for page in pages] == [
        (Response.SNAPSHOT, True, ""),
        (Response.SNAPSHOT, False, "e.3"),
    ]


class Following:
    """One who follows the rules of a store."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.hub = RuleHub(MemoryRuleReader(self.store))
        self._checker = RuleChecker()
        self._checker.close()

    async def change(self, *rules: KeptRule) -> None:
        self.store.kept.rules |= {each.rule.id: each for each in rules}
        self.store.kept.revision = max(each.rule.revision for each in self.store.kept.rules.values())
        await self.hub.load()

    def queries(self) -> RuleQueries:
        reader = MemoryRuleReader(self.store)
        return RuleQueries(reader, MemoryAnswers(), self.hub, timedelta(milliseconds=20), self._checker)

    def watch(self, **asked: Any) -> Any:
        return self.queries().watch(pb.WatchAlertRulesRequest(**asked))


async def test_who_accepts_pages_is_sent_what_changed() -> None:
    following = Following()
    await following.change(rule("a", 1), rule("b", 2))
    stream = following.watch(accepts_pages=True)
    first = await anext(stream)
    assert (first.kind, [each.id for each in first.alert_rules]) == (Response.SNAPSHOT, ["a", "b"])
    sign = await anext(stream)
    assert (sign.kind, sign.resume_token) == (Response.HEARTBEAT, first.resume_token)
    await following.change(rule("c", 3), replace(rule("a"), rule=replace(rule("a", 4).rule, enabled=False)))
    while (changes := await anext(stream)).kind == Response.HEARTBEAT:
        pass
    assert (changes.kind, changes.revision) == (Response.CHANGES, 4)
    assert ([each.id for each in changes.alert_rules], list(changes.removed_ids)) == (["c"], ["a"])
    resumed = await anext(following.watch(accepts_pages=True, resume_token=first.resume_token))
    assert resumed == changes


async def test_who_knows_more_than_this_instance_waits_for_it_to_read() -> None:
    following = Following()
    await following.change(rule("a", 1))
    following.store.kept.rules["b"] = rule("b", 2)
    following.store.kept.revision = 2
    answer = await anext(following.watch(accepts_pages=True, resume_token="memory.2"))
    assert (answer.kind, answer.revision) == (Response.HEARTBEAT, 2)


async def test_a_database_that_was_brought_back_is_read_as_a_whole() -> None:
    following = Following()
    await following.change(rule("a", 1), rule("b", 2))
    del following.store.kept.rules["b"]
    await following.change()
    answer = await anext(following.watch(accepts_pages=True, resume_token="memory.2"))
    assert (answer.kind, [each.id for each in answer.alert_rules]) == (Response.SNAPSHOT, ["a"])
    following.store.kept.epoch = "another"
    await following.hub.load()
    assert following.hub.current.version == "another.1"


async def test_who_does_not_know_pages_is_sent_all_rules_each_time() -> None:
    following = Following()
    await following.change(rule("a", 1))
    stream = following.watch()
    first = await anext(stream)
    assert (first.is_snapshot, first.kind, first.resume_token) == (True, Response.KIND_UNSPECIFIED, "")
    await following.change(rule("b", 2))
    while not (second := await anext(stream)).is_snapshot:
        pass
    assert [each.id for each in second.alert_rules] == ["a", "b"]
    assert not (await anext(following.watch(known_revision=2))).is_snapshot


async def test_a_list_goes_on_with_another_page_when_rules_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    following = Following()
    await following.change(*map(rule, "abc"))
    monkeypatch.setattr(wire, "PAGE_BYTES", 2 * wire.message(rule("a")).ByteSize())
    queries = following.queries()
    first = await queries.page(pb.ListAlertRulesRequest(page_size=3))
    assert [each.name for each in first.alert_rules] == ["a", "b"]
    second = await queries.page(pb.ListAlertRulesRequest(page_size=3, page_token=first.next_page_token))
    assert ([each.name for each in second.alert_rules], second.next_page_token) == (["c"], "")
    following.store.kept.rules.clear()
    following.store.kept.revision += 1
    assert await queries.page(pb.ListAlertRulesRequest()) == pb.ListAlertRulesResponse()
