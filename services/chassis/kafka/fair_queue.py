"""Share a consumer's batches between tenants: what one has many of does not delay the few records of another.

Records are fetched ahead of being handled, up to a bound, and wait in a line for each tenant. A batch visits the lines
in turn, each once, and takes at most a quantum from each (deficit round robin where each record costs the same). So:

- A record waits for no more than a quantum of each other tenant for each quantum of its own tenant before it, beside
  the batch that is being handled when it comes.
- The records of a tenant keep their order, and with it those of an alert or an incident, which is one tenant's.
- Nothing is lost: of each partition the offset of the oldest record that was not taken yet is committed. After a crash
  what was handled ahead of that comes again, and changes nothing: redelivery is normal.

While no two tenants have had a line at once there is nothing to share: batches are as large as they may be. What fits
into a quantum is taken as it came, and nobody looks at whose it is.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from services.chassis.kafka.record import Record

_MAX_BYTES_AHEAD = 16 * 1024 * 1024


class FairBatch(NamedTuple):
    """Records to handle, and what may be committed once they are: an offset for each of their partitions."""

    records: list[Record]
    offsets: Mapping[int, int]


class FairQueue:
    """The records that were fetched and not taken yet, of one consumer."""

    def __init__(self, tenant_of: Callable[[Record], str], *, limit: int, quantum: int, max_ahead: int) -> None:
        """Give out batches of at most `limit` records, of which `max_ahead` wait; `quantum` is no more than `limit`."""
        self._tenant_of = tenant_of
        self._limit = limit
        self._quantum = quantum
        self._max_ahead = max_ahead
        # In the order in which they came; whose they are is not known yet.
        self._arrived: list[Record] = []
        # By tenant, the one whose turn it is first; none is empty.
        self._lines: dict[str, deque[Record]] = {}
        self._is_shared = False
        self._offsets: dict[int, _PartitionOffsets] = {}
        self.bytes = 0
        """The bytes of all records."""

    def __len__(self) -> int:
        return len(self._arrived) + sum(map(len, self._lines.values()))

    @property
    def room(self) -> int:
        """Return how many records to fetch: twice what is taken, so that what is ahead grows while there is more."""
        if self.bytes >= _MAX_BYTES_AHEAD:
            return 1
        return max(1, min(2 * self._limit, self._max_ahead - len(self)))

    @property
    def oldest_offsets(self) -> Mapping[int, int]:
        """Return the offset of each partition's oldest record that was not taken, as far as there is one."""
        return {partition: offsets.oldest for partition, offsets in self._offsets.items() if offsets.waiting}

    def put(self, records: Iterable[Record]) -> None:
        """Add records; those of each partition in order."""
        for record in records:
            self._arrived.append(record)
            self._offsets.setdefault(record.partition, _PartitionOffsets()).put(record.offset)
            self.bytes += len(record.value)

    def drop(self, partitions: Collection[int]) -> None:
        """Forget the records of partitions that were revoked: whoever gets these reads them again."""
        if not partitions:
            return
        kept = [record for record in self._all() if record.partition not in partitions]
        self._arrived, self._lines = kept, {}
        self._offsets = {each: offsets for each, offsets in self._offsets.items() if each not in partitions}
        self.bytes = sum(len(record.value) for record in kept)

    def take(self) -> FairBatch:
        """Return the next batch; it is empty only if there is no record."""
        if not self._lines and len(self._arrived) <= self._quantum:
            taken, self._arrived = self._arrived, []
        else:
            self._sort()
            taken = self._visit_lines()
        for record in taken:
            self._offsets[record.partition].take(record.offset)
            self.bytes -= len(record.value)
        partitions = {record.partition for record in taken}
        return FairBatch(taken, {partition: self._offsets[partition].oldest for partition in partitions})

    def _sort(self) -> None:
        for record in self._arrived:
            self._lines.setdefault(self._tenant_of(record), deque()).append(record)
        self._arrived = []
        self._is_shared = self._is_shared or len(self._lines) > 1

    def _visit_lines(self) -> list[Record]:
        quantum = self._quantum if self._is_shared else self._limit
        taken: list[Record] = []
        for tenant in list(self._lines):
            line = self._lines[tenant]
            share = min(quantum, len(line))
            if len(taken) + share > self._limit:
                # Its turn comes first in the next batch, with all of its share.
                break
            taken += [line.popleft() for _ in range(share)]
            del self._lines[tenant]
            if line:
                self._lines[tenant] = line
        return taken

    def _all(self) -> list[Record]:
        return [*(record for line in self._lines.values() for record in line), *self._arrived]


class _PartitionOffsets:
    """Which records of a partition wait, and which were taken ahead of them."""

    def __init__(self) -> None:
        self.waiting: deque[int] = deque()
        self._ahead: set[int] = set()
        self._end = 0

    @property
    def oldest(self) -> int:
        """Return the offset of the oldest record that was not taken; without one the end of what came."""
        return self.waiting[0] if self.waiting else self._end

    def put(self, offset: int) -> None:
        """Add the offset of a record, which is after those before."""
        self.waiting.append(offset)
        self._end = offset + 1

    def take(self, offset: int) -> None:
        """Mark a record that waits as taken."""
        self._ahead.add(offset)
        while self.waiting and self.waiting[0] in self._ahead:
            self._ahead.remove(self.waiting.popleft())
