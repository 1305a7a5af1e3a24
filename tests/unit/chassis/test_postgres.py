"""The database's clock between two responses."""

from datetime import UTC, datetime, timedelta

from services.chassis.postgres import DatabaseClock
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
