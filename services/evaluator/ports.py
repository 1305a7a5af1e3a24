"""What the evaluator needs from the world."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.chassis.kafka import CommittedOffset, Rebalance, Record
from services.evaluator.core.match.events import EventBatch
from services.evaluator.core.partial_rows import PartialBatch
from services.evaluator.core.records import Group, Transition
from services.evaluator.core.rule_problems import SetAsideRule
from services.evaluator.core.rules import RuleSet
from services.evaluator.core.window.checkpoint import SnapshotName
from services.evaluator.core.window.snapshot import StageSnapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableRecord:
    """A record that cannot be decoded."""

    record: Record
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFetch:
    """The result of one fetch of `log-events`."""

    rebalance: Rebalance
    # As Kafka gave them, and what was read of them.
    records: tuple[Record, ...]
    events: EventBatch
    unreadable: tuple[UnreadableRecord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """One record of `window-partials`; `traceparent` is that of the flush that wrote it."""

    partition: int
    offset: int
    batch: PartialBatch
    traceparent: str = ""
    # When Kafka took it.
    appended_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialFetch:
    """The result of one fetch of `window-partials`, the records of each partition in order."""

    rebalance: Rebalance
    partials: tuple[Partial, ...]


@dataclass(slots=True, kw_only=True)
class RuleCounts:
    """What this instance has counted of a rule; changed in place."""

    matched: int = 0
    late: int = 0
    # Events of groups beyond the limit, which are counted in `~other`.
    beyond_limit: int = 0
    fired: int = 0
    # When events were last matched against it.
    evaluate_time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleReport:
    """What this instance has counted since its last report, and the rules that it does not evaluate, by rule id."""

    id: str
    added: Mapping[str, RuleCounts]
    problems: Mapping[str, SetAsideRule]


class PartitionReader(Protocol):
    """A member of a consumer group, called by one loop, one call at a time. While Kafka is away no call raises."""

    async def commit(self, offsets: Sequence[CommittedOffset]) -> bool:
        """Commit offsets; return whether Kafka has them."""
        ...

    async def rewind(self, partition: int, offset: int) -> None:
        """Read a partition from this offset on; drop its records that were fetched before."""
        ...


class LogSource(PartitionReader, Protocol):
    """`log-events`, decoded."""

    async def fetch(self, limit: int, timeout_s: float, *, fill: bool) -> LogFetch:
        """Return as soon as there is a record, or after `timeout_s`; with `fill`, after `limit` records."""
        ...

    async def decode(self, records: Sequence[Record]) -> EventBatch:
        """Decode records that were fetched before."""
        ...

    async def end_offsets(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """Ask Kafka for the end of each partition; leave out those that it does not answer for."""
        ...

    @property
    def partition_count(self) -> int:
        """How many partitions the topic has; known with the first assigned partition."""
        ...


class PartialSource(PartitionReader, Protocol):
    """`window-partials`, decoded. An assigned partition is read from the start of its checkpoint."""

    async def fetch(self, limit: int, timeout_s: float) -> PartialFetch:
        """Return up to `limit` records as soon as there is one."""
        ...

    @property
    def partition_count(self) -> int:
        """How many partitions the topic has; known with the first assigned partition."""
        ...


class PartialSink(Protocol):
    """`window-partials`, for writing."""

    @property
    def outputs(self) -> int:
        """How many partitions the topic has."""
        ...

    async def send(self, batches: Sequence[tuple[int, PartialBatch]]) -> None:
        """Write each batch to its partition, in order; return when Kafka has all. Raises a transient Failure."""
        ...


class TransitionSink(Protocol):
    """`alerts`."""

    async def send(self, transitions: Sequence[Transition]) -> None:
        """Write transitions of different groups; return when Kafka has all. Raises a transient Failure."""
        ...


class StateStore(Protocol):
    """`window-state`: the last transition of each group. Each method raises a transient Failure."""

    async def load(self, former: Mapping[int, str], owners: Mapping[int, str]) -> Mapping[int, Sequence[Transition]]:
        """Return what the former owner of each partition saved, and save it for the new owner.

        What any other owner writes meanwhile or later, because it has not noticed the new one yet, does not count.
        """
        ...

    async def delete_former(self, partitions: Sequence[int]) -> None:
        """Delete what other owners saved, once the new owner is committed."""
        ...

    async def save(self, states: Sequence[tuple[int, Transition]]) -> None:
        """Save transitions of different groups; return when Kafka has all."""
        ...

    async def delete(self, keys: Sequence[tuple[int, str, Group]]) -> None:
        """Delete the states of these rules' groups."""
        ...


class SnapshotStore(Protocol):
    """`window-snapshots`. Each method raises a transient Failure."""

    async def save(self, partition: int, snapshot: StageSnapshot) -> SnapshotName:
        """Write a snapshot of a partition of `window-partials`; return when Kafka has all of it."""
        ...

    async def load(self, names: Mapping[int, SnapshotName]) -> Mapping[int, StageSnapshot]:
        """Return the named snapshots, by partition, without those of which anything is gone, foreign or damaged."""
        ...


class DeadLetters(Protocol):
    """`log-events-dead-letter`."""

    async def publish(self, record: Record, reason: str) -> None:
        """Return when Kafka has the dead letter. Raises a transient Failure."""
        ...


class RuleReports(Protocol):
    """The manager's sums over all evaluators."""

    async def send(self, report: RuleReport) -> None:
        """Add to the counts of rules, once for each report, and replace the problems. Raises a transient Failure."""
        ...


class Rules(Protocol):
    """The rules of the manager."""

    @property
    def current(self) -> RuleSet | None:
        """The newest rules; None until rules are loaded for the first time: nothing may be matched or judged then."""
        ...

    async def loaded(self) -> RuleSet:
        """Wait until rules are loaded."""
        ...
