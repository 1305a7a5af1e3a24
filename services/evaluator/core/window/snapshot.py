"""Snapshots of a stage: what reading all records before an offset again would rebuild, as values.

A snapshot has the arrays of the stage as they are, panes that are not freed yet among them. So a stage that is restored
from it and reads on is the stage that never stopped. It has neither rules nor alerts: these come from the manager and
from `window-state`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from services.evaluator.core.rules import SelectionKey
from services.evaluator.core.window.pane_table import PaneTable, TableColumns
from services.evaluator.core.window.partition_windows import PartitionWindows
from services.evaluator.core.window.rule_windows import RuleWindows, ScopeTotals
from services.evaluator.core.window.sequence import SourceSequence
from services.evaluator.core.window.watermark import SourceTimes


class SelectionState(NamedTuple):
    """What is known of a selection beside its panes."""

    # The start of the first window that is not closed.
    open_from_ns: int
    # Whether a rule judges its windows, so that those are closed that the watermark passes.
    is_judged: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageSnapshot:
    """The state of a stage at a position: what comes of the records before it."""

    position: int
    # As in the stage: whether an owner before it counted late events.
    is_resumed: bool
    selections: Mapping[SelectionKey, SelectionState]
    sequences: Mapping[int, SourceSequence]
    # How many partitions `log-events` has, and what is known of each.
    source_count: int
    sources: Mapping[int, SourceTimes]
    # The latest revision of rules that matched a record.
    matched_by: int
    table: TableColumns


def selection_states(windows: PartitionWindows) -> Mapping[SelectionKey, SelectionState]:
    """Return what is known of each selection."""
    return {
        selection: SelectionState(each.open_from_ns, is_judged=each.compiled is not None)
        for selection, each in windows.by_selection.items()
    }


def put_together(windows: PartitionWindows, snapshot: StageSnapshot) -> None:
    """Fill a partition's windows from a snapshot. Its watermark is the one up to which windows were judged since."""
    watermark_ns = windows.watermark.value_ns
    windows.watermark.resume(snapshot.source_count, snapshot.sources)
    windows.matched_by = snapshot.matched_by
    windows.table = PaneTable(snapshot.table, windows.table.others.limit)
    for selection, state in snapshot.selections.items():
        windows.by_selection[selection] = RuleWindows(
            selection,
            open_from_ns=state.open_from_ns,
            judged_watermark_ns=watermark_ns if state.is_judged else None,
        )
    for number in snapshot.table.counting_windows():
        window = windows.table.windows[number]
        if window.is_totals:
            owner: RuleWindows | ScopeTotals = windows.totals.setdefault(window.selection[0], ScopeTotals())
        else:
            owner = windows.by_selection[window.selection]
        owner.windows[window.start_ns] = window
