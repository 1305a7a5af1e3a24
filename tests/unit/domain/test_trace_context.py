"""The header `traceparent`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import get_current_span

from services.chassis.telemetry import context_of
from services.domain.trace_context import headers_of, trace_id_of, traceparent_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{TRACE}-{SPAN}-01"


def test_a_traceparent_is_found_among_headers() -> None:
    assert (
        traceparent_of([("x", b"1"), ("Traceparent", b""), ("TraceParent", b"00-a"), ("traceparent", b"b")]) == "00-a"
    )
    assert traceparent_of([("traceparent", b"\xff")]) == "\ufffd"
    assert traceparent_of([]) == traceparent_of(None) == ""


def test_headers_carry_a_traceparent() -> None:
    assert traceparent_of(headers_of(VALID)) == VALID
    assert headers_of("") == []


@given(
    st.sampled_from(["00", "01", "ff", "0", "zz"]),
    st.sampled_from([TRACE, "0" * 32, TRACE.upper(), TRACE[1:], "f" * 32]),
    st.sampled_from([SPAN, "0" * 16, SPAN[1:]]),
    st.sampled_from(["00", "01", "1", "01-", "01-more", "01more"]),
)
def test_a_trace_id_is_valid_where_opentelemetry_accepts_it(version: str, trace: str, span: str, rest: str) -> None:
    traceparent = f"{version}-{trace}-{span}-{rest}"
    context = get_current_span(context_of(headers_of(traceparent))).get_span_context()
    assert trace_id_of(traceparent) == (f"{context.trace_id:032x}" if context.is_valid else "")


@pytest.mark.parametrize(("traceparent", "trace_id"), [(VALID, TRACE), ("", ""), ("nonsense", ""), (VALID + "-x", "")])
def test_a_trace_id_is_read_from_a_valid_traceparent(traceparent: str, trace_id: str) -> None:
    assert trace_id_of(traceparent) == trace_id
