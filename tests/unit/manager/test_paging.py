"""Tokens and sizes of pages."""

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.fingerprint import digest
from services.manager.core.queries.paging import TokenError, after_of, moment_of, page_size, token_of

# What a row may hold.
text = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@given(text, text, text)
def test_a_token_gives_back_what_it_was_made_of(first: str, second: str, filters: str) -> None:
    token = token_of((first, second), filters=filters)
    assert after_of(token, filters=filters, width=2) == (first, second)
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_no_token_is_the_first_page() -> None:
    assert after_of("", filters="any", width=2) == ()


@given(text)
def test_any_other_text_is_refused(token: str) -> None:
    if token:
        with pytest.raises(TokenError):
            after_of(token, filters="f", width=1)


@pytest.mark.parametrize("content", [b"[]", b"{}", b"[1]", b'["x", 2]', b"nonsense", b"\xff", b'"x"'])
def test_what_only_looks_like_a_token_is_refused(content: bytes) -> None:
    with pytest.raises(TokenError):
        after_of(base64.urlsafe_b64encode(content).decode().rstrip("="), filters="f", width=1)


@pytest.mark.parametrize("part", ["a\0", "\ud800"])
def test_text_that_no_store_takes_is_refused(part: str) -> None:
    token = base64.urlsafe_b64encode(json.dumps([digest("f"), part]).encode()).decode().rstrip("=")
    with pytest.raises(TokenError, match="gave out"):
        after_of(token, filters="f", width=1)


def test_what_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(TokenError):
        after_of(base64.urlsafe_b64encode(b"[" * 100_000).decode().rstrip("="), filters="f", width=1)


def test_moments_come_back_in_utc_and_none_is_beyond_what_can_be_said() -> None:
    assert moment_of("2026-01-01T01:00:00+01:00") == datetime(2026, 1, 1, tzinfo=UTC)
    for text in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "2026-01-01T00:00:00", "now"):
        with pytest.raises(TokenError):
            moment_of(text)


def test_a_token_holds_for_its_filters_and_its_list_only() -> None:
    token = token_of(("a",), filters="f")
    with pytest.raises(TokenError, match="other filters"):
        after_of(token, filters="g", width=1)
    with pytest.raises(TokenError, match="gave out"):
        after_of(token, filters="f", width=2)


@pytest.mark.parametrize(("asked", "meant"), [(0, 50), (1, 1), (500, 500), (501, 500)])
def test_sizes(asked: int, meant: int) -> None:
    assert page_size(asked) == meant


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        page_size(-1)


def test_the_values_come_back_in_their_order() -> None:
    assert after_of(token_of(("b", "a"), filters="f"), filters="f", width=2) == ("b", "a")
