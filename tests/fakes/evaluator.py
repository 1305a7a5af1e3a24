"""The evaluator's ports, in memory."""

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from services.chassis.failures import StreamUnavailable
from services.chassis.kafka import CommittedOffset, Rebalance, Record
from services.domain.severity import Severity
from services.evaluator.adapters.log_events import LogDecoder
from services.evaluator.adapters.messages import MalformedError
from services.evaluator.adapters.window_snapshots_wire import (
    MAX_PART_BYTES,
    decode_snapshot,
    encode_snapshot,
    joined_parts,
    part_values,
)
from services.evaluator.core.match.events import EventBatch
from services.evaluator.core.partial_rows import PartialBatch
from services.evaluator.core.records import (
    Group,
    Transition,
    TransitionReason,
    TransitionState,
    WindowResult,
)
from services.evaluator.core.rules import RuleSet
from services.evaluator.core.window.checkpoint import SnapshotName
from services.evaluator.core.window.snapshot import StageSnapshot
from services.evaluator.ports import LogFetch, Partial, PartialFetch, UnreadableRecord

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIRED = Transition(
    id="1" * 32,
    state=TransitionState.FIRING,
    reason=TransitionReason.RESTORED,
    rule_id="rule",
    selection_revision=1,
    rule_revision=2,
    rule_name="Errors",
    description="",
    severity=Severity.HIGH,
    resource="a",
    group=("a",),
    group_fields={"service": "a"},
    labels={},
    fingerprint="f",
    window=WindowResult(
        start_ns=0,
        end_ns=10,
        count=3,
        total=4,
        sum=0.0,
        avg=None,
        min=None,
        max=None,
        condition="count > threshold",
        threshold=2.0,
        last_event_ns=None,
    ),
    first_window_ns=0,
    samples=(),
    created_ns=1,
)


class Failing:
    """Refuses the next calls."""

    def __init__(self) -> None:
        self.failures = 0

    def pass_or_fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise StreamUnavailable("Kafka does not answer")


class MemoryLog:
    """`log-events`: gives one prepared fetch after the other."""

    def __init__(self, partitions: int = 1) -> None:
        self.partition_count = partitions
        self.fetches: deque[LogFetch] = deque()
        self.commits: list[CommittedOffset] = []
        self.rewinds: list[tuple[int, int]] = []
        self.ends: dict[int, int] = {}
        self.takes_commits = True
        # What was asked for: the timeouts, and whether to fill.
        self.asked: list[tuple[float, bool]] = []
        self.limits: list[int] = []

    async def fetch(self, limit: int, timeout_s: float, *, fill: bool) -> LogFetch:
        assert limit > 0
        self.limits.append(limit)
        assert timeout_s >= 0
        self.asked.append((timeout_s, fill))
        empty = LogFetch(rebalance=Rebalance(), records=(), events=LogDecoder().decode([])[0])
        return self.fetches.popleft() if self.fetches else empty

    async def commit(self, offsets: Sequence[CommittedOffset]) -> bool:
        if self.takes_commits:
            self.commits += offsets
        return self.takes_commits

    async def rewind(self, partition: int, offset: int) -> None:
        self.rewinds.append((partition, offset))

    async def decode(self, records: Sequence[Record]) -> EventBatch:
        return LogDecoder().decode(records)[0]

    async def end_offsets(self, partitions: Sequence[int]) -> Mapping[int, int]:
        return {each: self.ends[each] for each in partitions if each in self.ends}


