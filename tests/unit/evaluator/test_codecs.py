"""What the evaluator writes it reads again as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.level import Level
from services.domain.severity import Severity
from services.evaluator.adapters.partial_codec import MalformedError, decode_batch, encode_batch
from services.evaluator.adapters.partial_decoder import PartialDecoder
from services.evaluator.adapters.transition_codec import decode_state, encode_state
from services.evaluator.core.records import (
    Aggregate,
    BlockProgress,
    PartialBatch,
    Row,
    RowKey,
    Sample,
    Transition,
    TransitionReason,
    TransitionState,
    WindowResult,
)

PARTIALS = PartialDecoder()
texts = st.text(max_size=4)
counts = st.integers(0, 2**40)
moments = st.integers(-(2**55), 2**62)
numbers = st.floats(allow_nan=False)
samples = st.builds(
    Sample,
    moments,
    texts,
    st.none() | st.sampled_from(Level),
    texts,
    st.none() | st.integers(0, 999),
    st.none() | numbers,
    texts,
    texts,
    st.dictionaries(texts, texts, max_size=3).map(lambda pairs: tuple(sorted(pairs.items()))),
)
aggregates = st.builds(
    Aggregate,
    counts,
    counts,
    counts,
    numbers,
    st.none() | numbers,
    st.none() | numbers,
    st.none() | moments,
    st.lists(samples, max_size=3).map(tuple),
    texts,
)
keys = st.builds(RowKey, texts, counts, st.lists(texts, max_size=3).map(tuple), moments)
batches = st.builds(
    PartialBatch,
    progress=st.builds(
        BlockProgress,
        source_partition=st.integers(0, 99),
        source_partitions=st.integers(0, 99),
        block=counts,
        up_to=counts,
        previous_up_to=counts,
        rules_revision=counts,
        max_event_ns=st.none() | moments,
        max_arrival_ns=st.none() | moments,
        idle_ns=st.none() | moments,
    ),
    rows=st.lists(st.builds(Row, keys, aggregates), max_size=3).map(tuple),
)
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


@given(batches)
def test_partial_batches(batch: PartialBatch) -> None:
    assert decode_batch(encode_batch(batch)) == batch


@given(st.lists(batches, max_size=4))
def test_partial_batches_through_columns(given: list[PartialBatch]) -> None:
    values = [encode_batch(batch) for batch in given]
    assert PARTIALS.decode(values) == given


def test_samples_in_the_former_form_have_no_attributes() -> None:
    # PartialBatch.rows, PartialRow.samples, SampleEvent.message and trace_id.
    value = bytes.fromhex("3a 0a 5a 08 22 01 6d 42 03") + b"abc"
    for (row,) in (decode_batch(value).rows, PARTIALS.decode([value])[0].rows):
        (sample,) = row.aggregate.samples
        assert (sample.message, sample.trace_id, sample.attributes) == ("m", "abc", ())


def test_judged_rows_that_are_replaced_later_are_left_out() -> None:
    def batch(up_to: int, *rows: Row, block: int = 0) -> PartialBatch:
        progress = BlockProgress(source_partition=0, source_partitions=1, block=block, up_to=up_to, previous_up_to=0)
        return PartialBatch(progress=progress, rows=rows)

    sample = Sample(1, "a", None, "m", None, None, "", "")
    one, two, longer = (RowKey("r", 1, group, 0) for group in (("a",), ("b",), ("a", "")))
    given = [
        batch(1, Row(one, Aggregate(1, samples=(sample,))), Row(two, Aggregate(1)), Row(longer, Aggregate(1))),
        batch(2, Row(one, Aggregate(2)), Row(two, Aggregate(2))),
        batch(3, Row(one, Aggregate(3)), block=1),
        batch(4, Row(two, Aggregate(4))),
        batch(5, Row(two, Aggregate(5))),
    ]
    kept = PARTIALS.decode([encode_batch(each) for each in given], [True, True, True, False, False], [0] * 5)
    # The second row of "b" stays: what replaces it is judged only after it.
    assert [[row.aggregate.counted for row in each.rows] for each in kept] == [[1, 1], [2, 2], [3], [4], [5]]
    assert PARTIALS.decode([]) == []


@pytest.mark.parametrize(
    ("heard", "kept"),
    [
        pytest.param([(0, 1), (0, 2)], [[], [2]], id="a later one that has come further"),
        pytest.param([(0, 2), (0, 1)], [[2], []], id="a repeat that has not come as far"),
        pytest.param([(0, 2), (1, 3), (0, 3)], [[2], [3], []], id="a repeat after the next block has begun"),
    ],
)
def test_of_judged_rows_the_one_that_counts_is_kept(heard: list[tuple[int, int]], kept: list[list[int]]) -> None:
    given = [
        PartialBatch(
            progress=BlockProgress(source_partition=0, source_partitions=1, block=block, up_to=up_to, previous_up_to=0),
            rows=(Row(RowKey("r", 1, ("a",), 0), Aggregate(up_to)),),
        )
        for block, up_to in heard
    ]
    decoded = PARTIALS.decode([encode_batch(each) for each in given], [True] * len(given), [0] * len(given))
    assert [[row.aggregate.counted for row in each.rows] for each in decoded] == kept


@given(transitions)
def test_states(transition: Transition) -> None:
    assert decode_state(encode_state(transition)) == transition


@pytest.mark.parametrize("decode", [decode_batch, decode_state])
def test_nonsense_is_malformed(decode: object) -> None:
    with pytest.raises(MalformedError):
        decode(b"\xff")  # type: ignore[operator]


def test_a_state_without_a_transition_is_malformed() -> None:
    with pytest.raises(MalformedError):
        decode_state(b"")
