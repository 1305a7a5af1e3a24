"""What the manager relies on from the store of rules and their counts, in memory and in PostgreSQL alike."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from services.domain.problem_reason import ProblemReason
from services.manager.core.rule import RuleChanges, RuleEdit, RuleStatistics
from services.manager.core.rule_edits import edit
from services.manager.core.rule_problems import ReportedProblem, RuleHistoryEntry, RuleHistoryKind
from services.manager.ports.readers import Page
from services.manager.ports.tables import NameTakenError
from tests.contract.manager.stores import Stored, create_all, memory_stored, migrated, report, rule, stored_in
from tests.fakes.transitions import NOW, WINDOW


class RuleStoreContract(ABC):
    @pytest.fixture
    @abstractmethod
    def stored(self) -> Stored: ...

    async def test_rules_come_back_as_they_were(self, stored: Stored) -> None:
        first, second = rule("a"), rule("B", enabled=False)
        async with stored.store.transaction() as transaction:
            for n, each in enumerate((first, second), 1):
                assert await transaction.rules.take_revision() == n
                await transaction.rules.upsert(replace(each, rule=replace(each.rule, revision=n)), RuleEdit.CREATED)
            assert await transaction.rules.get_for_update("nobody") is None
            assert await transaction.rules.count() == 2
        assert await stored.rules.get(first.rule.id) == first
        assert [each.rule.name for each in await stored.rules.list_page(Page(size=1))] == ["B", "a"]
        assert [each.rule.name for each in await stored.rules.list_page(Page(after=("B",)))] == ["a"]
        assert [each.rule.name for each in await stored.rules.list_page(Page(), enabled=False)] == ["B"]
        whole = await stored.rules.snapshot()
        assert (whole.revision, whole.rules) == (2, (first,))
        before = await stored.rules.version()
        assert whole.version == before
        async with stored.store.transaction() as transaction:
            found = await transaction.rules.get_for_update(first.rule.id)
            assert found == first
            revision = await transaction.rules.take_revision()
            after = edit(found, replace(found.rule, enabled=False), revision, is_fresh=False, now=NOW)
            await transaction.rules.upsert(after, RuleEdit.UPDATED)
            await transaction.rules.delete(second, await transaction.rules.take_revision(), NOW)
        assert await stored.rules.get(second.rule.id) is None
        assert (await stored.rules.snapshot()).rules == ()
        assert (await stored.rules.snapshot()).revision == 4
        assert await stored.rules.version() != before

    async def test_the_changes_of_rules_since_a_revision_are_known(self, stored: Stored) -> None:
        async with stored.store.transaction() as transaction:
            rules = []
            for name in "abc":
                revision = await transaction.rules.take_revision()
                rules.append(replace(rule(name), rule=replace(rule(name).rule, revision=revision)))
                await transaction.rules.upsert(rules[-1], RuleEdit.CREATED)
        known = await stored.rules.snapshot()
        assert await stored.rules.changes_since(known.revision) == RuleChanges(
            revision=known.revision, epoch=known.epoch
        )
        first, second, third = rules
        async with stored.store.transaction() as transaction:
            changes = (
                replace(first.rule, threshold=2.0, revision=await transaction.rules.take_revision()),
                replace(second.rule, enabled=False, revision=await transaction.rules.take_revision()),
            )
            for each in changes:
                await transaction.rules.upsert(replace(first, rule=each), RuleEdit.UPDATED)
            await transaction.rules.delete(third, await transaction.rules.take_revision(), NOW)
        found = await stored.rules.changes_since(known.revision)
        assert (found.revision, [each.rule for each in found.rules]) == (6, [changes[0]])
        assert set(found.removed) == {second.rule.id, third.rule.id}
        whole = await stored.rules.snapshot()
        assert (known.apply(found).rules, known.apply(found).version) == (whole.rules, whole.version)
        assert set((await stored.rules.changes_since(5)).removed) == {third.rule.id}

    async def test_statistics_add_up_and_go_with_their_rule(self, stored: Stored) -> None:
        first, second = rule("a"), rule("b")
        counted = RuleStatistics(matched=3, late=2, beyond_limit=4, fired=1, evaluate_time=NOW)
        async with stored.store.transaction() as transaction:
            await create_all(transaction, first, second)
            await transaction.rule_statistics.add({})
            await transaction.rule_statistics.add({first.rule.id: counted, "nobody": counted})
            await transaction.rule_statistics.add({first.rule.id: replace(counted, evaluate_time=NOW - WINDOW)})
        assert await stored.statistics.get(first.rule.id) == RuleStatistics(
            matched=6, late=4, beyond_limit=8, fired=2, evaluate_time=NOW
        )
        assert await stored.statistics.get(second.rule.id) == RuleStatistics()
        assert await stored.statistics.get("nobody") is None
        ids = [first.rule.id, second.rule.id, "nobody"]
        assert await stored.problems.list_beyond_limit(ids) == {first.rule.id: 8}
        assert await stored.problems.list_beyond_limit(ids[1:]) == {}
        async with stored.store.transaction() as transaction:
            await transaction.rules.delete(first, await transaction.rules.take_revision(), NOW)
            await create_all(transaction, first)
        assert await stored.statistics.get(first.rule.id) == RuleStatistics()

    async def test_reports_of_several_evaluators_at_once_all_count(self, stored: Stored) -> None:
        rules = [rule(name) for name in "abcdef"]
        async with stored.store.transaction() as transaction:
            await create_all(transaction, *rules)

        async def report(ids: list[str]) -> None:
            async with stored.store.transaction() as transaction:
                await transaction.rule_statistics.add(dict.fromkeys(ids, RuleStatistics(matched=1)))

        ids = [each.rule.id for each in rules]
        await asyncio.gather(*(report(ids if n % 2 else ids[::-1]) for n in range(8)))
        assert await stored.statistics.get(ids[0]) == RuleStatistics(matched=8)

    async def test_what_an_instance_reports_replaces_what_it_reported_and_goes_with_the_rule(
        self, stored: Stored
    ) -> None:
        first, second = rule("a"), rule("b")
        problem = ReportedProblem(
            instance="one",
            reason=ProblemReason.OVER_BUDGET,
            description="it is slow",
            set_aside_time=NOW,
            retry_time=NOW + WINDOW,
        )
        broken = replace(problem, reason=ProblemReason.COMPILE_FAILED, retry_time=None)
        async with stored.store.transaction() as transaction:
            await create_all(transaction, first, second)
            await report(transaction, {first.rule.id: problem, second.rule.id: broken, "nobody": problem}, NOW)
            await report(transaction, {first.rule.id: replace(broken, instance="two")}, NOW + WINDOW)
        ids = [first.rule.id, second.rule.id]
        assert await stored.problems.list_current(ids, NOW - WINDOW) == {
            ids[0]: [problem, replace(broken, instance="two")],
            ids[1]: [broken],
        }
        assert await stored.problems.list_current(ids, NOW) == {ids[0]: [replace(broken, instance="two")]}
        assert await stored.problems.list_current([], NOW) == {}
        async with stored.store.transaction() as transaction:
            assert await transaction.rule_problems.load_for_update("two") == {ids[0]: replace(broken, instance="two")}
            await report(transaction, {ids[1]: broken}, NOW + 2 * WINDOW)
        assert set(await stored.problems.list_current(ids, NOW + WINDOW)) == {ids[1]}
        history = await stored.problems.history(ids[0], 2)
        assert [(entry.kind, entry.instance, entry.reason) for entry in history] == [
            (RuleHistoryKind.RESUMED, "one", None),
            (RuleHistoryKind.SET_ASIDE, "two", ProblemReason.COMPILE_FAILED),
        ]
        assert (await stored.problems.history(ids[0], 9))[-1] == RuleHistoryEntry(
            kind=RuleHistoryKind.CREATED, create_time=NOW
        )
        async with stored.store.transaction() as transaction:
            await transaction.rules.delete(first, await transaction.rules.take_revision(), NOW)
            await create_all(transaction, first)
        assert await stored.problems.list_current(ids[:1], NOW - WINDOW) == {}
        assert RuleHistoryKind.SET_ASIDE not in {entry.kind for entry in await stored.problems.history(ids[0], 99)}

    async def test_a_name_is_taken_once(self, stored: Stored) -> None:
        async with stored.store.transaction() as transaction:
            await transaction.rules.upsert(rule("a"), RuleEdit.CREATED)
        other = replace(rule("a"), rule=replace(rule("a").rule, id="another", revision=2))
        with pytest.raises(NameTakenError):
            async with stored.store.transaction() as transaction:
                await transaction.rules.upsert(other, RuleEdit.CREATED)

    async def test_a_seed_is_inserted_once(self, stored: Stored) -> None:
        async def insert() -> bool:
            async with stored.store.transaction() as transaction:
                return await transaction.seeds.insert("seed")

        assert sorted(await asyncio.gather(insert(), insert(), insert())) == [False, False, True]


class TestMemoryRules(RuleStoreContract):
    @pytest.fixture
    def stored(self) -> Stored:
        return memory_stored()


@pytest.mark.integration
class TestPostgresRules(RuleStoreContract):
    @pytest.fixture
    async def stored(self, database: str) -> AsyncIterator[Stored]:
        async with migrated(database) as opened:
            yield stored_in(opened)
