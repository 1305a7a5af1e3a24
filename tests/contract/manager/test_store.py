"""What the manager relies on from its store, in memory and in PostgreSQL alike."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest

from services.chassis.postgres import Database, connect, migrate
from services.chassis.settings import PostgresSettings, Secret
from services.domain.problem_reason import ProblemReason
from services.domain.severity import Severity
from services.domain.trace_context import TraceHeaders
from services.manager.adapters.postgres.alert_reader import PostgresAlertReader
from services.manager.adapters.postgres.alerts import _SELECT_EPISODES
from services.manager.adapters.postgres.rule_problems import PostgresRuleProblemReader
from services.manager.adapters.postgres.rules import PostgresRuleReader, PostgresRuleStatisticsReader
from services.manager.adapters.postgres.store import PostgresStore, PostgresTransaction
from services.manager.app import MIGRATIONS, SCHEMA
from services.manager.core.alert import Alert, AlertFilter, AlertHistoryEntry, AlertHistoryKind, NotifiedState
from services.manager.core.alert_changes import AlertCommand, apply_command
from services.manager.core.alert_lifecycle import AlertAction, AlertState, Ended, Fired
from services.manager.core.rule import RuleChanges, RuleEdit, RuleStatistics, StoredRule
from services.manager.core.rule_edits import RuleEnding, create, edit
from services.manager.core.rule_problems import ReportedProblem, RuleHistoryEntry, RuleHistoryKind, apply_report
from services.manager.core.transitions import ReceivedTransition, decide
from services.manager.ports.readers import AlertReader, Page, RuleProblemReader, RuleReader, RuleStatisticsReader
from services.manager.ports.tables import NameTakenError, OpenAlertExistsError, Store, Transaction
from services.rule_language.rule import Draft, RuleType, complete
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import (
    MemoryAlertReader,
    MemoryRuleProblemReader,
    MemoryRuleReader,
    MemoryRuleStatisticsReader,
)
from tests.fakes.transitions import NOW, START, WINDOW, a_subject, a_transition

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@dataclass(frozen=True, slots=True)
class Stored:
    """A store and its readers."""

    store: Store
    alerts: AlertReader
    rules: RuleReader
    statistics: RuleStatisticsReader
    problems: RuleProblemReader


def rule(name: str, *, enabled: bool = True) -> StoredRule:
    draft = Draft(
        name=name,
        type=RuleType.ERROR_THRESHOLD,
        threshold=1.5,
        window=timedelta(seconds=90),
        severity=Severity.LOW,
        labels={"team": "a"},
        enabled=enabled,
    )
    return create(complete(draft), f"id of {name}", 1, now=NOW)


async def process(
    stored: Stored, *transitions: ReceivedTransition, expected_new: Sequence[str] = (), headers: TraceHeaders = ()
) -> list[Alert]:
    async with stored.store.transaction() as transaction:
        context = await transaction.alerts.load_for_update(transitions, expected_new=expected_new)
        processed = await transaction.transitions.insert(transitions)
        _, outcomes = decide(replace(context, processed=processed), transitions, NOW)
        changes = [outcome.change for outcome in outcomes if outcome.change]
        await transaction.alerts.save([(change, headers) for change in changes])
    return [change.alert for change in changes]


async def report(transaction: Transaction, problems: Mapping[str, ReportedProblem], now: datetime) -> None:
    (instance,) = {problem.instance for problem in problems.values()}
    stored = await transaction.rule_problems.load_for_update(instance)
    await transaction.rule_problems.save(instance, apply_report(stored, problems, now), now)


async def create_all(transaction: Transaction, *rules: StoredRule) -> None:
    for each in rules:
        revision = await transaction.rules.take_revision()
        await transaction.rules.upsert(replace(each, rule=replace(each.rule, revision=revision)), RuleEdit.CREATED)


class StoreContract(ABC):
    @pytest.fixture
    @abstractmethod
    def stored(self) -> Stored: ...

    async def test_an_alert_comes_back_as_it_was_with_its_history(self, stored: Stored) -> None:
        (alert,) = await process(stored, a_transition())
        (after,) = await process(stored, a_transition(window=1))
        found = await stored.alerts.get(alert.id)
        assert found is not None
        assert found[0] == after
        assert [entry.kind for entry in found[1]] == [AlertHistoryKind.FIRED, AlertHistoryKind.REPEATED]
        assert await stored.alerts.get("nobody") is None

    async def test_history_keeps_the_order_of_a_batch(self, stored: Stored) -> None:
        first, *_ = await process(stored, *(a_transition(window=n) for n in range(20)), a_transition(Ended, window=20))
        found = await stored.alerts.get(first.id)
        assert found is not None
        assert [entry.kind for entry in found[1]] == [
            AlertHistoryKind.FIRED,
            *[AlertHistoryKind.REPEATED] * 19,
            AlertHistoryKind.RESOLVED,
        ]

    async def test_a_transition_is_processed_once(self, stored: Stored) -> None:
        assert len(await process(stored, a_transition(), a_transition())) == 1
        assert await process(stored, a_transition()) == []

    async def test_a_rolled_back_transition_is_not_processed(self, stored: Stored) -> None:
        async def fail() -> None:
            async with stored.store.transaction() as transaction:
                assert await transaction.transitions.insert([a_transition()]) == set()
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert len(await process(stored, a_transition())) == 1

    async def test_an_episodes_history_is_known(self, stored: Stored) -> None:
        fired, ended = a_transition(), a_transition(Ended, window=3)
        await process(stored, fired, a_transition(window=1), ended)
        late = a_transition(window=2)
        async with stored.store.transaction() as transaction:
            context = await transaction.alerts.load_for_update([late], expected_new=())
        history = context.histories[late.episode_key]
        assert history.ended == ended.evaluation
        assert history.fired is not None
        assert history.fired.time == START + WINDOW

    async def test_a_wrong_guess_is_found(self, stored: Stored) -> None:
        await process(stored, a_transition())
        with pytest.raises(OpenAlertExistsError):
            await process(stored, a_transition(episode=3), expected_new=[a_subject().open_key])
        assert len(await process(stored, a_transition(episode=3))) == 1

    async def test_an_alert_may_end_and_another_fire_in_one_batch(self, stored: Stored) -> None:
        await process(stored, a_transition())
        batch = [
            a_transition(Ended, window=1),
            a_transition(episode=4),
            a_transition(Ended, episode=4, window=5),
            a_transition(episode=8),
        ]
        await process(stored, *batch)
        assert [alert.status.state for alert in await stored.alerts.list_page(AlertFilter(), Page())] == [
            AlertState.FIRING,
            AlertState.RESOLVED,
            AlertState.RESOLVED,
        ]
        assert len(await stored.alerts.list_open()) == 1

    async def test_two_at_once_make_one_alert(self, stored: Stored) -> None:
        resources = [a_subject(f"service {n}") for n in range(10)]
        batches = [
            [a_transition(subject=each, window=n) for each in (resources if n % 2 else reversed(resources))]
            for n in range(6)
        ]
        await asyncio.gather(*(process(stored, *batch) for batch in batches))
        alerts = await stored.alerts.list_open()
        assert len(alerts) == 10
        assert {alert.status.repeat_count for alert in alerts} == {5}

    async def test_commands_load_the_alert_and_store_actor_and_comment(self, stored: Stored) -> None:
        (alert,) = await process(stored, a_transition())
        async with stored.store.transaction() as transaction:
            found = await transaction.alerts.get_for_update(alert.id)
            assert found == alert
            assert await transaction.alerts.get_for_update("nobody") is None
            assert await transaction.alerts.list_open_for_update("rule-1", before=2, limit=1) == [alert]
            assert await transaction.alerts.list_open_for_update("rule-1", before=1, limit=1) == []
            order = AlertCommand(action=AlertAction.ACKNOWLEDGE, actor="ana", comment="nul\0")
            change, _ = apply_command(found, order, now=NOW)
            assert change is not None
            await transaction.alerts.save([(change, [])])
        read = await stored.alerts.get(alert.id)
        assert read is not None
        assert read[0].acknowledged_by == "ana"
        assert read[0].acknowledge_time == NOW

    async def test_rule_endings_wait_in_their_order_until_they_are_deleted(self, stored: Stored) -> None:
        endings = [RuleEnding(revision=n, rule_id="r", comment="why", traceparent="t") for n in (1, 2)]
        async with stored.store.transaction() as transaction:
            for ending in reversed(endings):
                await transaction.rule_endings.insert(ending, NOW)
        for ending in endings:
            async with stored.store.transaction() as transaction:
                assert await transaction.rule_endings.next_for_update() == ending
                await transaction.rule_endings.delete(ending)
        async with stored.store.transaction() as transaction:
            assert await transaction.rule_endings.next_for_update() is None

    async def test_each_history_entry_has_the_trace_in_which_it_was_written(self, stored: Stored) -> None:
        traceparent = f"00-{TRACE}-00f067aa0ba902b7-01".encode()
        (alert,) = await process(stored, a_transition(), headers=[("traceparent", traceparent)])
        entry = AlertHistoryEntry(
            id="e1", alert_id=alert.id, kind=AlertHistoryKind.NOTIFIED, create_time=NOW, trace_id=TRACE[::-1]
        )
        async with stored.store.transaction() as transaction:
            await transaction.alerts.insert_history([entry])
        await process(stored, a_transition(window=1))
        found = await stored.alerts.get(alert.id)
        assert found is not None
        assert [entry.trace_id for entry in found[1]] == [TRACE, TRACE[::-1], ""]

    async def test_history_entries_are_written_once_and_only_to_alerts_that_exist(self, stored: Stored) -> None:
        (alert,) = await process(stored, a_transition())
        before = await stored.alerts.version(alert.id)
        entry = AlertHistoryEntry(
            id="e1",
            alert_id=alert.id,
            kind=AlertHistoryKind.NOTIFIED,
            create_time=NOW,
            channel="slack",
            recipient="https://hooks.slack.com",
            notified_state=NotifiedState.FIRING,
        )
        strange = replace(entry, id="e2", alert_id="nobody")
        async with stored.store.transaction() as transaction:
            assert await transaction.alerts.insert_history([entry, strange]) == 1
            assert await transaction.alerts.insert_history([entry]) == 0
            assert await transaction.alerts.insert_history([]) == 0
        found = await stored.alerts.get(alert.id)
        assert found is not None
        assert found[1][-1] == entry
        assert await stored.alerts.version(alert.id) not in {before, None}
        assert await stored.alerts.version("nobody") is None

    async def test_pages_and_filters_agree_with_the_values(self, stored: Stored) -> None:
        severities = [Severity.LOW, Severity.HIGH]
        transitions = [
            a_transition(subject=a_subject(f"s{n % 3}", rule_id=f"r{n}", severity=severities[n % 2]), episode=n // 2)
            for n in range(9)
        ]
        alerts = await process(stored, *transitions)
        for wanted in (
            AlertFilter(),
            AlertFilter(states=(AlertState.FIRING,), severities=(Severity.LOW,)),
            AlertFilter(states=(AlertState.RESOLVED,)),
            AlertFilter(resource="s1"),
            AlertFilter(rule_id="r3"),
            AlertFilter(fired_after=START + WINDOW, fired_before=START + 3 * WINDOW),
        ):
            expected = sorted(
                (alert for alert in alerts if wanted.selects(alert)),
                key=lambda alert: (alert.fire_time, alert.id),
                reverse=True,
            )
            found: list[Alert] = []
            page = Page(size=2)
            while rows := await stored.alerts.list_page(wanted, page):
                found += rows[:2]
                if len(rows) < 3:
                    break
                page = Page(size=2, after=(rows[1].fire_time.isoformat(), rows[1].id))
            assert found == expected
            open_alerts = [alert for alert in await stored.alerts.list_open() if wanted.selects(alert)]
            assert open_alerts == [alert for alert in reversed(expected) if alert.is_open]
        assert {alert.id for alert in await stored.alerts.list_by_id([alerts[0].id, "nobody"])} == {alerts[0].id}

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

    async def test_a_transaction_without_a_commit_writes_nothing(self, stored: Stored) -> None:
        async with stored.store.transaction(commit=False) as transaction:
            await transaction.rules.take_revision()
            await transaction.rules.upsert(rule("a"), RuleEdit.CREATED)
            assert await transaction.rules.count() == 1
        async with stored.store.transaction() as transaction:
            assert await transaction.rules.count() == 0
            assert await transaction.rules.take_revision() == 1


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def stored(self) -> Stored:
        store = MemoryStore()
        return Stored(
            store,
            MemoryAlertReader(store),
            MemoryRuleReader(store),
            MemoryRuleStatisticsReader(store),
            MemoryRuleProblemReader(store),
        )


def stored_in(database: Database) -> Stored:
    return Stored(
        PostgresStore(database),
        PostgresAlertReader(database),
        PostgresRuleReader(database),
        PostgresRuleStatisticsReader(database),
        PostgresRuleProblemReader(database),
    )


@pytest.mark.integration
class TestPostgresStore(StoreContract):
    @pytest.fixture
    async def stored(self, database: str) -> AsyncIterator[Stored]:
        settings = PostgresSettings(database_url=Secret(database))
        await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
        async with connect(settings, schema=SCHEMA) as opened:
            yield stored_in(opened)


@pytest.mark.integration
async def test_a_batch_does_not_read_the_whole_table_of_transitions(database: str) -> None:
    settings = PostgresSettings(database_url=Secret(database))
    await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
    async with connect(settings, schema=SCHEMA) as opened, opened.transaction() as connection:
        await connection.execute(
            "INSERT INTO alert_transitions"
            " (id, fingerprint, state, episode, selection, revision, decide_time, severity, open_key)"
            " SELECT n, n, 'FIRING', now(), 1, 1, now(), 'LOW', n FROM generate_series(1, 5000) AS n"
        )
        await connection.execute("ANALYZE alert_transitions")
        keys = [str(number) for number in range(500)]
        plan = await connection.fetch(f"EXPLAIN {_SELECT_EPISODES}", keys, [NOW] * len(keys))
    assert "alert_transitions_by_episode" in "".join(row[0] for row in plan)


@pytest.mark.integration
async def test_a_batch_is_written_with_the_same_statements_however_large_it_is(database: str) -> None:
    settings = PostgresSettings(database_url=Secret(database))
    await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)

    async def statements(count: int, kind: type[Fired] | type[Ended]) -> int:
        transitions = [a_transition(kind, subject=a_subject(f"service {count} {n}")) for n in range(count)]
        seen: list[str] = []
        async with connect(settings, schema=SCHEMA) as opened, opened.transaction() as connection:
            with connection.query_logger(lambda record: seen.append(record.query)):
                transaction = PostgresTransaction(connection)
                book = await transaction.alerts.load_for_update(transitions, expected_new=())
                _, outcomes = decide(book, transitions, NOW)
                headers = [("traceparent", b"t"), ("other", b"\xff")]
                await transaction.alerts.save([(outcome.change, headers) for outcome in outcomes if outcome.change])
        return len(seen)

    for kind in (Fired, Ended):
        assert await statements(300, kind) - await statements(2, kind) == 0
    async with connect(settings, schema=SCHEMA) as opened:
        rows = await opened.fetch("select distinct traceparent from alerts")
        assert [row["traceparent"] for row in rows] == ["t"]
