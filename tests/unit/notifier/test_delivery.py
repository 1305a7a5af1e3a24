from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.core.delivery import (
    AttemptKind,
    ChannelStatus,
    CircuitState,
    Delivery,
    DeliveryReason,
    DeliveryState,
    DispatchStep,
    RetryPolicy,
    apply_response,
    is_first_failure,
    next_step,
    shows_recovery,
)
from services.notifier.core.notification import NotificationKind
from services.notifier.core.response import (
    Accepted,
    AskedToWait,
    ChannelResponse,
    CircuitOpen,
    Misconfigured,
    Refused,
    Unavailable,
)
from tests.fakes.notifier import NOW, SPACE

MAX_WAIT = timedelta(minutes=2)
POLICY = RetryPolicy(
    max_attempts=3,
    first_delay=timedelta(seconds=1),
    max_delay=timedelta(seconds=10),
    max_wait=MAX_WAIT,
    probe_interval=timedelta(seconds=30),
)
IN_FLIGHT = Delivery(
    id=UUID(int=1),
    notification_id=SPACE,
    subject_id="alert",
    sequence=1,
    alert_id="alert",
    kind=NotificationKind.FIRING,
    channel="slack",
    create_time=NOW,
    due_time=NOW - timedelta(seconds=20),
    state=DeliveryState.IN_FLIGHT,
    attempt_count=1,
)
DOWN = Unavailable("answered 503")
BUSY = AskedToWait("answered 429", timedelta(seconds=30))

responses = st.sampled_from(
    [Accepted(), DOWN, BUSY, Misconfigured("answered 404"), Refused("answered 400"), CircuitOpen()]
)


def ended(delivery: Delivery, response: ChannelResponse) -> tuple[Delivery, DeliveryReason]:
    return apply_response(delivery, response, POLICY, now=NOW, jitter=0.5)


@pytest.mark.parametrize(
    ("changes", "response", "state", "reason"),
    [
        pytest.param({}, Accepted(), DeliveryState.DELIVERED, DeliveryReason.DELIVERED, id="accepted"),
        pytest.param({}, DOWN, DeliveryState.PENDING, DeliveryReason.RETRY_LATER, id="first failure"),
        pytest.param(
            {"attempt_count": 3}, DOWN, DeliveryState.FAILED, DeliveryReason.ATTEMPTS_EXHAUSTED, id="last failure"
        ),
        pytest.param(
            {"attempt_count": 5, "round_start": 3},
            DOWN,
            DeliveryState.PENDING,
            DeliveryReason.RETRY_LATER,
            id="in a second round",
        ),
        pytest.param(
            {"attempt_kind": AttemptKind.PROBE},
            DOWN,
            DeliveryState.FAILED,
            DeliveryReason.STILL_DOWN,
            id="a probe has one attempt",
        ),
        pytest.param(
            {"attempt_kind": AttemptKind.BY_HAND},
            DOWN,
            DeliveryState.FAILED,
            DeliveryReason.STILL_DOWN,
            id="by hand",
        ),
        pytest.param(
            {}, Misconfigured("x"), DeliveryState.FAILED, DeliveryReason.MISCONFIGURED, id="nothing to wait for"
        ),
        pytest.param({}, Refused("x"), DeliveryState.FAILED, DeliveryReason.REFUSED, id="this message never"),
        pytest.param({}, BUSY, DeliveryState.PENDING, DeliveryReason.ASKED_TO_WAIT, id="asked to wait"),
        pytest.param(
            {"attempt_count": 9}, BUSY, DeliveryState.PENDING, DeliveryReason.ASKED_TO_WAIT, id="which is no attempt"
        ),
        pytest.param(
            {"attempt_kind": AttemptKind.PROBE},
            BUSY,
            DeliveryState.PENDING,
            DeliveryReason.ASKED_TO_WAIT,
            id="always",
        ),
        pytest.param({}, CircuitOpen(), DeliveryState.FAILED, DeliveryReason.BREAKER_OPEN, id="the breaker is open"),
    ],
)
def test_what_becomes_of_a_delivery(
    changes: dict[str, Any], response: ChannelResponse, state: DeliveryState, reason: DeliveryReason
) -> None:
    found, why = ended(replace(IN_FLIGHT, **changes), response)
    assert (found.state, why, found.reason) == (state, reason, reason)