class MemoryPartials(Failing):
    """`window-partials`: keeps what is written, gives prepared fetches."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.outputs = self.partition_count = outputs
        self.written: list[tuple[int, PartialBatch]] = []
        self.fetches: deque[PartialFetch] = deque()
        self.commits: list[CommittedOffset] = []
        self.rewinds: list[tuple[int, int]] = []
        self.takes_commits = True

    async def send(self, batches: Sequence[tuple[int, PartialBatch]]) -> None:
        self.pass_or_fail()
        self.written += batches

    async def fetch(self, limit: int, timeout_s: float) -> PartialFetch:
        assert limit > 0
        assert timeout_s >= 0
        return self.fetches.popleft() if self.fetches else PartialFetch(rebalance=Rebalance(), partials=())

    async def commit(self, offsets: Sequence[CommittedOffset]) -> bool:
        if self.takes_commits:
            self.commits += offsets
        return self.takes_commits

    async def rewind(self, partition: int, offset: int) -> None:
        self.rewinds.append((partition, offset))

    def bring(self, *batches: PartialBatch, first: int = 0, rebalance: Rebalance | None = None) -> None:
        """Prepare a fetch of partition 0."""
        partials = tuple(Partial(partition=0, offset=first + n, batch=batch) for n, batch in enumerate(batches))
        self.fetches.append(PartialFetch(rebalance=rebalance or Rebalance(), partials=partials))


class MemoryAlerts(Failing):
    """`alerts`."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[Transition] = []

    async def send(self, transitions: Sequence[Transition]) -> None:
        self.pass_or_fail()
        self.written += transitions


class MemoryStates(Failing):
    """`window-state`."""

    def __init__(self) -> None:
        super().__init__()
        self.all: dict[tuple[int, str, str, Group], Transition] = {}
        self.owners: dict[int, str] = {}

    @property
    def kept(self) -> dict[tuple[int, str, Group], Transition]:
        """The states of each partition's owner."""
        return {
            (partition, rule_id, group): state
            for (partition, owner, rule_id, group), state in self.all.items()
            if owner == self.owners[partition]
        }

    async def load(self, former: Mapping[int, str], owners: Mapping[int, str]) -> Mapping[int, Sequence[Transition]]:
        self.pass_or_fail()
        found = {
            each: [state for key, state in self.all.items() if key[:2] == (each, owner)]
            for each, owner in former.items()
        }
        self.owners.update(owners)
        await self.save([(each, state) for each, states in found.items() for state in states])
        return found

    async def delete_former(self, partitions: Sequence[int]) -> None:
        self.pass_or_fail()
        for key in [key for key in self.all if key[0] in partitions and key[1] != self.owners[key[0]]]:
            del self.all[key]

    async def save(self, states: Sequence[tuple[int, Transition]]) -> None:
        self.pass_or_fail()
        for partition, state in states:
            self.all[partition, self.owners[partition], state.rule_id, state.group] = state

    async def delete(self, keys: Sequence[tuple[int, str, Group]]) -> None:
        self.pass_or_fail()
        for partition, rule_id, group in keys:
            self.all.pop((partition, self.owners[partition], rule_id, group), None)


class MemorySnapshots(Failing):
    """`window-snapshots`: the values of the records of each partition, by their offsets."""

    def __init__(self, max_bytes: int = MAX_PART_BYTES) -> None:
        super().__init__()
        self.records: dict[int, list[bytes]] = {}
        self._max_bytes = max_bytes

    async def save(self, partition: int, snapshot: StageSnapshot) -> SnapshotName:
        snapshot_id, values = part_values(encode_snapshot(snapshot), self._max_bytes)
        records = self.records.setdefault(partition, [])
        first = len(records)
        for value in values:
            self.pass_or_fail()
            records.append(value)
        return SnapshotName(id=snapshot_id, first=first, last=len(records) - 1, position=snapshot.position)

    async def load(self, names: Mapping[int, SnapshotName]) -> Mapping[int, StageSnapshot]:
        self.pass_or_fail()
        found: dict[int, StageSnapshot] = {}
        for partition, name in names.items():
            with suppress(MalformedError):
                values = self.records.get(partition, [])[name.first : name.last + 1]
                found[partition] = decode_snapshot(joined_parts(values, name.id))
        return {each: snapshot for each, snapshot in found.items() if snapshot.position == names[each].position}


class MemoryDeadLetters(Failing):
    """`log-events-dead-letter`."""

    def __init__(self) -> None:
        super().__init__()
        self.published: list[UnreadableRecord] = []

    async def publish(self, record: Record, reason: str) -> None:
        self.pass_or_fail()
        self.published.append(UnreadableRecord(record=record, reason=reason))


class MemoryRules:
    """The rules, loaded from the start."""

    def __init__(self, current: RuleSet) -> None:
        self.current = current

    async def loaded(self) -> RuleSet:
        return self.current
