"""Tokens, keys and sizes of pages."""

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contract.paging import (
    PageTokenError,
    decode_page_token,
    encode_page_token,
    filters_of,
    key_time,
    page_size,
    shown_rows,
)
from services.domain.fingerprint import digest
from tocsin.alerts.v1.alert_service_pb2 import ListAlertsRequest

# What a row may hold.
text = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@given(text, text, text)
def test_a_token_gives_back_what_it_was_made_of(first: str, second: str, filters: str) -> None:
    token = encode_page_token((first, second), filters=filters)
    assert decode_page_token(token, filters=filters, width=2) == (first, second)
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_no_token_is_the_first_page_and_no_page_has_no_token() -> None:
    assert decode_page_token("", filters="any", width=2) == ()
    assert encode_page_token(None, filters="any") == ""


@pytest.mark.parametrize(("read", "shown", "last"), [("", "", None), ("ab", "ab", None), ("abc", "ab", ("b",))])
def test_a_row_more_than_a_page_shows_says_that_there_is_another(
    read: str, shown: str, last: tuple[str, ...] | None
) -> None:
    assert shown_rows(read, 2, lambda row: (row,)) == (shown, last)


@given(text)
def test_any_other_string_is_refused(token: str) -> None:
    if token:
        with pytest.raises(PageTokenError):
            decode_page_token(token, filters="f", width=1)


@pytest.mark.parametrize(
    "content", [b"[]", b"{}", b"[1]", b"1", b"[1,2,3]", b'{"a":1}', b'["x", 2]', b"nonsense", b"\xff", b'"x"']
)
def test_what_only_looks_like_a_token_is_refused(content: bytes) -> None:
    with pytest.raises(PageTokenError):
        decode_page_token(base64.urlsafe_b64encode(content).decode().rstrip("="), filters="f", width=1)


@pytest.mark.parametrize("part", ["a\0", "\ud800"])
def test_a_key_that_no_store_can_hold_is_refused(part: str) -> None:
    token = base64.urlsafe_b64encode(json.dumps([digest("f"), part]).encode()).decode().rstrip("=")
    with pytest.raises(PageTokenError, match="gave out"):
        decode_page_token(token, filters="f", width=1)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(PageTokenError):
        decode_page_token(base64.urlsafe_b64encode(b"[" * 100_000).decode().rstrip("="), filters="f", width=1)


def test_times_of_a_key_come_back_in_utc_or_are_refused() -> None:
    assert key_time("2026-01-01T01:00:00+01:00") == datetime(2026, 1, 1, tzinfo=UTC)
    for text in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "2026-01-01T00:00:00", "now"):
        with pytest.raises(PageTokenError):
            key_time(text)


def test_a_token_holds_for_its_filters_and_its_list_only() -> None:
    token = encode_page_token(("a",), filters="f")
    with pytest.raises(PageTokenError, match="other filters"):
        decode_page_token(token, filters="g", width=1)
    with pytest.raises(PageTokenError, match="gave out"):
        decode_page_token(token, filters="f", width=2)


@pytest.mark.parametrize(("asked", "meant"), [(0, 50), (1, 1), (500, 500), (501, 500)])
def test_sizes(asked: int, meant: int) -> None:
    assert page_size(asked) == meant


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        page_size(-1)


def test_the_values_come_back_in_their_order() -> None:
    assert decode_page_token(encode_page_token(("b", "a"), filters="f"), filters="f", width=2) == ("b", "a")


def test_the_filters_of_a_list_are_all_that_it_asks_for_but_the_page() -> None:
    first = ListAlertsRequest(rule_id="r", page_size=7)
    assert filters_of(first) == filters_of(ListAlertsRequest(rule_id="r", page_token="t"))
    assert filters_of(first) != filters_of(ListAlertsRequest(page_size=7))
    assert first.page_size == 7


def test_a_token_of_the_former_release_is_read_or_refused_as_one_of_other_filters() -> None:
    alerts = "WyI2MTkwMDNlNWVjOTAyMzY5YjIwNzA4ZTc2MGNiYmJjNCIsImIiLCJhIl0"
    assert decode_page_token(alerts, filters="f", width=2) == ("b", "a")
    parts = ["2026-01-01T00:00:00+00:00", "00000000-0000-0000-0000-000000000007", "4f53cda18c2baa0c"]
    failed_notifications = base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()
    with pytest.raises(PageTokenError, match="other filters"):
        decode_page_token(failed_notifications, filters="f", width=2)
