"""A group's last transition is read as it was saved."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.severity import Severity
from services.evaluator.adapters.messages import MalformedError
from services.evaluator.adapters.window_state import decode_state, encode_state
from services.evaluator.core.records import Transition, TransitionReason, TransitionState, WindowResult
from tests.unit.evaluator.strategies import counts, moments, numbers, samples, texts

transitions = st.builds(
    Transition,
    id=texts,
    state=st.sampled_from(TransitionState),
    reason=st.just(TransitionReason.RESTORED),
    rule_id=texts,
    selection_revision=counts,
    rule_revision=counts,
    rule_name=texts,
    description=texts,
    severity=st.sampled_from(Severity),
    resource=texts,
    group=st.lists(texts, max_size=3).map(tuple),
    group_fields=st.dictionaries(texts, texts, max_size=2),
    labels=st.dictionaries(texts, texts, max_size=2),
    fingerprint=texts,
    window=st.builds(
        WindowResult,
        start_ns=moments,
        end_ns=moments,
        count=counts,
        total=counts,
        sum=numbers,
        avg=st.none() | numbers,
        min=st.none() | numbers,
        max=st.none() | numbers,
        condition=texts,
        threshold=numbers,
        last_event_ns=st.none() | moments,
    ),
    first_window_ns=moments,
    samples=st.lists(samples, max_size=3).map(tuple),
    created_ns=moments,
)


@given(transitions)
def test_states(transition: Transition) -> None:
    assert decode_state(encode_state(transition)) == transition


@pytest.mark.parametrize(
    "value", [pytest.param(b"\xff", id="nonsense"), pytest.param(b"", id="a state without a transition")]
)
def test_what_is_no_state_is_malformed(value: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_state(value)
