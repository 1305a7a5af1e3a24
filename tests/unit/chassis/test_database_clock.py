"""The database's time between two answers."""

from datetime import UTC, datetime, timedelta

from services.chassis.postgres import DatabaseClock
from tests.fakes.clock import FakeClock

HOST = datetime(2026, 1, 1, tzinfo=UTC)
SERVER = HOST + timedelta(seconds=25)


def test_it_goes_on_from_the_middle_of_the_question() -> None:
    host = FakeClock(HOST)
    clock = DatabaseClock(host)
    assert clock.now() == HOST
    asked = host.monotonic()
    host.advance(timedelta(seconds=2))
    clock.learn(SERVER, asked, host.monotonic())
    assert clock.now() == SERVER + timedelta(seconds=1)
    host.advance(timedelta(seconds=10))
    assert clock.now() == SERVER + timedelta(seconds=11)


def test_an_answer_that_took_long_is_passed_over_once_there_is_another() -> None:
    host = FakeClock(HOST)
    clock = DatabaseClock(host)
    clock.learn(SERVER, host.monotonic(), host.monotonic())
    clock.learn(SERVER + timedelta(hours=1), host.monotonic() - 1, host.monotonic())
    assert clock.now() == SERVER
