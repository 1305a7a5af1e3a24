"""What the table of request ids promises: one suite for the one in memory and the real one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from services.chassis.postgres import Database, connect
from services.chassis.request_ids import INDEX_SQL, PURGE_SQL, TABLE_SQL, PostgresRequests, Requests
from services.chassis.settings import PostgresSettings, Secret
from tests.fakes.requests import MemoryRequests

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

Transaction = Callable[[], AbstractAsyncContextManager[Requests]]


class RequestsContract:
    async def test_a_request_gets_the_first_response_for_a_day(self, transaction: Transaction) -> None:
        async def ask(later: timedelta) -> tuple[str, bytes] | None:
            async with transaction() as requests:
                first = await requests.insert("r1", str(later), now=NOW + later)
                if first is None:
                    await requests.update_response("r1", f"{later}!".encode())
                return first

        assert await ask(timedelta(0)) is None
        assert await ask(timedelta(hours=23)) == ("0:00:00", b"0:00:00!")
        assert await ask(timedelta(hours=25)) is None
        assert await ask(timedelta(hours=26)) == ("1 day, 1:00:00", b"1 day, 1:00:00!")

    async def test_of_several_at_once_with_one_id_one_is_first(self, transaction: Transaction) -> None:
        async def ask(number: int) -> tuple[str, bytes] | None:
            async with transaction() as requests:
                first = await requests.insert("r1", "d", now=NOW)
                if first is None:
                    await requests.update_response("r1", b"%d" % number)
                return first

        firsts = await asyncio.gather(*map(ask, range(5)))
        assert firsts.count(None) == 1
        assert len(set(firsts)) == 2

    async def test_ids_do_not_meet(self, transaction: Transaction) -> None:
        async with transaction() as requests:
            assert await requests.insert("r1", "d", now=NOW) is None
            assert await requests.insert("r2", "d", now=NOW) is None


class TestMemoryRequests(RequestsContract):
    @pytest.fixture
    def transaction(self) -> Transaction:
        requests, lock = MemoryRequests(), asyncio.Lock()

        @asynccontextmanager
        async def begin() -> AsyncIterator[Requests]:
            async with lock:
                yield requests

        return begin


@pytest.mark.integration
class TestPostgresRequests(RequestsContract):
    @pytest.fixture
    async def opened(self, empty_database: str) -> AsyncIterator[Database]:
        async with connect(PostgresSettings(database_url=Secret(empty_database)), schema="public") as opened:
            await opened.fetch(TABLE_SQL)
            await opened.fetch(INDEX_SQL)
            yield opened

    @pytest.fixture
    def transaction(self, opened: Database) -> Transaction:
        @asynccontextmanager
        async def begin() -> AsyncIterator[Requests]:
            async with opened.transaction() as connection:
                yield PostgresRequests(connection)

        return begin

    async def test_old_ones_are_purged_in_batches(self, opened: Database) -> None:
        async with opened.transaction() as connection:
            for hours in range(4):
                await PostgresRequests(connection).insert(f"r{hours}", "d", now=NOW + timedelta(hours=hours))
        cutoff = NOW + timedelta(hours=2, minutes=30)
        assert [len(await opened.fetch(PURGE_SQL, cutoff, 2)) for _ in range(3)] == [2, 1, 0]
        assert [row["request_id"] for row in await opened.fetch("SELECT request_id FROM request_ids")] == ["r3"]
