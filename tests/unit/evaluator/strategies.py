"""Values of the evaluator's records, as hypothesis draws them."""

from hypothesis import strategies as st

from services.domain.level import Level
from services.evaluator.core.records import Sample

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
