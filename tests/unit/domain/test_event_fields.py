"""Values of a log event's fields as people write them."""

import pytest

from services.domain.event_fields import normalized_trace_id, without_surrogates


@pytest.mark.parametrize(
    ("text", "trace_id"),
    [
        pytest.param("0af7651916cd43dd8448eb211c80319c", "0af7651916cd43dd8448eb211c80319c", id="128 bits"),
        pytest.param("A3CE929D0E0E4736", "0000000000000000a3ce929d0e0e4736", id="64 bits in capitals"),
        pytest.param("0af76519-16cd-43dd-8448-eb211c80319c", "0af7651916cd43dd8448eb211c80319c", id="a UUID"),
        pytest.param("0af7651916cd43dd", "00000000000000000af7651916cd43dd", id="64 bits"),
        pytest.param("0af7651916cd43dd84", None, id="72 bits"),
        pytest.param("", None, id="empty"),
        pytest.param("é" * 16, None, id="letters"),
    ],
)
def test_a_trace_id_has_32_digits(text: str, trace_id: str | None) -> None:
    assert normalized_trace_id(text) == trace_id


def test_halves_of_surrogate_pairs_are_replaced() -> None:
    assert without_surrogates("a\ud83d\udd14b🔔") == "a\ufffd\ufffdb🔔"
