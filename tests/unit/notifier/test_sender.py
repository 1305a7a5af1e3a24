"""One attempt, with a channel and a record of outcomes that do what the test sets."""

from dataclasses import replace
from datetime import timedelta

import pytest

from services.chassis.backoff import Backoff
from services.chassis.breaker import Breaker, BreakerState
from services.chassis.failures import StoreUnavailable
from services.chassis.telemetry import exposition, telemetry
from services.notifier.core.delivery import AttemptKind, Delivery, DeliveryReason, DeliveryState, RetryPolicy
from services.notifier.core.notification import NotificationKind
from services.notifier.core.response import Accepted, AskedToWait, CircuitOpen, Misconfigured, Refused, Unavailable
from services.notifier.metrics import Metrics
from services.notifier.ports import LeasedDelivery
from services.notifier.worker.sender import Sender
from services.redaction.named_texts import RedactedTexts
from services.redaction.text_redactor import TextRedactor
from tests.fakes.clock import FakeClock
from tests.fakes.notifications import notification
from tests.fakes.notifier import NOW, SPACE, FakeChannel, FakeOutcomes

RECORD = notification(alert="alert").SerializeToString()


def job(
    record: bytes = RECORD, *, attempt_kind: AttemptKind = AttemptKind.REGULAR, attempts: int = 1
) -> LeasedDelivery:
    delivery = Delivery(
        id=SPACE,
        notification_id=SPACE,
        subject_id="alert",
        sequence=1,
        alert_id="alert",
        kind=NotificationKind.FIRING,
        channel="slack",
        create_time=NOW,
        due_time=NOW,
        state=DeliveryState.IN_FLIGHT,
        attempt_kind=attempt_kind,
        attempt_count=attempts,
    )
    return LeasedDelivery(delivery=delivery, record=record, traceparent="")


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
            recipient="https://channel.example",
            breaker=self.breaker,
            outcomes=self.outcomes,
            policy=RetryPolicy(max_attempts=3, probe_interval=timedelta(seconds=30)),
            clock=self.clock,
            random=lambda: 0.5,
            metrics=Metrics(["slack"], dict),
            wake=self.woken.append,
            backoff=Backoff(first_delay=timedelta(0)),
        )

    @property
    def reasons(self) -> list[DeliveryReason | None]:
        return [outcome.after.reason for outcome in self.outcomes.outcomes]


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_what_the_channel_accepted_is_delivered(bench: Bench) -> None:
    await bench.sender.send(job())
    assert bench.reasons == [DeliveryReason.DELIVERED]
    assert [delivery for _, delivery in bench.channel.sent] == [SPACE]
    assert [outcome.after.recipient for outcome in bench.outcomes.outcomes] == ["https://channel.example"]


async def test_the_channels_with_new_work_are_woken(bench: Bench) -> None:
    bench.outcomes.channels = frozenset({"email"})
    await bench.sender.send(job())
    assert bench.woken == [frozenset({"email"})]


async def test_a_notification_that_cannot_be_read_is_refused_and_no_failure_of_the_channel(bench: Bench) -> None:
    await bench.sender.send(job(b"\xff"))
    assert (bench.reasons, bench.breaker.failure_count, bench.channel.sent) == ([DeliveryReason.REFUSED], 0, [])


