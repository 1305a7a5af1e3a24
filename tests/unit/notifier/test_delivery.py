from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.core.answer import (
    Accepted,
    Answer,
    AskedToWait,
    Misconfigured,
    Refused,
    TurnedAway,
    Unavailable,
    of_http,
    of_smtp,
)
from services.notifier.core.delivery import (
    REDRIVEN,
    Delivery,
    Patience,
    Reason,
    State,
    Turn,
    after,
    is_first_failure,
    shows_return,
)
from services.notifier.core.dispatch import Door, Guard, Step, step
from services.notifier.core.message import Kind
from services.notifier.core.retry import RetryPolicy
from tests.fakes.notifier import NOW, SPACE

MAX_WAIT = timedelta(minutes=2)
PATIENCE = Patience(
    retry=RetryPolicy(max_attempts=3, base=timedelta(seconds=1), max_wait=MAX_WAIT),
    reset_timeout=timedelta(seconds=30),
)
IN_FLIGHT = Delivery(
    id=UUID(int=1),
    notification_id=SPACE,
    alert_id="alert",
    kind=Kind.FIRING,
    channel="slack",
    created_at=NOW,
    due_at=NOW - timedelta(seconds=20),
    state=State.IN_FLIGHT,
    attempt_count=1,
)
DOWN = Unavailable("answered 503")
BUSY = AskedToWait("answered 429", timedelta(seconds=30))

answers = st.sampled_from(
    [Accepted(), DOWN, BUSY, Misconfigured("answered 404"), Refused("answered 400"), TurnedAway()]
)


def ended(delivery: Delivery, answer: Answer) -> tuple[Delivery, Reason]:
    return after(delivery, answer, PATIENCE, now=NOW, chance=0.5)


@pytest.mark.parametrize(
    ("changes", "answer", "state", "reason"),
    [
        pytest.param({}, Accepted(), State.DELIVERED, Reason.DELIVERED, id="taken"),
        pytest.param({}, DOWN, State.PENDING, Reason.RETRY_LATER, id="first failure"),
        pytest.param({"attempt_count": 3}, DOWN, State.FAILED, Reason.ATTEMPTS_EXHAUSTED, id="last failure"),
        pytest.param(
            {"attempt_count": 5, "round_start": 3}, DOWN, State.PENDING, Reason.RETRY_LATER, id="in a second round"
        ),
        pytest.param({"turn": Turn.PROBE}, DOWN, State.FAILED, Reason.STILL_DOWN, id="a probe has one attempt"),
        pytest.param({"turn": Turn.BY_HAND}, DOWN, State.FAILED, Reason.STILL_DOWN, id="by hand too"),
        pytest.param({}, Misconfigured("x"), State.FAILED, Reason.MISCONFIGURED, id="nothing to wait for"),
        pytest.param({}, Refused("x"), State.FAILED, Reason.REFUSED, id="this message never"),
        pytest.param({}, BUSY, State.PENDING, Reason.ASKED_TO_WAIT, id="asked to wait"),
        pytest.param({"attempt_count": 9}, BUSY, State.PENDING, Reason.ASKED_TO_WAIT, id="which is no attempt"),
        pytest.param({"turn": Turn.PROBE}, BUSY, State.PENDING, Reason.ASKED_TO_WAIT, id="in any turn"),
        pytest.param({}, TurnedAway(), State.FAILED, Reason.BREAKER_OPEN, id="the breaker is open"),
    ],
)
def test_what_becomes_of_a_delivery(changes: dict[str, object], answer: Answer, state: State, reason: Reason) -> None:
    found, why = ended(replace(IN_FLIGHT, **changes), answer)
    assert (found.state, why, found.reason) == (state, reason, reason)


def test_a_retry_comes_after_a_while() -> None:
    assert ended(IN_FLIGHT, DOWN)[0].due_at == NOW + timedelta(seconds=0.5)


def test_who_is_asked_to_wait_keeps_its_place_and_its_attempts() -> None:
    found, _ = ended(replace(IN_FLIGHT, attempt_count=2), BUSY)
    assert (found.due_at, found.attempt_count, found.last_error) == (IN_FLIGHT.due_at, 1, "answered 429")


@pytest.mark.parametrize(
    ("waited", "asked", "state"),
    [
        pytest.param(timedelta(0), MAX_WAIT - timedelta(seconds=1), State.PENDING, id="within the limit"),
        pytest.param(timedelta(0), MAX_WAIT, State.FAILED, id="a wait that is too long"),
        pytest.param(MAX_WAIT - timedelta(seconds=1), timedelta(seconds=1), State.FAILED, id="one too many"),
    ],
)
def test_a_wait_beyond_the_limit_fails_and_is_tried_after_it(waited: timedelta, asked: timedelta, state: State) -> None:
    found, why = ended(replace(IN_FLIGHT, due_at=NOW - waited), AskedToWait("answered 429", asked))
    assert (found.state, why) == (state, Reason.ASKED_TO_WAIT)
    assert found.due_at == (NOW + asked if state is State.FAILED else NOW - waited)


def test_being_turned_away_is_no_attempt_and_keeps_what_the_channel_said() -> None:
    found, _ = ended(replace(IN_FLIGHT, attempt_count=2, last_error="answered 500"), TurnedAway())
    assert (found.attempt_count, found.last_error) == (1, "answered 500")
    assert ended(IN_FLIGHT, TurnedAway())[0].last_error == "the channel's breaker is open"


