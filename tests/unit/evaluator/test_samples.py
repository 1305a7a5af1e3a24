"""Samples as columns: each is as it was, and no longer than a sample may be."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.domain.level import Level
from services.evaluator.core.records import Sample
from services.evaluator.core.samples import NO_SAMPLES, SampleTable
from tests.unit.evaluator.strategies import samples


@given(st.lists(samples, max_size=4))
def test_a_table_holds_samples_as_they_were(given: list[Sample]) -> None:
    table = SampleTable.of(given)
    assert table.to_list() == given
    assert [table.sample(index) for index in range(len(table))] == given


def test_tables_are_put_together() -> None:
    one, other = (Sample(n, "a", Level.ERROR, "m", None, 0.5, "", "", (("k", "v"),)) for n in (1, 2))
    tables = [SampleTable.of([one]), NO_SAMPLES, SampleTable.of([other, one])]
    whole = SampleTable.concat(tables)
    assert whole.to_list() == [one, other, one]
    assert whole.take(np.array([1, 1])).to_list() == [other, other]
    assert whole.sample(1) == other
    assert SampleTable.concat([NO_SAMPLES, tables[0]]).to_list() == [one]
    assert len(SampleTable.concat([])) == 0