async def test_a_channel_that_crashes_refuses_and_shows_no_secret(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.channel.error = RuntimeError("https://hooks.slack.com/services/secret")
    await bench.sender.send(job())
    assert bench.reasons == [DeliveryReason.REFUSED]
    assert "secret" not in capsys.readouterr().out + bench.outcomes.outcomes[0].after.last_error


@pytest.mark.parametrize("response", [Unavailable("answered 500"), Misconfigured("answered 404")])
async def test_a_failing_channel_counts_until_its_breaker_opens(
    bench: Bench, response: Unavailable | Misconfigured
) -> None:
    bench.channel.response = response
    for _ in range(2):
        await bench.sender.send(job())
    assert bench.breaker.state is BreakerState.OPEN
    await bench.sender.send(job())
    assert bench.reasons[-1] is DeliveryReason.BREAKER_OPEN
    assert len(bench.channel.sent) == 2


async def test_an_open_breaker_says_what_it_opened_for(bench: Bench) -> None:
    bench.channel.response = Misconfigured("answered 404")
    for _ in range(3):
        await bench.sender.send(job())
    text = bench.outcomes.outcomes[-1].after.last_error
    assert text == "the channel's breaker is open; the last attempt: answered 404"


async def test_what_the_routes_file_rules_out_does_not_count_and_each_delivery_says_why(bench: Bench) -> None:
    bench.channel.response = Misconfigured("leads inside", was_called=False)
    for _ in range(3):
        await bench.sender.send(job())
    assert (bench.breaker.state, bench.breaker.failure_count) == (BreakerState.CLOSED, 0)
    assert {outcome.after.last_error for outcome in bench.outcomes.outcomes} == {"leads inside"}
    assert bench.reasons == [DeliveryReason.MISCONFIGURED] * 3


async def test_a_refused_message_does_not_count(bench: Bench) -> None:
    bench.channel.response = Refused("answered 400")
    for _ in range(3):
        await bench.sender.send(job())
    assert bench.breaker.state is BreakerState.CLOSED


async def test_being_asked_to_wait_is_no_failure_of_the_channel(bench: Bench) -> None:
    bench.channel.response = AskedToWait("answered 429", timedelta(seconds=1))
    responses = [await bench.sender.send(job()) for _ in range(6)]
    assert (bench.breaker.state, bench.breaker.failure_count) == (BreakerState.CLOSED, 0)
    assert bench.reasons == [DeliveryReason.ASKED_TO_WAIT] * 6
    assert responses == [bench.channel.response] * 6


async def test_the_attempt_that_closes_the_breaker_shows_that_the_channel_has_recovered(bench: Bench) -> None:
    bench.channel.responses = [Unavailable("answered 500")] * 2
    for _ in range(2):
        await bench.sender.send(job())
    bench.clock.advance(timedelta(seconds=31))
    await bench.sender.send(job(attempt_kind=AttemptKind.PROBE))
    assert [outcome.channel_recovered for outcome in bench.outcomes.outcomes] == [False, False, True]


async def test_by_hand_passes_the_open_breaker_and_leaves_it_as_it_is(bench: Bench) -> None:
    bench.channel.responses = [Unavailable("answered 500")] * 2
    for _ in range(2):
        await bench.sender.send(job())
    await bench.sender.send(job(attempt_kind=AttemptKind.BY_HAND))
    assert bench.reasons[-1] is DeliveryReason.DELIVERED
    assert not bench.outcomes.outcomes[-1].channel_recovered
    assert bench.breaker.state is BreakerState.OPEN


async def test_an_outcome_is_recorded_when_the_database_is_back(bench: Bench) -> None:
    bench.outcomes.failures = [StoreUnavailable("away")] * 3
    await bench.sender.send(job())
    assert bench.reasons == [DeliveryReason.DELIVERED]
    assert len(bench.channel.sent) == 1


async def test_a_fallback_is_recorded_without_an_attempt(bench: Bench) -> None:
    await bench.sender.fall_back(job(), CircuitOpen())
    assert (bench.reasons, bench.channel.sent) == ([DeliveryReason.BREAKER_OPEN], [])
    assert bench.outcomes.outcomes[0].after.attempt_count == 0


async def test_recipients_that_were_refused_are_in_the_record(bench: Bench) -> None:
    bench.channel.response = Accepted("1 of 2 recipients refused")
    await bench.sender.send(job())
    assert bench.outcomes.outcomes[0].after.last_error == "1 of 2 recipients refused"


async def test_a_delivery_is_counted_as_failed_once_with_channel_and_reason() -> None:
    with telemetry("test", "i", ""):
        bench = Bench()
        bench.channel.response = Refused("answered 400")
        await bench.sender.send(job())
        failed = bench.outcomes.outcomes[0].after
        again = replace(failed, state=DeliveryState.IN_FLIGHT)
        await bench.sender.send(LeasedDelivery(delivery=again, record=RECORD, traceparent=""))
        lines = exposition()[0].decode().splitlines()
    shown = [line for line in lines if line.startswith("notifications_sent_total")]
    assert 'notifications_sent_total{channel="slack",reason="REFUSED",status="failure"} 1.0' in shown
    assert 'notifications_sent_total{channel="slack",reason="ATTEMPTS_EXHAUSTED",status="failure"} 0.0' in shown
    assert 'notifications_sent_total{channel="slack",reason="DELIVERED",status="success"} 0.0' in shown
    assert not [line for line in shown if "RETRY_LATER" in line]


async def test_secrets_are_masked_in_what_is_sent_and_counted(bench: Bench) -> None:
    sender = replace(bench.sender, redact=TextRedactor(["keys"], ()).redact)
    with_key = notification(alert="alert")
    with_key.alert.samples.add(message="AKIA0123456789ABCDEF refused")
    with telemetry("test", "i", ""):
        sender = replace(sender, metrics=Metrics(["slack"], dict))
        await sender.send(job(with_key.SerializeToString()))
        lines = exposition()[0].decode()
    [(sent, _)] = bench.channel.sent
    assert sent.samples[-1].text == "[redacted:keys] refused"
    assert 'tocsin_notifier_values_redacted_total{name="keys"} 1.0' in lines


async def test_what_cannot_be_masked_is_not_sent(bench: Bench) -> None:
    def fail(_: object) -> RedactedTexts:
        raise RuntimeError

    response = await replace(bench.sender, redact=fail).send(job())
    assert isinstance(response, Refused)
    assert bench.channel.sent == []
