from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.core.response import (
    Accepted,
    AskedToWait,
    CircuitOpen,
    Misconfigured,
    Refused,
    Unavailable,
    circuit_open,
    classify_http,
    classify_smtp,
    parse_retry_after,
)
from tests.fakes.notifier import NOW


@pytest.mark.parametrize("code", range(100, 600))
def test_each_http_status_means_one_thing(code: int) -> None:
    response = classify_http(code, retry_after="3", now=NOW)
    match response:
        case Accepted():
            assert 200 <= code < 300
        case AskedToWait():
            assert code in {429, 503}
            assert response.wait == timedelta(seconds=3)
        case Unavailable():
            assert code >= 500 or code in {408, 425}
        case Misconfigured():
            assert code < 200 or 300 <= code < 400 or code in {401, 402, 403, 404, 405, 407, 410}
        case _:
            assert isinstance(response, Refused)


def test_a_channel_that_does_not_say_how_long_to_wait() -> None:
    assert classify_http(429, retry_after="soon", now=NOW) == AskedToWait("answered 429", timedelta(seconds=5))
    assert classify_http(503, retry_after=None, now=NOW) == Unavailable("answered 503")


def test_a_safe_detail_is_kept() -> None:
    assert classify_http(400, retry_after=None, now=NOW, detail="invalid_payload") == Refused(
        "answered 400: invalid_payload"
    )


@pytest.mark.parametrize(
    ("code", "meaning"),
    [(421, Unavailable), (451, Unavailable), (-1, Unavailable), (554, Refused)],
)
def test_each_smtp_code_means_one_thing(code: int, meaning: type[Unavailable | Refused]) -> None:
    assert classify_smtp(code) == meaning(f"answered {code}")


def test_of_what_a_person_must_change_the_words_are_said() -> None:
    assert classify_smtp(535) == Misconfigured("answered 535: the login is not accepted")


def test_an_open_circuit_says_what_the_last_attempt_ended_with() -> None:
    assert circuit_open("") == CircuitOpen()
    assert circuit_open("answered 404").text == "the channel's breaker is open; the last attempt: answered 404"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param(None, None, id="none"),
        pytest.param("120", timedelta(minutes=2), id="seconds"),
        pytest.param(" 1 ", timedelta(seconds=1), id="with blanks"),
        pytest.param("9" * 40, timedelta(days=1), id="a silly number"),
        pytest.param("Sun, 01 Mar 2026 12:00:30 GMT", timedelta(seconds=30), id="a date"),
        pytest.param("Sun, 01 Mar 2026 11:00:00 GMT", timedelta(0), id="a date that is over"),
        pytest.param("Sun, 01 Mar 2026 12:00:30 -0000", None, id="a date without zone"),
        pytest.param("Sun, 01 Mar 2099 12:00:30 GMT", timedelta(days=1), id="a date far away"),
        pytest.param("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", None, id="a date beyond all calendars"),
        pytest.param("soon", None, id="no number"),
        pytest.param("-1", None, id="a negative number"),
        pytest.param("١٢", None, id="digits of another script"),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str | None, expected: timedelta | None) -> None:
    assert parse_retry_after(header, now=NOW) == expected


@given(st.text(), st.sampled_from(("{}", "Wed, {} Oct 2026 07:28:00 GMT", "Wed, 21 Oct {} 07:28:00 GMT")))
def test_whatever_a_retry_after_says_it_is_no_failure(text: str, around: str) -> None:
    found = parse_retry_after(around.format(text), now=NOW)
    assert found is None or timedelta(0) <= found <= timedelta(days=1)
