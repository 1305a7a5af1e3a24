"""What the manager relies on from its store, in memory and in PostgreSQL alike."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from services.chassis.migrations import migrate
from services.chassis.postgres import connect
from services.chassis.settings import PostgresSettings, Secret
from services.domain.severity import Severity
from services.manager.adapters.postgres.alerts import _SELECT_EPISODES
from services.manager.adapters.postgres.store import PostgresTransaction
from services.manager.app import MIGRATIONS, SCHEMA
from services.manager.core.alert import Alert, AlertFilter, AlertHistoryEntry, AlertHistoryKind, NotifiedState
from services.manager.core.alert_changes import AlertCommand, apply_command
from services.manager.core.alert_lifecycle import AlertAction, AlertState, Ended, Fired
from services.manager.core.rule import RuleEdit
from services.manager.core.rule_edits import RuleEnding
from services.manager.core.transitions import decide
from services.manager.ports.readers import Page
from services.manager.ports.tables import OpenAlertExistsError
from tests.contract.manager.stores import TRACE, Stored, memory_stored, migrated, process, rule, stored_in
from tests.fakes.transitions import NOW, START, WINDOW, a_subject, a_transition


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
            # The newest of a rule.
            assert await transaction.rule_endings.load({"r", "other"}) == {"r": endings[1]}
            assert await transaction.rule_endings.load(set()) == {}
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
        return memory_stored()


@pytest.mark.integration
class TestPostgresStore(StoreContract):
    @pytest.fixture
    async def stored(self, database: str) -> AsyncIterator[Stored]:
        async with migrated(database) as opened:
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
