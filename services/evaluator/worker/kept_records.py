"""The records of the current blocks, as Kafka gave them: for a rule that selects more, its tenant's are matched again.

Only where several tenants have rules: of one alone all records would be matched again, and reading them from Kafka
takes no memory.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from services.chassis.kafka import Record
from services.evaluator.core.match.aggregation import begin_again, match_again
from services.evaluator.core.match.blocks import SourcePartition
from services.evaluator.core.match.events import LogRecord
from services.evaluator.core.rules import CompiledRule, RuleSet
from services.evaluator.ports import LogSource
from services.evaluator.worker.rule_supervisor import RuleSupervisor

# So many are matched at once.
_RECORDS_AT_ONCE = 48


@dataclass(slots=True)
class _OfPartition:
    """What is kept of a partition: all its records from an offset on, each with its tenant."""

    first: int
    records: list[tuple[str, Record]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(len(record.value) for _, record in self.records)


class KeptRecords:
    """The records of the current blocks of all sources, within a bound. Changed in place."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        self._partitions: dict[int, _OfPartition] = {}

    def add(self, records: Sequence[Record], matched: Sequence[LogRecord]) -> None:
        """Keep the records of a fetch, given with what was read of each."""
        for record, read in zip(records, matched, strict=True):
            kept = self._partitions.setdefault(record.partition, _OfPartition(record.offset))
            kept.records.append((read.tenant, record))
            self._size += len(record.value)
        while self._size > self._max_bytes:
            self.forget(max(self._partitions, key=lambda partition: self._partitions[partition].size))

    def clear(self) -> None:
        """Keep nothing but what comes from now on."""
        self._partitions.clear()
        self._size = 0

    def forget(self, partition: int) -> None:
        """Keep nothing of a partition but what comes from now on."""
        kept = self._partitions.pop(partition, None)
        self._size -= kept.size if kept else 0

    def drop_before(self, partition: int, offset: int) -> None:
        """Drop what is before the current block."""
        kept = self._partitions.get(partition)
        if kept is not None and kept.records and kept.records[0][1].offset < offset:
            before = kept.size
            kept.records = [each for each in kept.records if each[1].offset >= offset]
            self._size -= before - kept.size

    def of_tenants(self, tenants: frozenset[str], sources: Mapping[int, SourcePartition]) -> list[Record] | None:
        """Return the records of some tenants in the current blocks; None where not all of these are kept."""
        found: list[Record] = []
        for partition, source in sources.items():
            if source.is_at_border:
                continue
            kept = self._partitions.get(partition)
            if kept is None or kept.first > source.blocks[0].start or source.has_skipped_rows:
                return None
            found += [record for tenant, record in kept.records if tenant in tenants]
        return found


async def match_kept(
    records: Sequence[Record],
    rules: RuleSet,
    again: frozenset[CompiledRule],
    sources: Mapping[int, SourcePartition],
    *,
    source: LogSource,
    supervisor: RuleSupervisor,
) -> Mapping[str, int]:
    """Count again what some rules select in the current blocks: in these, which are all records of their tenants.

    Return how many events each of them has selected that metrics do not count yet.
    """
    begin_again(again, [sources[partition] for partition in {record.partition for record in records}])
    selected: Counter[str] = Counter()
    for first in range(0, len(records), _RECORDS_AT_ONCE):
        events = await source.decode(records[first : first + _RECORDS_AT_ONCE])
        match = partial(match_again, events, rules, again, sources, supervisor.set_aside)
        outcome = await asyncio.to_thread(match)
        supervisor.failed(outcome)
        selected.update(outcome.selected)
    return selected
