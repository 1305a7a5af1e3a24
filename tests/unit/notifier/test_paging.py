import base64
import json
from datetime import datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.core.paging import Position, TokenError, page_size, position_of, token_of
from tests.fakes.notifier import NOW

POSITION = Position(moment=NOW, id=UUID(int=7))


@pytest.mark.parametrize(("asked", "expected"), [(0, 50), (1, 1), (500, 500), (501, 500), (-1, None)])
def test_page_sizes(asked: int, expected: int | None) -> None:
    assert page_size(asked) == expected


def test_a_token_leads_back_to_its_position() -> None:
    assert position_of(token_of(POSITION, ["slack"]), ["slack"]) == POSITION
    assert position_of("", ["slack"]) is None


def test_a_token_of_other_filters_is_refused() -> None:
    with pytest.raises(TokenError):
        position_of(token_of(POSITION, ["slack"]), ["email"])


def test_a_token_without_zone_is_refused() -> None:
    naive = Position(moment=datetime(2026, 1, 1), id=UUID(int=1))  # noqa: DTZ001 - that is the mistake
    with pytest.raises(TokenError):
        position_of(token_of(naive, []), [])


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_a_moment_beyond_what_can_be_said_is_refused(moment: str) -> None:
    _, *rest = json.loads(base64.urlsafe_b64decode(token_of(POSITION, [])))
    with pytest.raises(TokenError):
        position_of(base64.urlsafe_b64encode(json.dumps([moment, *rest]).encode()).decode(), [])


@given(st.text(min_size=1) | st.binary(min_size=1).map(lambda raw: raw.hex()))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(TokenError):
        position_of(text, [])


@pytest.mark.parametrize("token", ["W10=", "MQ==", "WzEsMiwzXQ==", "eyJhIjoxfQ=="])
def test_json_of_another_shape_is_refused(token: str) -> None:
    with pytest.raises(TokenError):
        position_of(token, [])
