"""The watermark: never back, never ahead of a source that may still have events."""

from services.evaluator.core.records import SECOND_NS, BlockProgress
from services.evaluator.core.window.watermark import Watermark


def progress(source: int, event: float | None = None, idle: float | None = None, sources: int = 2) -> BlockProgress:
    return BlockProgress(
        source_partition=source,
        source_partitions=sources,
        block=0,
        up_to=1,
        previous_up_to=0,
        max_event_ns=None if event is None else int(event * SECOND_NS),
        idle_ns=None if idle is None else int(idle * SECOND_NS),
    )


def after(*flushes: BlockProgress, start: int | None = None) -> Watermark:
    watermark = Watermark(allowance_ns=10 * SECOND_NS, value_ns=start)
    for flush in flushes:
        watermark.observe(flush)
    return watermark


def seconds(watermark: Watermark) -> float | None:
    return None if watermark.value_ns is None else watermark.value_ns / SECOND_NS


def test_it_waits_for_every_source() -> None:
    assert seconds(after(progress(0, 100))) is None
    assert seconds(after(progress(0, 100), progress(1, 50))) == 50


def test_it_never_goes_back() -> None:
    assert seconds(after(progress(0, 100), progress(1, 50), progress(1, 40), progress(0, 60))) == 50
    assert seconds(after(progress(0, 10), progress(1, 10), start=20 * SECOND_NS)) == 20


def test_it_moves_in_steps() -> None:
    assert seconds(after(progress(0, 100.19), progress(1, 200))) == 100.1


def test_an_empty_source_does_not_hold_it_back() -> None:
    assert seconds(after(progress(0, 100), progress(1, None, idle=100))) == 90
    assert seconds(after(progress(0, 100), progress(1, 95, idle=100))) == 95


def test_a_busy_source_with_old_events_holds_it_back() -> None:
    assert seconds(after(progress(0, 5), progress(1, None, idle=1000))) == 5


def test_a_source_without_any_time_holds_it_back() -> None:
    assert seconds(after(progress(0, 100), progress(1))) is None


def test_when_all_are_empty_the_clock_may_decide_but_nothing_is_late() -> None:
    watermark = after(progress(0, 5, idle=1000), progress(1, None, idle=999))
    assert watermark.value_ns is None
    assert watermark.idle_until_ns == 989 * SECOND_NS
    watermark.jump(7)
    assert watermark.value_ns == 7


def test_while_one_is_busy_the_clock_does_not_decide() -> None:
    assert after(progress(0, 5, idle=1000), progress(1, 5)).idle_until_ns is None
    assert after(progress(0, 5, idle=1000)).idle_until_ns is None
    assert after().idle_until_ns is None


def test_a_topic_that_grew_is_waited_for() -> None:
    watermark = after(progress(0, 5), progress(1, 5), progress(0, 50, sources=3), progress(1, 60, sources=3))
    assert seconds(watermark) == 5
    watermark.observe(progress(2, 40, sources=3))
    assert seconds(watermark) == 40
