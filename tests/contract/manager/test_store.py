"""What the manager relies on from its store, asked of the one in memory and of PostgreSQL alike."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from services.chassis.postgres import connect, migrate
from services.chassis.settings import PostgresSettings, Secret
from services.domain.alert import Command, Ended, Fired, State
from services.domain.severity import Severity
from services.manager.adapters.postgres.alert_reader import PostgresAlertReader
from services.manager.adapters.postgres.rule_reader import PostgresRuleReader
from services.manager.adapters.postgres.store import PostgresStore, PostgresWriting
from services.manager.app import MIGRATIONS, SCHEMA
from services.manager.core.alert import Alert, Entry, Kind
from services.manager.core.commands.change import Order, carry_out
from services.manager.core.commands.rules import Ending, created, edited
from services.manager.core.commands.transitions import Transition, decide
from services.manager.core.queries.filters import AlertFilter, Page, RuleFilter
from services.manager.core.rule import Edit, KeptRule, RuleChanges
from services.manager.ports.commands import Headers, NameTakenError, OpenAlertExistsError, Request, Store
from services.manager.ports.queries import AlertReader, RuleReader
from services.rule_language.rule import Draft, RuleType, complete
from tests.fakes.manager import MemoryAlertReader, MemoryRuleReader, MemoryStore
from tests.unit.manager.stories import NOW, START, WINDOW, subject, word

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@dataclass(frozen=True, slots=True)
class Kept:
    """A store and its readers."""

    store: Store
    alerts: AlertReader
    rules: RuleReader


def rule(name: str, *, enabled: bool = True) -> KeptRule:
    draft = Draft(
        name=name,
        type=RuleType.ERROR_THRESHOLD,
        threshold=1.5,
        window=timedelta(seconds=90),
        severity=Severity.LOW,
        labels={"team": "a"},
        enabled=enabled,
    )
    return created(complete(draft), f"id of {name}", 1, now=NOW)


async def hear(kept: Kept, *words: Transition, expected_new: Sequence[str] = (), headers: Headers = ()) -> list[Alert]:
    async with kept.store.writing() as writing:
        book = await writing.alerts.book(words, expected_new=expected_new)
        _, outcomes = decide(book, words, NOW)
        changes = [outcome.change for outcome in outcomes if outcome.change]
        await writing.alerts.save([(change, headers) for change in changes])
    return [change.alert for change in changes]


class StoreContract(ABC):
    @pytest.fixture
    @abstractmethod
    def kept(self) -> Kept: ...

    async def test_an_alert_comes_back_as_it_was_with_its_history(self, kept: Kept) -> None:
        (alert,) = await hear(kept, word())
        (after,) = await hear(kept, word(window=1))
        found = await kept.alerts.get(alert.id)
        assert found is not None
        assert found[0] == after
        assert [entry.kind for entry in found[1]] == [Kind.FIRED, Kind.REPEATED]
        assert await kept.alerts.get("nobody") is None

    async def test_history_keeps_the_order_of_a_batch(self, kept: Kept) -> None:
        first, *_ = await hear(kept, *(word(window=n) for n in range(20)), word(Ended, window=20))
        found = await kept.alerts.get(first.id)
        assert found is not None
        assert [entry.kind for entry in found[1]] == [Kind.FIRED, *[Kind.REPEATED] * 19, Kind.RESOLVED]

    async def test_a_transition_is_done_once(self, kept: Kept) -> None:
        assert len(await hear(kept, word(), word())) == 1
        assert await hear(kept, word()) == []

    async def test_a_rolled_back_transition_is_not_done(self, kept: Kept) -> None:
        async def fail() -> None:
            async with kept.store.writing() as writing:
                await writing.alerts.book([word()], expected_new=())
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert len(await hear(kept, word())) == 1

    async def test_an_episodes_past_is_known(self, kept: Kept) -> None:
        fired, ended = word(), word(Ended, window=3)
        await hear(kept, fired, word(window=1), ended)
        late = word(window=2)
        async with kept.store.writing() as writing:
            book = await writing.alerts.book([late], expected_new=())
        memory = book.past[late.episode]
        assert memory.ended == ended.verdict
        assert memory.fired is not None
        assert memory.fired.time == START + WINDOW

    async def test_a_wrong_guess_is_found_out(self, kept: Kept) -> None:
        await hear(kept, word())
        with pytest.raises(OpenAlertExistsError):
            await hear(kept, word(episode=3), expected_new=[subject().open_key])
        assert len(await hear(kept, word(episode=3))) == 1

    async def test_an_alert_may_end_and_another_begin_in_one_batch(self, kept: Kept) -> None:
        await hear(kept, word())
        batch = [word(Ended, window=1), word(episode=4), word(Ended, episode=4, window=5), word(episode=8)]
        await hear(kept, *batch)
        assert [alert.life.state for alert in await kept.alerts.page(AlertFilter(), Page())] == [
            State.FIRING,
            State.RESOLVED,
            State.RESOLVED,
        ]
        assert len(await kept.alerts.open(AlertFilter())) == 1

    async def test_two_at_once_make_one_alert(self, kept: Kept) -> None:
        resources = [subject(f"service {n}") for n in range(10)]
        batches = [
            [word(about=each, window=n) for each in (resources if n % 2 else reversed(resources))] for n in range(6)
        ]
        await asyncio.gather(*(hear(kept, *batch) for batch in batches))
        alerts = await kept.alerts.open(AlertFilter())
        assert len(alerts) == 10
        assert {alert.life.repeat_count for alert in alerts} == {5}

    async def test_commands_find_the_alert_and_keep_what_was_said(self, kept: Kept) -> None:
        (alert,) = await hear(kept, word())
        async with kept.store.writing() as writing:
            found = await writing.alerts.find(alert.id)
            assert found == alert
            assert await writing.alerts.find("nobody") is None
            assert await writing.alerts.open_of("rule-1", before=2, limit=1) == [alert]
            assert await writing.alerts.open_of("rule-1", before=1, limit=1) == []
            order = Order(command=Command.ACKNOWLEDGE, actor="ana", comment="nul\0")
            change, _ = carry_out(found, order, now=NOW)
            assert change is not None
            await writing.alerts.save([(change, [])])
        read = await kept.alerts.get(alert.id)
        assert read is not None
        assert read[0].acknowledged_by == "ana"
        assert read[0].acknowledge_time == NOW

    async def test_endings_wait_in_their_order_until_they_are_done(self, kept: Kept) -> None:
        endings = [Ending(revision=n, rule_id="r", comment="why", traceparent="t") for n in (1, 2)]
        async with kept.store.writing() as writing:
            for ending in reversed(endings):
                await writing.endings.add(ending, NOW)
        for ending in endings:
            async with kept.store.writing() as writing:
                assert await writing.endings.next() == ending
                await writing.endings.done(ending)
        async with kept.store.writing() as writing:
            assert await writing.endings.next() is None

    async def test_history_says_in_which_trace_each_line_was_written(self, kept: Kept) -> None:
        traceparent = f"00-{TRACE}-00f067aa0ba902b7-01".encode()
        (alert,) = await hear(kept, word(), headers=[("traceparent", traceparent)])
        note = Entry(id="e1", alert_id=alert.id, kind=Kind.NOTIFIED, create_time=NOW, trace_id=TRACE[::-1])
        async with kept.store.writing() as writing:
            await writing.alerts.note([note])
        await hear(kept, word(window=1))
        found = await kept.alerts.get(alert.id)
        assert found is not None
        assert [entry.trace_id for entry in found[1]] == [TRACE, TRACE[::-1], ""]

    async def test_notes_are_written_once_and_only_to_alerts_that_exist(self, kept: Kept) -> None:
        (alert,) = await hear(kept, word())
        before = await kept.alerts.version(alert.id)
        entry = Entry(id="e1", alert_id=alert.id, kind=Kind.NOTIFIED, create_time=NOW, channel="slack")
        strange = replace(entry, id="e2", alert_id="nobody")
        async with kept.store.writing() as writing:
            assert await writing.alerts.note([entry, strange]) == 1
            assert await writing.alerts.note([entry]) == 0
            assert await writing.alerts.note([]) == 0
        found = await kept.alerts.get(alert.id)
        assert found is not None
        assert found[1][-1] == entry
        assert await kept.alerts.version(alert.id) not in {before, None}
        assert await kept.alerts.version("nobody") is None

    async def test_pages_and_filters_agree_with_the_values(self, kept: Kept) -> None:
        severities = [Severity.LOW, Severity.HIGH]
        words = [
            word(about=subject(f"s{n % 3}", rule_id=f"r{n}", severity=severities[n % 2]), episode=n // 2)
            for n in range(9)
        ]
        alerts = await hear(kept, *words)
        for wanted in (
            AlertFilter(),
            AlertFilter(states=(State.FIRING,), severities=(Severity.LOW,)),
            AlertFilter(states=(State.RESOLVED,)),
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
            while rows := await kept.alerts.page(wanted, page):
                found += rows[:2]
                if len(rows) < 3:
                    break
                page = Page(size=2, after=(rows[1].fire_time.isoformat(), rows[1].id))
            assert found == expected
            assert list(await kept.alerts.open(wanted)) == [each for each in reversed(expected) if each.life.is_open]
        assert {alert.id for alert in await kept.alerts.named([alerts[0].id, "nobody"])} == {alerts[0].id}

    async def test_rules_come_back_as_they_were(self, kept: Kept) -> None:
        first, second = rule("a"), rule("B", enabled=False)
        async with kept.store.writing() as writing:
            for n, each in enumerate((first, second), 1):
                assert await writing.rules.next_revision() == n
                await writing.rules.keep(replace(each, rule=replace(each.rule, revision=n)), Edit.CREATED)
            assert await writing.rules.find("nobody") is None
            assert await writing.rules.count() == 2
        assert await kept.rules.get(first.rule.id) == first
        assert [each.rule.name for each in await kept.rules.page(RuleFilter(), Page(size=1))] == ["B", "a"]
        assert [each.rule.name for each in await kept.rules.page(RuleFilter(), Page(after=("B",)))] == ["a"]
        assert [each.rule.name for each in await kept.rules.page(RuleFilter(enabled=False), Page())] == ["B"]
        whole = await kept.rules.enabled()
        assert (whole.revision, whole.rules) == (2, (first,))
        before = await kept.rules.version()
        assert whole.version == before
        async with kept.store.writing() as writing:
            found = await writing.rules.find(first.rule.id)
            assert found == first
            revision = await writing.rules.next_revision()
            after = edited(found, replace(found.rule, enabled=False), revision, is_fresh=False, now=NOW)
            await writing.rules.keep(after, Edit.UPDATED)
            await writing.rules.remove(second, await writing.rules.next_revision(), NOW)
        assert await kept.rules.get(second.rule.id) is None
        assert (await kept.rules.enabled()).rules == ()
        assert (await kept.rules.enabled()).revision == 4
        assert await kept.rules.version() != before

    async def test_what_became_of_the_rules_since_a_revision_is_known(self, kept: Kept) -> None:
        async with kept.store.writing() as writing:
            rules = []
            for name in "abc":
                revision = await writing.rules.next_revision()
                rules.append(replace(rule(name), rule=replace(rule(name).rule, revision=revision)))
                await writing.rules.keep(rules[-1], Edit.CREATED)
        known = await kept.rules.enabled()
        assert await kept.rules.changes(known.revision) == RuleChanges(revision=known.revision, epoch=known.epoch)
        first, second, third = rules
        async with kept.store.writing() as writing:
            changes = (
                replace(first.rule, threshold=2.0, revision=await writing.rules.next_revision()),
                replace(second.rule, enabled=False, revision=await writing.rules.next_revision()),
            )
            for each in changes:
                await writing.rules.keep(replace(first, rule=each), Edit.UPDATED)
            await writing.rules.remove(third, await writing.rules.next_revision(), NOW)
        found = await kept.rules.changes(known.revision)
        assert (found.revision, [each.rule for each in found.rules]) == (6, [changes[0]])
        assert set(found.removed) == {second.rule.id, third.rule.id}
        whole = await kept.rules.enabled()
        assert (known.changed(found).rules, known.changed(found).version) == (whole.rules, whole.version)
        assert set((await kept.rules.changes(5)).removed) == {third.rule.id}

    async def test_a_name_is_taken_once(self, kept: Kept) -> None:
        async with kept.store.writing() as writing:
            await writing.rules.keep(rule("a"), Edit.CREATED)
        other = replace(rule("a"), rule=replace(rule("a").rule, id="another", revision=2))
        with pytest.raises(NameTakenError):
            async with kept.store.writing() as writing:
                await writing.rules.keep(other, Edit.CREATED)

    async def test_a_seed_is_sown_once(self, kept: Kept) -> None:
        async def sow() -> bool:
            async with kept.store.writing() as writing:
                return await writing.rules.sow("seed")

        assert sorted(await asyncio.gather(sow(), sow(), sow())) == [False, False, True]

    async def test_a_request_is_answered_as_the_first_time_for_a_day(self, kept: Kept) -> None:
        request = Request(id="r1", body="b1")

        async def ask(later: timedelta) -> bytes | None:
            async with kept.store.writing() as writing:
                first = await writing.requests.first(replace(request, body=str(later)), NOW + later)
                if first is None:
                    await writing.requests.answer(replace(request, body=str(later)), str(later).encode())
                return first.answer if first else None

        assert await ask(timedelta(0)) is None
        assert await ask(timedelta(hours=23)) == b"0:00:00"
        assert await ask(timedelta(hours=25)) is None
        assert await ask(timedelta(hours=26)) == b"1 day, 1:00:00"

    async def test_of_two_at_once_with_one_request_id_one_is_first(self, kept: Kept) -> None:
        async def ask(n: int) -> bool:
            async with kept.store.writing() as writing:
                first = await writing.requests.first(Request(id="r1", body="b"), NOW)
                if first is None:
                    await writing.requests.answer(Request(id="r1", body="b"), b"%d" % n)
                return first is None

        assert sum(await asyncio.gather(*map(ask, range(5)))) == 1


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def kept(self) -> Kept:
        store = MemoryStore()
        return Kept(store, MemoryAlertReader(store), MemoryRuleReader(store))


@pytest.mark.integration
class TestPostgresStore(StoreContract):
    @pytest.fixture
    async def kept(self, database: str) -> AsyncIterator[Kept]:
        settings = PostgresSettings(database_url=Secret(database))
        await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
        async with connect(settings, schema=SCHEMA) as opened:
            yield Kept(PostgresStore(opened), PostgresAlertReader(opened), PostgresRuleReader(opened))


@pytest.mark.integration
async def test_a_batch_is_written_with_the_same_statements_however_large_it_is(database: str) -> None:
    settings = PostgresSettings(database_url=Secret(database))
    await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)

    async def statements(count: int, kind: type[Fired] | type[Ended]) -> int:
        words = [word(kind, about=subject(f"service {count} {n}")) for n in range(count)]
        seen: list[str] = []
        async with connect(settings, schema=SCHEMA) as opened, opened.transaction() as connection:
            with connection.query_logger(lambda record: seen.append(record.query)):
                writing = PostgresWriting(connection)
                book = await writing.alerts.book(words, expected_new=())
                _, outcomes = decide(book, words, NOW)
                headers = [("traceparent", b"t"), ("other", b"\xff")]
                await writing.alerts.save([(outcome.change, headers) for outcome in outcomes if outcome.change])
        return len(seen)

    for kind in (Fired, Ended):
        assert await statements(300, kind) - await statements(2, kind) == 0
    async with connect(settings, schema=SCHEMA) as opened:
        rows = await opened.fetch("select distinct header_names, header_values from outbox")
        assert [tuple(row) for row in rows] == [(["traceparent", "other"], [b"t", b"\xff"])]
