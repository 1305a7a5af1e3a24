"""How much a restart would read again, and when a snapshot is due."""

import pytest

from services.evaluator.core.records import LATEST_NS, SECOND_NS
from services.evaluator.core.window import reading_history
from services.evaluator.core.window.reading_history import ReadAgain, ReadingHistory


def read(seconds: int, rows: int = 1) -> ReadingHistory:
    """Return what was read in so many seconds: two records a second, from offset 10 on."""
    history = ReadingHistory()
    for number in range(2 * seconds + 1):
        history.observe(10 + number, number * SECOND_NS // 2, rows)
    return history


def test_what_is_read_again_is_known_to_the_second() -> None:
    history = read(5)
    assert history.since(10) == ReadAgain(5 * SECOND_NS, 11)
    assert history.since(13) == history.since(12) == ReadAgain(4 * SECOND_NS, 9)
    assert history.since(20) == history.since(99) == ReadAgain(0, 1)


def test_what_is_older_than_all_that_is_known_is_as_old_as_can_be() -> None:
    assert ReadingHistory().since(3) == ReadAgain(0, 0)
    assert read(5).since(9) == ReadAgain(LATEST_NS, 11)


def test_the_oldest_is_forgotten() -> None:
    assert len(read(2000)._marks) == reading_history._MAX_MARKS


@pytest.mark.parametrize(
    ("seconds", "oldest", "position", "is_due"),
    [
        pytest.param(0, 10, None, False, id="nothing to read again"),
        pytest.param(40, 10, None, False, id="young windows"),
        pytest.param(42, 10, None, True, id="an old window, of a minute or of a day"),
        pytest.param(130, 200, None, False, id="only young windows are open"),
        pytest.param(130, 10, 200, False, id="the last snapshot is young"),
        pytest.param(130, 10, 180, True, id="the last snapshot is old"),
        pytest.param(130, 10, 5, True, id="the last snapshot is older than what is needed"),
    ],
)
def test_a_snapshot_is_due_by_time(seconds: int, oldest: int, position: int | None, is_due: bool) -> None:  # noqa: FBT001  (a parameter of the table)
    assert read(seconds).is_snapshot_due(oldest, position, 0) == is_due


@pytest.mark.parametrize(("rows", "panes", "is_due"), [(6000, 0, True), (6000, 70_000, False), (1, 0, False)])
def test_a_snapshot_is_due_by_rows(rows: int, panes: int, is_due: bool) -> None:  # noqa: FBT001
    # Five records.
    assert read(2, rows).is_snapshot_due(10, None, panes) == is_due


def test_rows_do_not_count_where_snapshots_have_taken_too_much_time() -> None:
    assert not read(2, 6000).is_snapshot_due(10, None, 0, may_save_rows=False)
    assert read(42).is_snapshot_due(10, None, 0, may_save_rows=False)