def test_a_retry_comes_after_a_while() -> None:
    assert ended(IN_FLIGHT, DOWN)[0].due_time == NOW + timedelta(seconds=0.5)


def test_a_delivery_that_is_asked_to_wait_keeps_its_place_and_its_attempts() -> None:
    found, _ = ended(replace(IN_FLIGHT, attempt_count=2), BUSY)
    assert (found.due_time, found.attempt_count, found.last_error) == (IN_FLIGHT.due_time, 1, "answered 429")


@pytest.mark.parametrize(
    ("waited", "asked", "state"),
    [
        pytest.param(timedelta(0), MAX_WAIT - timedelta(seconds=1), DeliveryState.PENDING, id="within the limit"),
        pytest.param(timedelta(0), MAX_WAIT, DeliveryState.FAILED, id="a wait that is too long"),
        pytest.param(MAX_WAIT - timedelta(seconds=1), timedelta(seconds=1), DeliveryState.FAILED, id="one too many"),
    ],
)
def test_a_wait_beyond_the_limit_fails_and_is_tried_after_it(
    waited: timedelta, asked: timedelta, state: DeliveryState
) -> None:
    found, why = ended(replace(IN_FLIGHT, due_time=NOW - waited), AskedToWait("answered 429", asked))
    assert (found.state, why) == (state, DeliveryReason.ASKED_TO_WAIT)
    assert found.due_time == (NOW + asked if state is DeliveryState.FAILED else NOW - waited)


def test_an_open_circuit_is_no_attempt_and_keeps_the_last_error() -> None:
    found, _ = ended(replace(IN_FLIGHT, attempt_count=2, last_error="answered 500"), CircuitOpen())
    assert (found.attempt_count, found.last_error) == (1, "answered 500")
    assert ended(IN_FLIGHT, CircuitOpen())[0].last_error == "the channel's breaker is open"


def test_what_the_routes_file_rules_out_is_no_attempt() -> None:
    called, ruled_out = Misconfigured("answered 404"), Misconfigured("inside", was_called=False)
    assert [ended(replace(IN_FLIGHT, attempt_count=1), each)[0].attempt_count for each in (called, ruled_out)] == [1, 0]


@given(responses)
def test_it_fails_for_the_first_time_once(response: ChannelResponse) -> None:
    first, _ = ended(replace(IN_FLIGHT, attempt_count=3), response)
    again, _ = ended(replace(first, state=DeliveryState.IN_FLIGHT, attempt_count=9), response)
    assert is_first_failure(IN_FLIGHT, first) == (first.state is DeliveryState.FAILED)
    assert not (is_first_failure(first, again) and is_first_failure(IN_FLIGHT, first))
    assert again.fail_time == first.fail_time


@given(responses, st.integers(1, 5), st.sampled_from(AttemptKind))
def test_it_never_stays_in_flight_and_always_says_why(
    response: ChannelResponse, attempts: int, attempt_kind: AttemptKind
) -> None:
    found, reason = ended(replace(IN_FLIGHT, attempt_count=attempts, attempt_kind=attempt_kind), response)
    assert found.state in {DeliveryState.PENDING, DeliveryState.DELIVERED, DeliveryState.FAILED}
    assert found.reason is reason
    assert found.attempt_count <= attempts


