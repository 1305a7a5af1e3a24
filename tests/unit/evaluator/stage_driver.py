"""Drives the window stage of one partition from tests, in few words."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.evaluator.core.partial_rows import PartialBatch, of_rows
from services.evaluator.core.records import (
    SECOND_NS,
    Aggregate,
    BlockProgress,
    Group,
    Row,
    RowKey,
    Transition,
    totals_key,
)
from services.evaluator.core.rules import CompiledRule, RuleSet
from services.evaluator.core.window.checkpoint import Checkpoint
from services.evaluator.core.window.group_limit import DEFAULT_LIMIT, GroupLimit
from services.evaluator.core.window.stage import WindowStage
from services.evaluator.core.window.step import Outcome
from services.rule_language.rule import Rule
from tests.unit.evaluator.pipeline import rule

FRESH = Checkpoint(offset=0, position=0, watermark_ns=None)
COUNT = rule("count", "count > threshold")


@dataclass
class StageDriver:
    """One partition with one source; moments are in seconds."""

    stage: WindowStage
    offset: int = 0
    up_to: int = 0
    transitions: list[Transition] = field(default_factory=list)

    @classmethod
    def with_rules(
        cls,
        *rules: Rule,
        revision: int = 1,
        states: Sequence[Transition] = (),
        limit: GroupLimit = DEFAULT_LIMIT,
    ) -> "StageDriver":
        driver = cls.restored(FRESH, states, limit=limit)
        driver.update_rules(*rules, revision=revision)
        return driver

    @classmethod
    def restored(
        cls,
        checkpoint: Checkpoint,
        states: Sequence[Transition] = (),
        *,
        offset: int = 0,
        up_to: int = 0,
        limit: GroupLimit = DEFAULT_LIMIT,
    ) -> "StageDriver":
        stage = WindowStage.restored(checkpoint, states, allowance_ns=SECOND_NS, limit=limit)
        return cls(stage, offset=offset, up_to=up_to)

    def update_rules(self, *rules: Rule, revision: int = 1, now: float = 0) -> list[str]:
        return self._record(self.stage.update_rules(RuleSet.of(revision, rules), int(now * SECOND_NS)))

    def flush(self, *rows: Row, event: float | None = None, idle: float | None = None, rules: int = 1) -> list[str]:
        """Return what one flush decides: "FIRING a 0" for state, group and window."""
        return self._record(self.observe(*rows, event=event, idle=idle, rules=rules).transitions)

    def observe(self, *rows: Row, event: float | None = None, idle: float | None = None, rules: int = 1) -> Outcome:
        before, self.up_to = self.up_to, self.up_to + 1
        progress = BlockProgress(
            source_partition=0,
            source_partitions=1,
            block=0,
            up_to=self.up_to,
            previous_up_to=before,
            max_event_ns=None if event is None else int(event * SECOND_NS),
            idle_ns=None if idle is None else int(idle * SECOND_NS),
            rules_revision=rules,
        )
        return self.process(PartialBatch.of_block(progress=progress, rows=of_rows(rows)))

    def process(self, batch: PartialBatch) -> Outcome:
        return self.process_all([batch])

    def process_all(self, batches: Sequence[PartialBatch]) -> Outcome:
        """Process records in one step."""
        outcome = self.stage.observe(list(enumerate(batches, start=self.offset)), 0)
        self.offset += len(batches)
        return outcome

    def _record(self, transitions: Sequence[Transition]) -> list[str]:
        self.transitions += transitions
        return [f"{each.state.name} {each.resource} {each.window.start_ns // SECOND_NS}" for each in transitions]


def row(
    counted: int,
    pane: int = 0,
    group: Group = ("a",),
    total: int | None = None,
    rule_id: str = "count",
    selection_revision: int = 1,
) -> Row:
    key = RowKey(rule_id, selection_revision, group, pane * SECOND_NS)
    return Row(key, Aggregate(counted=counted, total=counted if total is None else total))


def progress(block: int, previous: int, up_to: int) -> BlockProgress:
    return BlockProgress(source_partition=0, source_partitions=1, block=block, up_to=up_to, previous_up_to=previous)


def scope_row(total: int, of: Rule, pane: int = 0, group: Group = ("a",)) -> Row:
    key = totals_key(CompiledRule.of(of).bucketing_id, group, pane * SECOND_NS)
    return Row(key, Aggregate(total=total, last_event_ns=pane * SECOND_NS))
