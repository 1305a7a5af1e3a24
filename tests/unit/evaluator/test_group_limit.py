"""A rule with more groups than its limit: the first ones are judged by themselves, the others as `~other`."""

from services.evaluator.core.partial_rows import PartialBatch, of_rows
from services.evaluator.core.records import SECOND_NS, Aggregate, Row, RowKey, Sample, TransitionReason, partition_of
from services.evaluator.core.rules import RuleSet
from services.evaluator.core.window.checkpoint import Checkpoint
from services.evaluator.core.window.group_limit import GroupLimit
from services.evaluator.core.window.stage import WindowStage
from tests.unit.evaluator.pipeline import Event, Pipeline, rule, run
from tests.unit.evaluator.stage_driver import COUNT, FRESH, StageDriver, progress, row, scope_row

TWO = GroupLimit(max_groups=2)
RATE = rule("count", "rate >= 0.5 && count > 2")
SHARE = rule("share", "rate > 0.9 && total > 100")
COUNT_OF_OTHERS = rule("others", "count > 1000")
OTHER = ("~other/0",)


def rows_of(**counted: int) -> list[Row]:
    return [row(count, group=(group,)) for group, count in counted.items()]


def test_groups_beyond_the_limit_are_judged_as_one() -> None:
    driver = StageDriver.with_rules(COUNT, limit=TWO)
    assert driver.flush(*rows_of(a=1, b=1, c=1, d=1), event=1) == []
    assert driver.flush(*rows_of(a=3, d=2), event=2) == ["FIRING a 0", "FIRING ~other/0 0"]
    other = driver.transitions[-1]
    assert (other.window.count, other.group, other.group_fields) == (3, OTHER, {"service": "~other/0"})
    assert driver.flush(*rows_of(c=1, e=1), event=25) == ["RESOLVED a 10", "RESOLVED ~other/0 10"]
    assert driver.stage.count_groups() == (0, 0)


def test_it_is_reported_once_a_window_and_each_event_is_counted() -> None:
    driver = StageDriver.with_rules(COUNT, limit=TWO)
    outcomes = [driver.observe(*rows_of(a=1, b=1, c=1)), driver.observe(*rows_of(a=2, c=3, d=1)), driver.observe()]
    assert [outcome.beyond_limit for outcome in outcomes] == [{"count": 1}, {"count": 3}, {}]
    assert [outcome.limited_windows for outcome in outcomes] == [(("count", 0, "RULE"),), (), ()]


def test_the_name_of_what_is_beyond_the_limit_has_a_value_for_each_field() -> None:
    limit = GroupLimit(max_groups=10, partition=3, partitions=4)
    assert (limit.other(1), limit.other(3)) == (("~other/3",), ("~other", "~other", "~other/3"))
    assert (limit.share(), limit.share(3), limit.share(9), GroupLimit(partitions=10**6).share()) == (2, 6, 8, 1)


def test_a_row_that_comes_again_and_the_end_of_its_block_change_nothing() -> None:
    driver = StageDriver.with_rules(COUNT, limit=TWO)
    driver.flush(*rows_of(a=1, b=1, c=2), event=1)
    batch = PartialBatch.of_block(progress=progress(0, 1, 1), rows=of_rows(rows_of(c=2)))
    assert driver.process(batch).transitions == ()
    (fired,) = driver.process(
        PartialBatch.of_block(progress=progress(1, 256, 257), rows=of_rows(rows_of(c=1)))
    ).transitions
    assert (fired.group, fired.window.count) == (OTHER, 3)


def test_a_group_with_an_alert_always_has_a_pane() -> None:
    driver = StageDriver.with_rules(COUNT, limit=TWO)
    assert driver.flush(row(3, group=("z",)), event=1) == ["FIRING z 0"]
    later = [row(5, pane=10, group=(group,)) for group in "abcz"]
    assert driver.flush(*later, event=11) == ["FIRING a 10", "FIRING b 10", "FIRING ~other/0 10"]
    assert driver.flush(row(5, pane=20, group=("z",)), event=25) == []
    assert driver.flush(event=35) == ["RESOLVED a 20", "RESOLVED b 20", "RESOLVED ~other/0 20"]


def test_samples_of_what_is_beyond_the_limit_are_the_earliest_ones() -> None:
    driver = StageDriver.with_rules(COUNT, limit=GroupLimit(max_groups=1))

    def sampled(group: str, counted: int, second: int) -> Row:
        sample = Sample(second * SECOND_NS, group, None, "m", None, None, "", "")
        return Row(RowKey("count", 1, (group,), 0), Aggregate(counted=counted, samples=(sample,)))

    driver.flush(row(1), event=1)
    folded = [sampled("b", 1, 5), sampled("c", 1, 4)]
    driver.process(PartialBatch.of_block(progress=progress(0, 1, 256), rows=of_rows(folded)))
    new = PartialBatch.of_block(progress=progress(1, 256, 257), rows=of_rows([sampled("d", 1, 3), sampled("e", 1, 6)]))
    (fired,) = driver.process(new).transitions
    assert [sample.service for sample in fired.samples] == ["d", "c", "b"]
    assert fired.window.count == 4


