"""Rows of blocks that grow: each source has its own, and those of an ended block are used again."""

import numpy as np
import pytest

from services.evaluator.core.match.events import Ints
from services.evaluator.core.window import growing_blocks
from services.evaluator.core.window.aggregates import COLUMNS, SUM
from services.evaluator.core.window.code_index import NO_SLOT
from services.evaluator.core.window.growing_blocks import GrowingBlocks, NewRows

SIZE = 100


def put(blocks: GrowingBlocks, source: int, slots: list[int], samples: list[int] | None = None) -> Ints:
    """Put a row into each of these panes, the first one with these samples; return the rows."""
    places, panes = np.full(len(slots), blocks.index.place(source)), np.array(slots)
    counts = np.zeros(len(slots), dtype=np.int64)
    counts[0] = len(samples or [])
    new = NewRows(
        places=places,
        slots=panes,
        up_to=np.ones(len(slots), dtype=np.int64),
        matched_by=np.ones(len(slots), dtype=np.int64),
        numbers={name: np.full(len(slots), source) for name in (*COLUMNS, SUM)},
        sample_counts=counts,
        sample_ids=np.array(samples or [], dtype=np.int64),
    )
    blocks.replace(new, blocks.index.find(places, panes, SIZE))
    return blocks.index.find(places, panes, SIZE)


def samples_of(blocks: GrowingBlocks, rows: Ints) -> list[int]:
    samples: list[int] = blocks.samples(rows)[1].tolist()
    return samples


def test_a_pane_has_a_row_of_each_source() -> None:
    blocks = GrowingBlocks()
    rows = [put(blocks, source, [3, 5]) for source in (7, 4)]
    found = blocks.index.find_by_source(np.array([3, 5, 6]), SIZE)
    assert [each.tolist() for each in found] == [[*each.tolist(), NO_SLOT] for each in rows]
    assert [blocks.take(each, ("counted",))["counted"].tolist() for each in rows] == [[7, 7], [4, 4]]
    assert {source: block.columns["slots"].tolist() for source, block in blocks.columns().items()} == {
        7: [3, 5],
        4: [3, 5],
    }


def test_the_rows_of_an_ended_block_are_used_again_without_their_samples() -> None:
    blocks = GrowingBlocks()
    put(blocks, 0, [1, 2], samples=[8, 9])
    put(blocks, 1, [1], samples=[5])
    ended = blocks.end(0)
    assert samples_of(blocks, ended) == [8, 9]
    assert blocks.index.find_by_source(np.array([2]), SIZE) == []
    again = put(blocks, 0, [3, 4, 5])
    assert set(ended.tolist()) < set(again.tolist())
    assert samples_of(blocks, blocks.all_rows()) == [5]


def test_when_all_blocks_have_ended_only_what_comes_takes_room() -> None:
    blocks = GrowingBlocks()
    put(blocks, 0, list(range(1, 90)))
    assert len(blocks.end(0)) == 89
    assert blocks.end(5).tolist() == []
    assert put(blocks, 0, [7]).tolist() == [1]
    assert len(blocks._columns["counted"]) < 89


def test_samples_that_no_row_has_any_more_are_dropped_once_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing_blocks, "_MIN_LEFT_SAMPLES", 4)
    blocks = GrowingBlocks()
    for number in range(9):
        put(blocks, 0, [1], samples=[number])
        put(blocks, 1, [1], samples=[number + 100])
        assert len(blocks._sample_ids) <= 2 * 2 + 4 + 1
    assert samples_of(blocks, blocks.all_rows()) == [8, 108]
