"""Values of the evaluator's records, as hypothesis draws them."""

from hypothesis import strategies as st

from services.domain.level import Level
from services.evaluator.core.partial_rows import BlockPart, PartialBatch, of_rows
from services.evaluator.core.records import Aggregate, BlockProgress, Row, RowKey, Sample

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
_finite = st.floats(allow_nan=False, allow_infinity=False)
_aggregates = st.builds(
    Aggregate,
    counts,
    counts,
    counts,
    numbers,
    st.none() | _finite,
    st.none() | _finite,
    st.none() | moments,
    st.lists(samples, max_size=3).map(tuple),
    texts,
)
_keys = st.builds(RowKey, texts, counts, st.lists(texts, max_size=3).map(tuple), moments)
partial_rows = st.lists(st.builds(Row, _keys, _aggregates), max_size=4).map(tuple)
_missed = st.dictionaries(st.tuples(texts, counts), st.lists(moments, max_size=3).map(tuple), max_size=2)
_progress = st.builds(
    BlockProgress,
    source_partition=st.integers(0, 99),
    source_partitions=st.just(99),
    block=counts,
    up_to=counts,
    previous_up_to=counts,
    rules_revision=st.just(7),
    max_event_ns=st.none() | moments,
    max_arrival_ns=st.none() | moments,
    idle_ns=st.none() | moments,
)
_blocks = st.tuples(_progress, partial_rows, _missed)
one_block = st.builds(
    lambda block, continues: PartialBatch.of_block(block[0], of_rows(block[1]), block[2], continues=continues),
    _blocks,
    st.booleans(),
)
batches = st.builds(
    lambda blocks, continues: PartialBatch(
        blocks=[BlockPart(progress=each[0], rows=len(each[1]), missed=each[2]) for each in blocks],
        rows=of_rows([row for each in blocks for row in each[1]]),
        continues=continues,
    ),
    st.lists(_blocks, min_size=1, max_size=3, unique_by=lambda block: block[0].source_partition),
    st.booleans(),
)
