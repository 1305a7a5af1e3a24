"""Early flushes: the rows of tenants with few of them do not wait until those of a tenant with many are written.

A flush of 10,000 rows takes 50 ms and more until it is judged, and is followed by a longer pause. So before it, and in
the pause, the rows of tenants that have few changed ones are written alone, in a flush with the progress of its blocks.

Why it is exact: rows replace, and each is a function of its block's records, whichever flush it comes with. An early
flush takes part in the sequence of flushes, so a reader notices when one is missing. It does not move event time: the
rows of the other tenants, which belong to that time, are not written yet. It does not count as sent for a new owner. It
writes nothing of a block that is complete, because what is not written of that must come before the next block.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import numpy as np

from services.evaluator.core.distinct_integers import distinct_integers
from services.evaluator.core.match.blocks import FlushedBlock, SourcePartition, batches_of
from services.evaluator.core.match.events import Ints
from services.evaluator.core.match.pacing import MANY_ROWS
from services.evaluator.core.partial_rows import PartialBatch
from services.evaluator.core.rules import RuleSet

# The rows of an early flush together are at most this share of the others.
_MAX_SHARE: Final = 0.2


def flush_early(
    sources: Collection[SourcePartition], rules: RuleSet, *, outputs: int, source_partitions: int
) -> list[tuple[int, PartialBatch]]:
    """Return what changed of tenants with few rows, for every output partition; nothing where it is not worth it."""
    changed = {source.partition: _rows_by_tenant(source, rules) for source in sources}
    early = early_tenants(_counts(changed.values()))
    flushed: list[FlushedBlock] = []
    for source in sources if early else ():
        slots = [rows for tenant, rows in changed[source.partition].items() if tenant in early]
        if slots and source.may_flush_early:
            flushed.append(
                source.flush_early(
                    np.concatenate(slots),
                    outputs=outputs,
                    source_partitions=source_partitions,
                    rules_revision=rules.revision,
                )
            )
    return list(enumerate(batches_of(flushed, outputs, continues=False))) if flushed else []


def early_tenants(rows: Mapping[str, int]) -> frozenset[str]:
    """Return the tenants whose rows go first, given how many changed rows each has; "" stands for nobody."""
    later, early, early_rows = sum(rows.values()), set[str](), 0
    for tenant in sorted(filter(None, rows), key=lambda each: rows[each]):
        early_rows += rows[tenant]
        later -= rows[tenant]
        if later < MANY_ROWS or early_rows > _MAX_SHARE * later:
            break
        early.add(tenant)
    return frozenset(early)


def _counts(changed: Iterable[Mapping[str, Ints]]) -> Mapping[str, int]:
    counts: Counter[str] = Counter()
    for of_source in changed:
        counts.update({tenant: len(slots) for tenant, slots in of_source.items()})
    return counts


def _rows_by_tenant(source: SourcePartition, rules: RuleSet) -> Mapping[str, Ints]:
    """Return the slots of the rows of the current block that changed, by tenant; "" is nobody."""
    slots, classes, readers = source.blocks[-1].rows.changed()
    numbers: dict[str, int] = {}
    number_of_class = np.zeros(len(readers), dtype=np.int64)
    for each in distinct_integers(classes).tolist():
        number_of_class[each] = numbers.setdefault(_tenant(readers[each], rules), len(numbers))
    return {tenant: slots[number_of_class[classes] == number] for tenant, number in numbers.items()}


def _tenant(readers: Iterable[str], rules: RuleSet) -> str:
    """Return whose the rows are that these rules read, all of one tenant: rows and their totals must come together."""
    compiled = next((rules.rules[each] for each in readers if each in rules.rules), None)
    return "" if compiled is None else compiled.rule.tenant
