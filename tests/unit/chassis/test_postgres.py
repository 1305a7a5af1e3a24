"""The database's clock between two responses, and what is logged while it is away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from services.chassis.failures import StoreUnavailable
from services.chassis.postgres import Database, DatabaseClock
from tests.fakes.clock import FakeClock

HOST = datetime(2026, 1, 1, tzinfo=UTC)
SERVER = HOST + timedelta(seconds=25)


def test_it_continues_from_the_middle_of_the_request() -> None:
    host = FakeClock(HOST)
    clock = DatabaseClock(host)
    assert clock.now() == HOST
    asked = host.monotonic()
    host.advance(timedelta(seconds=2))
    clock.sync(SERVER, asked, host.monotonic())
    assert clock.now() == SERVER + timedelta(seconds=1)
    host.advance(timedelta(seconds=10))
    assert clock.now() == SERVER + timedelta(seconds=11)


def test_a_slow_response_is_ignored_once_the_clock_is_set() -> None:
    host = FakeClock(HOST)
    clock = DatabaseClock(host)
    clock.sync(SERVER, host.monotonic(), host.monotonic())
    clock.sync(SERVER + timedelta(hours=1), host.monotonic() - 1, host.monotonic())
    assert clock.now() == SERVER


class Pool:
    """Raises these errors one after the other, then lends connections."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    @asynccontextmanager
    async def acquire(self, **_: Any) -> AsyncIterator[None]:
        if self.errors:
            raise self.errors.pop(0)
        yield

    async def expire_connections(self) -> None: ...


async def test_while_the_server_is_away_the_same_error_is_logged_ever_more_seldom() -> None:
    refused, slow = ConnectionRefusedError("away"), ConnectionResetError("gone")
    database = Database(cast("Any", Pool(*[refused] * 10, slow)), "manager", None)
    with capture_logs() as logs:
        for _ in range(11):
            with pytest.raises(StoreUnavailable):
                async with database.connection():
                    pass
    lines = [(line["event"], line["error"], line["attempt"]) for line in logs]
    of_the_refused = [("database_failed", "ConnectionRefusedError", attempt) for attempt in (0, 1, 2, 4, 8)]
    assert lines == [*of_the_refused, ("database_failed", "ConnectionResetError", 0)]
    async with database.connection():
        pass
    database.pool = cast("Any", Pool(refused))
    with capture_logs() as logs, pytest.raises(StoreUnavailable):
        async with database.connection():
            pass
    assert [line["attempt"] for line in logs] == [0]