@given(answers)
def test_it_fails_for_the_first_time_once(answer: Answer) -> None:
    first, _ = ended(replace(IN_FLIGHT, attempt_count=3), answer)
    again, _ = ended(replace(first, state=State.IN_FLIGHT, attempt_count=9), answer)
    assert is_first_failure(IN_FLIGHT, first) == (first.state is State.FAILED)
    assert not (is_first_failure(first, again) and is_first_failure(IN_FLIGHT, first))
    assert again.failed_at == first.failed_at


@given(answers, st.integers(1, 5), st.sampled_from(Turn))
def test_it_never_stays_in_flight_and_always_says_why(answer: Answer, attempts: int, turn: Turn) -> None:
    found, reason = ended(replace(IN_FLIGHT, attempt_count=attempts, turn=turn), answer)
    assert found.state in {State.PENDING, State.DELIVERED, State.FAILED}
    assert found.reason is reason
    assert found.attempt_count <= attempts


def test_a_refused_message_is_sent_again_by_hand_only() -> None:
    assert Reason.REFUSED not in REDRIVEN
    assert {
        Reason.ATTEMPTS_EXHAUSTED,
        Reason.ASKED_TO_WAIT,
        Reason.MISCONFIGURED,
        Reason.BREAKER_OPEN,
        Reason.STILL_DOWN,
    } == REDRIVEN


@pytest.mark.parametrize(
    ("turn", "answer", "before", "now", "expected"),
    [
        pytest.param(Turn.REGULAR, Accepted(), Door.OPEN, Door.CLOSED, True, id="it closed the breaker"),
        pytest.param(Turn.REGULAR, Refused("x"), Door.OPEN, Door.CLOSED, True, id="by refusing, which is an answer"),
        pytest.param(Turn.PROBE, Accepted(), Door.CLOSED, Door.CLOSED, True, id="a probe after a restart"),
        pytest.param(Turn.PROBE, DOWN, Door.CLOSED, Door.CLOSED, False, id="a probe that failed"),
        pytest.param(Turn.BY_HAND, Accepted(), Door.OPEN, Door.OPEN, False, id="by hand, the breaker still open"),
        pytest.param(Turn.REGULAR, Accepted(), Door.CLOSED, Door.CLOSED, False, id="nothing new"),
    ],
)
def test_what_shows_that_a_channel_is_back(
    turn: Turn, answer: Answer, before: Door, now: Door, *, expected: bool
) -> None:
    assert shows_return(turn, answer, before=before, after=now) is expected


LATER = NOW + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("guard", "expected"),
    [
        pytest.param(Guard(door=Door.CLOSED), Step.SEND, id="closed"),
        pytest.param(Guard(door=Door.CLOSED, is_probing=True), Step.SEND, id="closed, a probe under way"),
        pytest.param(Guard(door=Door.CLOSED, wait_until=LATER), Step.WAIT, id="asked to wait"),
        pytest.param(Guard(door=Door.CLOSED, wait_until=NOW), Step.SEND, id="waited long enough"),
        pytest.param(Guard(door=Door.OPEN, probe_at=NOW, wait_until=LATER), Step.DIVERT, id="open and asked to wait"),
        pytest.param(Guard(door=Door.OPEN, probe_at=LATER), Step.DIVERT, id="open"),
        pytest.param(Guard(door=Door.OPEN, probe_at=NOW), Step.PROBE, id="open long enough"),
        pytest.param(Guard(door=Door.OPEN, probe_at=NOW, is_probing=True), Step.DIVERT, id="one probe is enough"),
        pytest.param(Guard(door=Door.HALF_OPEN, is_probing=True), Step.DIVERT, id="half open, the probe under way"),
        pytest.param(Guard(door=Door.HALF_OPEN), Step.PROBE, id="half open and nobody probes"),
        pytest.param(Guard(door=Door.OPEN), Step.DIVERT, id="open, nobody knows how long"),
    ],
)
def test_what_a_dispatcher_does_next(guard: Guard, expected: Step) -> None:
    assert step(guard, now=NOW) is expected


@pytest.mark.parametrize("code", range(100, 600))
def test_each_http_status_means_one_thing(code: int) -> None:
    answer = of_http(code, retry_after="3", now=NOW)
    match answer:
        case Accepted():
            assert 200 <= code < 300
        case AskedToWait():
            assert code in {429, 503}
            assert answer.wait == timedelta(seconds=3)
        case Unavailable():
            assert code >= 500 or code in {408, 425}
        case Misconfigured():
            assert code < 200 or 300 <= code < 400 or code in {401, 402, 403, 404, 405, 407, 410}
        case _:
            assert isinstance(answer, Refused)


def test_a_channel_that_does_not_say_how_long_to_wait() -> None:
    assert of_http(429, retry_after="soon", now=NOW) == AskedToWait("answered 429", timedelta(seconds=5))
    assert of_http(503, retry_after=None, now=NOW) == Unavailable("answered 503")


def test_safe_words_of_the_answer_are_kept() -> None:
    assert of_http(400, retry_after=None, now=NOW, words="invalid_payload") == Refused("answered 400: invalid_payload")


@pytest.mark.parametrize(
    ("code", "meaning"),
    [(421, Unavailable), (451, Unavailable), (-1, Unavailable), (535, Misconfigured), (554, Refused)],
)
def test_each_smtp_code_means_one_thing(code: int, meaning: type[Answer]) -> None:
    assert of_smtp(code) == meaning(f"answered {code}")
