"""What the manager relies on from the store of silences, in memory and in PostgreSQL alike."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from services.chassis.migrations import migrate
from services.chassis.postgres import Database, connect
from services.chassis.settings import PostgresSettings, Secret
from services.manager.adapters.postgres.alert_reader import PostgresAlertReader, PostgresMatchedAlertReader
from services.manager.adapters.postgres.retention import PostgresRetention
from services.manager.adapters.postgres.silences import PostgresSilenceReader
from services.manager.adapters.postgres.store import PostgresStore
from services.manager.adapters.tenant_caches import SilenceCache
from services.manager.app import MIGRATIONS, SCHEMA
from services.manager.core.alert import Alert
from services.manager.core.alert_changes import silence as silenced
from services.manager.core.alert_lifecycle import Ended
from services.manager.core.silence import Silence, SilenceState, expire
from services.manager.core.transitions import ReceivedTransition, decide
from services.manager.ports.readers import AlertReader, MatchedAlertReader, Page, RetentionCutoffs, SilenceReader
from services.manager.ports.tables import Store
from tests.fakes.clock import FakeClock
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import MemoryAlertReader, MemoryMatchedAlertReader, MemorySilenceReader
from tests.fakes.silences import HOUR, a_silence, recurring
from tests.fakes.transitions import NOW, a_subject, a_transition


@dataclass(frozen=True, slots=True)
class Stored:
    """A store and its readers."""

    store: Store
    silences: SilenceReader
    alerts: AlertReader
    matched: MatchedAlertReader

    async def put(self, *silences: Silence) -> None:
        for each in silences:
            async with self.store.transaction() as transaction:
                await transaction.silences.upsert(each, await transaction.silences.take_revision())

    async def process(self, *transitions: ReceivedTransition) -> list[Alert]:
        async with self.store.transaction() as transaction:
            context = await transaction.alerts.load_for_update(transitions, expected_new=())
            processed = await transaction.transitions.insert(transitions)
            _, outcomes = decide(replace(context, processed=processed), transitions, NOW)
            await transaction.alerts.save([(change, ()) for each in outcomes for change in each.changes])
        return [change.alert for each in outcomes for change in each.changes]

    async def listed(self, page: Page, prefix: str = "", *, expired: bool | None = None) -> list[str]:
        found = await self.silences.list_page(page, id_prefix=prefix, expired=expired, now=NOW + HOUR)
        return [each.id for each in found]


RECURRENCE = recurring("FREQ=WEEKLY;BYDAY=SU;UNTIL=20260301")
BY_HOURS = recurring("FREQ=HOURLY;COUNT=3", zone="America/New_York")
BY_DAYS = recurring("FREQ=DAILY;COUNT=3", zone="Pacific/Kiritimati")


class SilenceStoreContract(ABC):
    """What both do."""

    @abstractmethod
    @pytest.fixture
    def stored(self, database: str) -> Stored | AsyncIterator[Stored]: ...

    async def test_a_silence_comes_back_as_it_was(self, stored: Stored) -> None:
        silences = [
            a_silence('service=~"pay.*", "user tier"!="gold \\"x\\""', id="a", comment="é\n"),
            a_silence("", id="b", alert_ids=("x", "y"), end_time=None),
            a_silence(id="c", recurrence=RECURRENCE, end_time=RECURRENCE.end),
            a_silence(id="d", recurrence=recurring("FREQ=HOURLY;INTERVAL=5"), end_time=None),
            a_silence(id="e", recurrence=BY_HOURS, end_time=BY_HOURS.end),
            a_silence(id="f", recurrence=BY_DAYS, end_time=BY_DAYS.end),
        ]
        await stored.put(*silences)
        for each in silences:
            assert await stored.silences.get(each.id) == each
        assert await stored.silences.get("nobody") is None
        async with stored.store.transaction() as transaction:
            assert await transaction.silences.get_for_update("a") == silences[0]
            assert await transaction.silences.get_for_update("nobody") is None
            assert await transaction.silences.count(NOW) == 6
            assert await transaction.silences.count(NOW + HOUR) == 5

    async def test_of_a_stored_silence_only_its_end_changes(self, stored: Stored) -> None:
        await stored.put(a_silence())
        await stored.put(replace(expire(a_silence(), now=NOW), comment="another"))
        assert await stored.silences.get("s") == expire(a_silence(), now=NOW)

    async def test_a_cache_follows_all_changes(self, stored: Stored) -> None:
        await stored.put(a_silence(id="a"), expire(a_silence(id="b"), now=NOW))
        clock = FakeClock(NOW)
        cache = SilenceCache(stored.silences, clock)

        async def known() -> tuple[str, ...]:
            await cache.refresh()
            return cache.index(clock.now()).silencing("", a_subject().labels)

        assert await known() == ("a",)
        index = cache.index(NOW)
        await stored.put(a_silence(id="c"))
        assert await known() == ("a", "c")
        assert cache.index(NOW) is not index
        await stored.put(expire(a_silence(id="a"), now=NOW))
        assert await known() == ("c",)
        version = await stored.silences.version()
        assert (await stored.silences.changes_since(version, NOW)).silences == ()
        assert (await stored.silences.changes_since(f"other.{version.rpartition('.')[2]}", NOW)).is_whole
        clock.advance(HOUR)
        assert await known() == ()

    async def test_pages_are_those_of_the_newest_first(self, stored: Stored) -> None:
        await stored.put(
            *(
                a_silence(id=f"{n}x", create_time=NOW + timedelta(seconds=n // 2), end_time=NOW + HOUR * (1 + n % 2))
                for n in range(5)
            )
        )
        assert await stored.listed(Page(size=9)) == ["4x", "3x", "2x", "1x", "0x"]
        after = ((NOW + timedelta(seconds=1)).isoformat(), "3x")
        assert await stored.listed(Page(size=1, after=after)) == ["2x", "1x"]
        assert await stored.listed(Page(), expired=True) == ["4x", "2x", "0x"]
        assert await stored.listed(Page(), expired=False) == ["3x", "1x"]
        assert await stored.listed(Page(), "3") == ["3x"]

    async def test_a_silence_of_named_alerts_ends_when_all_are_resolved(self, stored: Stored) -> None:
        other = a_transition(subject=a_subject("other"))
        first, second = await stored.process(a_transition(), other)
        await stored.put(a_silence("", alert_ids=(first.id, second.id), end_time=None), a_silence(id="t"))
        for transition, ended in ((a_transition(Ended, window=1), 0), (None, 0)):
            if transition is not None:
                await stored.process(transition)
            async with stored.store.transaction() as transaction:
                assert await transaction.silences.expire_resolved(NOW) == ended
        await stored.process(a_transition(Ended, window=1, subject=a_subject("other")))
        async with stored.store.transaction() as transaction:
            assert await transaction.silences.expire_resolved(NOW) == 1
            assert await transaction.silences.expire_resolved(NOW) == 0
        found = await stored.silences.get("s")
        assert found is not None
        assert found.state(NOW) is SilenceState.EXPIRED

    async def test_what_an_alert_remembers_of_silences_comes_back(self, stored: Stored) -> None:
        alert, other = await stored.process(a_transition(), a_transition(subject=a_subject("other")))
        async with stored.store.transaction() as transaction:
            (locked,) = await transaction.alerts.lock_open([alert.id, "nobody"])
            change = silenced(locked, ("s", "t"), now=NOW)
            assert change is not None
            await transaction.alerts.save([(change, ())])
        found = await stored.alerts.get(alert.id)
        assert found is not None
        assert found[0] == change.alert
        found_silenced = await stored.matched.list_silenced()
        assert [(each.id, each.silenced_by) for each in found_silenced] == [(alert.id, ("s", "t"))]
        assert found_silenced[0].labels == alert.subject.labels
        assert {each.id for each in await stored.matched.list_open()} == {alert.id, other.id}
        assert len(await stored.matched.list_recent(alert.fire_time, 1)) == 1
        assert await stored.matched.list_recent(alert.fire_time + HOUR, 9) == []


class TestMemory(SilenceStoreContract):
    @pytest.fixture
    def stored(self) -> Stored:
        store = MemoryStore()
        return Stored(store, MemorySilenceReader(store), MemoryAlertReader(store), MemoryMatchedAlertReader(store))


@pytest.mark.integration
class TestPostgres(SilenceStoreContract):
    @pytest.fixture
    async def database_of(self, database: str) -> AsyncIterator[Database]:
        settings = PostgresSettings(database_url=Secret(database))
        await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
        async with connect(settings, schema=SCHEMA) as opened:
            yield opened

    @pytest.fixture
    def stored(self, database_of: Database) -> Stored:
        return Stored(
            PostgresStore(database_of),
            PostgresSilenceReader(database_of),
            PostgresAlertReader(database_of),
            PostgresMatchedAlertReader(database_of),
        )

    async def test_expired_silences_are_purged(self, stored: Stored, database_of: Database) -> None:
        await stored.put(
            a_silence(id="ended"),
            expire(a_silence(id="by hand", end_time=NOW + 99 * HOUR), now=NOW),
            a_silence(id="kept", end_time=NOW + 99 * HOUR),
            a_silence(id="recurs", recurrence=recurring("FREQ=DAILY"), end_time=None),
        )
        long_ago = NOW - 999 * HOUR
        cutoffs = RetentionCutoffs(
            alerts=long_ago,
            incidents=long_ago,
            transitions=long_ago,
            requests=long_ago,
            changes=long_ago,
            silences=NOW + 2 * HOUR,
            audit=long_ago,
        )
        assert await PostgresRetention(database_of).purge(cutoffs) == 2
        assert sorted(await stored.listed(Page())) == ["kept", "recurs"]

    async def test_an_alert_that_is_locked_is_left_out(self, stored: Stored) -> None:
        (alert,) = await stored.process(a_transition())
        async with stored.store.transaction() as first, stored.store.transaction() as second:
            assert len(await first.alerts.lock_open([alert.id])) == 1
            assert await second.alerts.lock_open([alert.id]) == []