@pytest.mark.parametrize(
    ("attempt_kind", "response", "before", "now", "expected"),
    [
        pytest.param(
            AttemptKind.REGULAR, Accepted(), CircuitState.OPEN, CircuitState.CLOSED, True, id="it closed the breaker"
        ),
        pytest.param(
            AttemptKind.REGULAR,
            Refused("x"),
            CircuitState.OPEN,
            CircuitState.CLOSED,
            True,
            id="by refusing, which is an answer",
        ),
        pytest.param(
            AttemptKind.PROBE, Accepted(), CircuitState.CLOSED, CircuitState.CLOSED, True, id="a probe after a restart"
        ),
        pytest.param(
            AttemptKind.PROBE, DOWN, CircuitState.CLOSED, CircuitState.CLOSED, False, id="a probe that failed"
        ),
        pytest.param(
            AttemptKind.BY_HAND,
            Accepted(),
            CircuitState.OPEN,
            CircuitState.OPEN,
            False,
            id="by hand, the breaker still open",
        ),
        pytest.param(
            AttemptKind.REGULAR, Accepted(), CircuitState.CLOSED, CircuitState.CLOSED, False, id="nothing new"
        ),
    ],
)
def test_what_shows_that_a_channel_has_recovered(
    attempt_kind: AttemptKind, response: ChannelResponse, before: CircuitState, now: CircuitState, *, expected: bool
) -> None:
    assert shows_recovery(attempt_kind, response, before=before, after=now) is expected


LATER = NOW + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param(ChannelStatus(circuit=CircuitState.CLOSED), DispatchStep.SEND, id="closed"),
        pytest.param(
            ChannelStatus(circuit=CircuitState.CLOSED, is_probing=True),
            DispatchStep.SEND,
            id="closed, a probe under way",
        ),
        pytest.param(
            ChannelStatus(circuit=CircuitState.CLOSED, wait_until=LATER), DispatchStep.WAIT, id="asked to wait"
        ),
        pytest.param(
            ChannelStatus(circuit=CircuitState.CLOSED, wait_until=NOW), DispatchStep.SEND, id="waited long enough"
        ),
        pytest.param(
            ChannelStatus(circuit=CircuitState.OPEN, probe_time=NOW, wait_until=LATER),
            DispatchStep.FALL_BACK,
            id="open and asked to wait",
        ),
        pytest.param(ChannelStatus(circuit=CircuitState.OPEN, probe_time=LATER), DispatchStep.FALL_BACK, id="open"),
        pytest.param(
            ChannelStatus(circuit=CircuitState.OPEN, probe_time=NOW), DispatchStep.PROBE, id="open long enough"
        ),
        pytest.param(
            ChannelStatus(circuit=CircuitState.OPEN, probe_time=NOW, is_probing=True),
            DispatchStep.FALL_BACK,
            id="one probe is enough",
        ),
        pytest.param(
            ChannelStatus(circuit=CircuitState.HALF_OPEN, is_probing=True),
            DispatchStep.FALL_BACK,
            id="half open, the probe under way",
        ),
        pytest.param(
            ChannelStatus(circuit=CircuitState.HALF_OPEN), DispatchStep.PROBE, id="half open and nobody probes"
        ),
        pytest.param(
            ChannelStatus(circuit=CircuitState.OPEN), DispatchStep.FALL_BACK, id="open, nobody knows how long"
        ),
    ],
)
def test_what_a_dispatcher_does_next(status: ChannelStatus, expected: DispatchStep) -> None:
    assert next_step(status, now=NOW) is expected


@given(st.integers(1, 10_000), st.floats(min_value=0, max_value=1, exclude_max=True))
def test_jitter_is_full_and_bounded(attempt: int, jitter: float) -> None:
    delay = POLICY.delay(attempt, jitter=jitter)
    assert timedelta(0) <= delay <= min(POLICY.max_delay, POLICY.first_delay * 2 ** min(attempt - 1, 10))


def test_the_ceiling_doubles() -> None:
    waits = [POLICY.delay(attempt, jitter=0.5).total_seconds() for attempt in range(1, 7)]
    assert waits == [0.5, 1, 2, 4, 5, 5]


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"first_delay": timedelta(0)},
        {"first_delay": timedelta(seconds=2), "max_delay": timedelta(seconds=1)},
    ],
)
def test_a_policy_that_never_ends_or_never_waits_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        RetryPolicy(**wrong)
