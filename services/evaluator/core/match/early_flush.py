"""Early flushes: few rows do not wait until many others are written and judged.

A flush of 10,000 rows takes 50 ms and more until it is judged, and is followed by a longer pause. So before it, and in
the pause, changed rows that cost little are written alone, in a flush with the progress of their blocks: first those of
the tenants whose rows cost least in all, so that nobody comes first by having many rules with few rows each.

Why it is exact: rows replace, and each is a function of its block's records, whichever flush it comes with. All that a
rule has counted in a block goes together, and with the totals that it is judged by. An early flush takes part in the
sequence of flushes, so a reader notices when one is missing. It does not move event time: the other rows, which belong
to that time, are not written yet. It does not count as sent for a new owner. It writes nothing of a block that is
complete, because what is not written of that must come before the next block.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.evaluator.core.match.blocks import FlushedBlock, SourcePartition, batches_of
from services.evaluator.core.match.events import Floats, Ints, RowMask
from services.evaluator.core.match.pacing import MANY_ROWS_SECONDS, rows_seconds
from services.evaluator.core.partial_rows import PartialBatch
from services.evaluator.core.rules import RulePlace, RuleSet

# The rows of an early flush together cost at most this share of the others.
_MAX_SHARE: Final = 0.2
# In place of the tenant of rows that no rule reads: they always wait.
NOBODY: Final = -1
_NO_PLACE: Final = RulePlace(tenant=NOBODY, bucketing=0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChangedRows:
    """The rows of a source's current block that changed, in units that go together."""

    source: SourcePartition
    # Of each row its slot and its unit.
    slots: Ints
    unit: Ints
    # Of each unit whose rules read it, and what its rows cost, in seconds.
    tenant: Ints
    cost_s: Floats


def flush_early(
    sources: Collection[SourcePartition], rules: RuleSet, *, outputs: int, source_partitions: int
) -> list[tuple[int, PartialBatch]]:
    """Return changed rows that cost little, for every output partition; nothing where it is not worth it."""
    # Most flushes are of few rows: what these cost is known without their units.
    if sum(map(_changed_cost_s, sources)) < MANY_ROWS_SECONDS:
        return []
    changed = [changed_rows(source, rules) for source in sources]
    is_early = early_units(
        np.concatenate([each.tenant for each in changed]), np.concatenate([each.cost_s for each in changed])
    )
    return flush_units(
        changed, is_early, outputs=outputs, source_partitions=source_partitions, rules_revision=rules.revision
    )


def flush_units(
    changed: Sequence[ChangedRows], is_early: RowMask, *, outputs: int, source_partitions: int, rules_revision: int
) -> list[tuple[int, PartialBatch]]:
    """Return the rows of these units, in the order of `changed`, from sources where some may go early."""
    ends = np.cumsum([len(each.tenant) for each in changed])
    flushed: list[FlushedBlock] = []
    for each, own in zip(changed, np.split(is_early, ends[:-1]), strict=True):
        slots = each.slots[own[each.unit]]
        if len(slots) and each.source.may_flush_early:
            flushed.append(
                each.source.flush_early(
                    slots, outputs=outputs, source_partitions=source_partitions, rules_revision=rules_revision
                )
            )
    return list(enumerate(batches_of(flushed, outputs, continues=False))) if flushed else []


def early_units(tenant: Ints, cost_s: Floats) -> RowMask:
    """Mark the units that go first: the cheapest, as long as many rows are left that would hold them up."""
    somebodys = np.flatnonzero(tenant != NOBODY)
    of_tenants = np.bincount(tenant[somebodys], weights=cost_s[somebodys])
    order = somebodys[np.lexsort([cost_s[somebodys], of_tenants[tenant[somebodys]]])]
    early_s = np.cumsum(cost_s[order])
    later_s = cost_s.sum() - early_s
    is_worth_it = (later_s >= MANY_ROWS_SECONDS) & (early_s <= _MAX_SHARE * later_s)
    is_early = np.zeros(len(tenant), dtype=np.bool_)
    is_early[order[np.logical_and.accumulate(is_worth_it)]] = True
    return is_early


def changed_rows(source: SourcePartition, rules: RuleSet) -> ChangedRows:
    """Return what changed: a class of rows is a unit, but all rules judged by the same totals are one with these."""
    slots, classes, readers = source.blocks[-1].rows.changed()
    places = [next((rules.places[each] for each in own if each in rules.places), _NO_PLACE) for own in readers]
    unit_of_class = np.array(
        [
            number if rules.total_rules.isdisjoint(own) else len(readers) + place.bucketing
            for number, (own, place) in enumerate(zip(readers, places, strict=True))
        ],
        dtype=np.int64,
    )
    tenant = np.full(len(readers) + len(rules.rules), NOBODY)
    tenant[unit_of_class] = [place.tenant for place in places]
    unit = unit_of_class[classes]
    of_units = np.bincount(unit, weights=_row_costs_s(readers)[classes], minlength=len(tenant)).astype(np.float64)
    return ChangedRows(source=source, slots=slots, unit=unit, tenant=tenant, cost_s=of_units)


def _changed_cost_s(source: SourcePartition) -> float:
    _, classes, readers = source.blocks[-1].rows.changed()
    return float(_row_costs_s(readers)[classes].sum())


def _row_costs_s(readers: Sequence[Sequence[str]]) -> Floats:
    """Return what a row of each class costs; what no rule reads is not written."""
    expanded = np.array([*map(len, readers)], dtype=np.float64)
    return rows_seconds(np.minimum(expanded, 1), expanded)
