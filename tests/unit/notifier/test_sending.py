"""One attempt, with a channel and a record of outcomes that do what the test says."""

from datetime import timedelta

import pytest

from services.chassis.backoff import Backoff
from services.chassis.breaker import Breaker, BreakerState
from services.chassis.failures import StoreUnavailable
from services.notifier.core.answer import Accepted, AskedToWait, Misconfigured, Refused, TurnedAway, Unavailable
from services.notifier.core.delivery import Delivery, Patience, Reason, State, Turn
from services.notifier.core.message import Kind
from services.notifier.core.retry import RetryPolicy
from services.notifier.metrics import Metrics
from services.notifier.ports import Job
from services.notifier.worker.sending import Sender
from tests.fakes.clock import FakeClock
from tests.fakes.notifications import notification
from tests.fakes.notifier import NOW, SPACE, FakeChannel, FakeOutcomes

RECORD = notification(alert="alert").SerializeToString()


def job(record: bytes = RECORD, *, turn: Turn = Turn.REGULAR, attempts: int = 1) -> Job:
    delivery = Delivery(
        id=SPACE,
        notification_id=SPACE,
        alert_id="alert",
        kind=Kind.FIRING,
        channel="slack",
        created_at=NOW,
        due_at=NOW,
        state=State.IN_FLIGHT,
        turn=turn,
        attempt_count=attempts,
    )
    return Job(delivery=delivery, record=record, traceparent="")


class Bench:
    """A sender and all that is around it."""

    def __init__(self, *, fail_max: int = 2) -> None:
        self.clock = FakeClock(NOW)
        self.channel = FakeChannel()
        self.outcomes = FakeOutcomes()
        self.woken: list[frozenset[str]] = []
        self.breaker = Breaker("slack", fail_max=fail_max, reset_timeout=timedelta(seconds=30), clock=self.clock)
        self.sender = Sender(
            channel=self.channel,
            breaker=self.breaker,
            outcomes=self.outcomes,
            patience=Patience(retry=RetryPolicy(max_attempts=3), reset_timeout=timedelta(seconds=30)),
            clock=self.clock,
            chance=lambda: 0.5,
            metrics=Metrics(["slack"], list),
            wake=self.woken.append,
            backoff=Backoff(first_delay=timedelta(0)),
        )

    @property
    def reasons(self) -> list[Reason | None]:
        return [ending.after.reason for ending in self.outcomes.endings]


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_what_the_channel_took_is_delivered(bench: Bench) -> None:
    await bench.sender.send(job())
    assert bench.reasons == [Reason.DELIVERED]
    assert [delivery for _, delivery in bench.channel.sent] == [SPACE]


async def test_the_channels_with_new_work_are_woken(bench: Bench) -> None:
    bench.outcomes.woken = frozenset({"email"})
    await bench.sender.send(job())
    assert bench.woken == [frozenset({"email"})]


async def test_a_notification_that_cannot_be_read_is_refused_and_no_failure_of_the_channel(bench: Bench) -> None:
    await bench.sender.send(job(b"\xff"))
    assert (bench.reasons, bench.breaker.failure_count, bench.channel.sent) == ([Reason.REFUSED], 0, [])


async def test_a_channel_that_crashes_refuses_and_tells_no_secret(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.channel.error = RuntimeError("https://hooks.slack.com/services/secret")
    await bench.sender.send(job())
    assert bench.reasons == [Reason.REFUSED]
    assert "secret" not in capsys.readouterr().out + bench.outcomes.endings[0].after.last_error


@pytest.mark.parametrize("answer", [Unavailable("answered 500"), Misconfigured("answered 404")])
async def test_the_channel_in_trouble_counts_until_its_breaker_opens(
    bench: Bench, answer: Unavailable | Misconfigured
) -> None:
    bench.channel.answer = answer
    for _ in range(2):
        await bench.sender.send(job())
    assert bench.breaker.state is BreakerState.OPEN
    await bench.sender.send(job())
    assert bench.reasons[-1] is Reason.BREAKER_OPEN
    assert len(bench.channel.sent) == 2


async def test_a_refused_message_does_not_count(bench: Bench) -> None:
    bench.channel.answer = Refused("answered 400")
    for _ in range(3):
        await bench.sender.send(job())
    assert bench.breaker.state is BreakerState.CLOSED


async def test_being_asked_to_wait_is_no_failure_of_the_channel(bench: Bench) -> None:
    bench.channel.answer = AskedToWait("answered 429", timedelta(seconds=1))
    answers = [await bench.sender.send(job()) for _ in range(6)]
    assert (bench.breaker.state, bench.breaker.failure_count) == (BreakerState.CLOSED, 0)
    assert bench.reasons == [Reason.ASKED_TO_WAIT] * 6
    assert answers == [bench.channel.answer] * 6


async def test_the_attempt_that_closes_the_breaker_shows_that_the_channel_is_back(bench: Bench) -> None:
    bench.channel.answers = [Unavailable("answered 500")] * 2
    for _ in range(2):
        await bench.sender.send(job())
    bench.clock.advance(timedelta(seconds=31))
    await bench.sender.send(job(turn=Turn.PROBE))
    assert [ending.channel_is_back for ending in bench.outcomes.endings] == [False, False, True]


async def test_by_hand_passes_the_open_breaker_and_leaves_it_as_it_is(bench: Bench) -> None:
    bench.channel.answers = [Unavailable("answered 500")] * 2
    for _ in range(2):
        await bench.sender.send(job())
    await bench.sender.send(job(turn=Turn.BY_HAND))
    assert bench.reasons[-1] is Reason.DELIVERED
    assert not bench.outcomes.endings[-1].channel_is_back
    assert bench.breaker.state is BreakerState.OPEN


async def test_an_answer_is_kept_until_the_database_takes_it(bench: Bench) -> None:
    bench.outcomes.failures = [StoreUnavailable("away")] * 3
    await bench.sender.send(job())
    assert bench.reasons == [Reason.DELIVERED]
    assert len(bench.channel.sent) == 1


async def test_turned_away_is_recorded_without_asking(bench: Bench) -> None:
    await bench.sender.turn_away(job(), TurnedAway())
    assert (bench.reasons, bench.channel.sent) == ([Reason.BREAKER_OPEN], [])
    assert bench.outcomes.endings[0].after.attempt_count == 0


async def test_a_part_of_the_recipients_is_told_in_the_record(bench: Bench) -> None:
    bench.channel.answer = Accepted("1 of 2 recipients refused")
    await bench.sender.send(job())
    assert bench.outcomes.endings[0].after.last_error == "1 of 2 recipients refused"