def test_what_comes_late_for_a_window_beyond_its_limit_is_counted_once() -> None:
    driver = StageDriver.with_rules(COUNT, limit=GroupLimit(max_groups=1))
    driver.flush(*rows_of(a=1, b=1), event=1)
    driver.flush(event=20)
    outcome = driver.observe(*rows_of(b=2, c=1))
    assert (outcome.late_by_rule, outcome.beyond_limit) == ({"count": 2}, {})
    driver.process(PartialBatch.of_block(progress=progress(1, 256, 257)))
    driver.stage.windows.table.compact(is_forced=True)
    assert len(driver.stage.windows.table.groups) == 0


def test_a_replay_chooses_the_same_groups() -> None:
    batches = [
        PartialBatch.of_block(
            progress=progress(0, number, number + 1),
            rows=of_rows([row(3, group=(group,)), row(3, pane=10, group=(group,))]),
        )
        for number, group in enumerate("abcd")
    ]
    live = StageDriver.with_rules(COUNT, limit=TWO)
    steps = [step for batch in batches for step in live.process(batch).transitions]
    again = StageDriver.restored(Checkpoint(offset=0, position=4, watermark_ns=None), limit=TWO)
    again.update_rules(COUNT)
    assert {step.id for step in again.process_all(batches).transitions} == {
        step.id for step in steps if step.group in {("a",), ("b",), OTHER} and step.window.start_ns == 0
    }


def test_totals_of_what_is_beyond_the_limit_are_those_of_its_groups() -> None:
    driver = StageDriver.with_rules(RATE, SHARE, limit=TWO)
    scopes = [scope_row(total, RATE, group=(group,)) for group, total in (("a", 9), ("b", 9), ("c", 2), ("d", 3))]
    assert driver.flush(*rows_of(a=1, c=1, d=1), *scopes, event=1) == []
    assert driver.flush(*rows_of(c=2), scope_row(3, RATE, group=("c",)), event=2) == ["FIRING ~other/0 0"]
    fired = driver.transitions[-1]
    assert (fired.window.count, fired.window.total) == (3, 6)
    # Another form of the rules counts a row of the same block.
    further = scope_row(7, RATE, group=("d",))
    assert driver.flush(*rows_of(d=3), further, event=3, rules=2) == []
    assert driver.flush(event=25) == ["RESOLVED ~other/0 10"]
    assert driver.transitions[-1].reason is TransitionReason.SILENT


def homes(rule_id: str, limit: GroupLimit) -> list[str]:
    """Return groups of a rule that are judged in this partition."""
    names = [f"g{number}" for number in range(40)]
    return [name for name in names if partition_of(rule_id, (name,), limit.partitions) == limit.partition]


def test_each_reader_of_totals_has_those_of_its_own_groups_beyond_the_limit() -> None:
    limit = GroupLimit(max_groups=2, partition=1, partitions=2)
    here = homes("count", limit)
    elsewhere = [name for name in homes("share", limit) if name not in here]
    driver = StageDriver.with_rules(RATE, SHARE, COUNT_OF_OTHERS, limit=limit)
    own, totals = here[:5], [*here[:5], *elsewhere[:3]]
    rows = [row(1, group=(name,)) for name in own[:4]] + [row(1, group=(name,), rule_id="others") for name in own]
    driver.flush(*rows, *(scope_row(2, RATE, group=(name,)) for name in totals), event=1)
    again = StageDriver(
        WindowStage.restored(FRESH, (), SECOND_NS, snapshot=driver.stage.snapshot(0), limit=limit), 1, driver.up_to
    )
    again.update_rules(RATE, SHARE, COUNT_OF_OTHERS)
    for each in (driver, again):
        more = row(3, group=(own[2],)), row(2, group=(own[3],)), scope_row(3, RATE, group=(own[2],))
        assert each.flush(*more, event=2) == ["FIRING ~other/1 0"]
        # Of `count` three groups are beyond the limit, of which one has selected nothing.
        assert (each.transitions[-1].window.count, each.transitions[-1].window.total) == (5, 7)


def test_a_group_whose_alert_reads_totals_keeps_them() -> None:
    driver = StageDriver.with_rules(RATE, limit=TWO)
    assert driver.flush(row(3, group=("z",)), scope_row(3, RATE, group=("z",)), event=1) == ["FIRING z 0"]
    later = [scope_row(9, RATE, pane=10, group=(group,)) for group in "abcz"]
    driver.flush(*later, row(5, pane=10, group=("z",)), event=11)
    assert driver.flush(event=25) == []
    assert driver.flush(event=35) == ["RESOLVED z 20"]


def test_a_rule_that_may_fire_where_nothing_is_selected_judges_only_the_groups_of_its_partition() -> None:
    rules = RuleSet.of(1, [rule("few", "count < threshold"), rule("rate", "rate > 5.0"), rule("any", "total > 1000")])
    pipeline = Pipeline(rules)
    services = [f"s{number}" for number in range(20)]
    pipeline.append(0, [Event(second, service=service) for service in services for second in (1, 2, 3)])
    run(pipeline)
    assert not pipeline.alerts
