"""What the evaluator needs from the world."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.evaluator.core.match.events import EventBatch, LogRecord
from services.evaluator.core.records import Group, PartialBatch, Transition
from services.evaluator.core.rules import RuleSet


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedOffset:
    """From where a partition is read after a restart, and a note for the one who reads it then."""

    partition: int
    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebalance:
    """How this instance's share of a topic changed since the last fetch: first `lost`, then `taken`."""

    revoked: tuple[int, ...] = ()
    assigned: tuple[CommittedOffset, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableRecord:
    """A record that cannot be decoded, as it was."""

    record: LogRecord
    reason: str
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFetch:
    """What a fetch of `log-events` brought."""

    rebalance: Rebalance
    events: EventBatch
    unreadable: tuple[UnreadableRecord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """One record of `window-partials`; `traceparent` is the flush that wrote it."""

    partition: int
    offset: int
    batch: PartialBatch
    traceparent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialFetch:
    """What a fetch of `window-partials` brought, each partition's records in order."""

    rebalance: Rebalance
    partials: tuple[Partial, ...]


class PartitionReader(Protocol):
    """A consumer group's member, reading its share of a topic. Nothing here raises while Kafka is away; it waits."""

    async def commit(self, marks: Sequence[CommittedOffset]) -> bool:
        """Keep marks; False when Kafka did not take them."""
        ...

    async def rewind(self, partition: int, offset: int) -> None:
        """Read on from there. What was fetched of the partition before and not yet given out is not given out."""
        ...


class LogSource(PartitionReader, Protocol):
    """`log-events`, decoded. For the match loop only, one call at a time."""

    async def fetch(self, most: int, within: float) -> LogFetch:
        """Give what came, after `most` records or `within` seconds."""
        ...

    async def end_offsets(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """Ask Kafka now for the next offset of each partition; those that it does not tell are left out."""
        ...

    @property
    def partitions(self) -> int:
        """How many partitions the topic has; known from the first taken partition on."""
        ...


class PartialSource(PartitionReader, Protocol):
    """`window-partials`, decoded. For the window loop only, one call at a time."""

    async def fetch(self, most: int, within: float, judged_until: Mapping[int, int]) -> PartialFetch:
        """Give what there is, as soon as there is something.

        What was written to a partition before `settled` is not judged any more: rows there may be left out when
        another one of the same fetch, also before it, replaces them.
        """
        ...


class PartialSink(Protocol):
    """`window-partials`, for writing."""

    @property
    def outputs(self) -> int:
        """How many partitions it has."""
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
    """`window-state`: the last transition of each group."""

    async def take_up(self, former: Mapping[int, str], owners: Mapping[int, str]) -> Mapping[int, Sequence[Transition]]:
        """Read what the former owner of each partition has kept, and keep it for the new one; give it.

        What anybody else writes meanwhile or later, not having noticed yet, is not taken for it. Raises a transient
        Failure.
        """
        ...

    async def clear(self, partitions: Sequence[int]) -> None:
        """Keep nothing of other owners, now that the new one is committed. Raises a transient Failure."""
        ...

    async def save(self, states: Sequence[tuple[int, Transition]]) -> None:
        """Keep transitions of different groups; return when Kafka has all. Raises a transient Failure."""
        ...

    async def forget(self, keys: Sequence[tuple[int, str, Group]]) -> None:
        """Keep nothing more of these rules' groups. Raises a transient Failure."""
        ...


class DeadLetters(Protocol):
    """Where records go that cannot be decoded."""

    async def publish(self, unreadable: Sequence[UnreadableRecord]) -> None:
        """Publish dead letters; return when Kafka has them. Raises a transient Failure."""
        ...


class Rules(Protocol):
    """The rules as they are known now."""

    @property
    def current(self) -> RuleSet | None:
        """None until they were known for the first time: then nothing may be matched or judged."""
        ...

    async def known(self) -> RuleSet:
        """Wait until there are rules."""
        ...
