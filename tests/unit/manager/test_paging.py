"""Tokens and sizes of pages."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.manager.core.queries.paging import TokenError, after_of, page_size, token_of

text = st.text(st.characters(codec="utf-8"))


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
