"""A stage that has everything that can be in a snapshot, and snapshots as values that can be compared."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from services.evaluator.core.partial_rows import PartialBatch, of_rows
from services.evaluator.core.records import Aggregate, BlockProgress, Row, RowKey, Sample
from services.evaluator.core.samples import SampleTable
from services.evaluator.core.window.stage import WindowStage
from tests.unit.evaluator.pipeline import rule
from tests.unit.evaluator.stage_driver import COUNT, StageDriver, row, scope_row

RATE = rule("rate", "rate > 0.5 && total > 2")


def stage_with_everything() -> WindowStage:
    """Return a stage with folded totals, a wide sum, a growing block with samples, closed windows, and free numbers."""
    driver = StageDriver.with_rules(COUNT, RATE)
    sample = Sample(1, "a", None, "m", None, None, "", "")
    wide = [Aggregate(counted=1, value_count=1, sum=value, samples=(sample,)) for value in (1e300, 1.0, 1e-300)]
    for block, aggregate in enumerate(wide):
        driver.process(flush_of(block, [Row(RowKey("count", 1, ("a",), 0), aggregate), scope_row(3, RATE)]))
    driver.process(flush_of(3, [row(1, pane=10, group=("b",)), Row(RowKey("count", 1, ("c",), 0), wide[0])]))
    return driver.stage


def flush_of(block: int, rows: Sequence[Row]) -> PartialBatch:
    start = block * 256
    progress = BlockProgress(
        source_partition=0, source_partitions=1, block=block, up_to=start + 256, previous_up_to=start, rules_revision=1
    )
    return PartialBatch.of_block(progress=progress, rows=of_rows(rows))


def plain(value: Any) -> Any:
    """Return a value that can be compared."""
    if isinstance(value, SampleTable):
        return value.batch.to_pylist()
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return str(value.tolist()) if isinstance(value, np.ndarray) else value
