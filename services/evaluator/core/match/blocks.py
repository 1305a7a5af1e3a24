"""Blocks of a source partition: 256 offsets each, and what has been counted in one so far."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from services.evaluator.core.records import (
    Group,
    PartialBatch,
    Progress,
    Row,
    RowKey,
    Tally,
    block_of,
    end_offset,
    first_offset,
    later,
    partition_of,
)


@dataclass(slots=True)
class Block:
    """One block while it is being counted. Changed in place: it is the accumulator of the hot path.

    What it holds is a function of the block's records up to `up_to` and of the rules, however they were cut into
    fetches and flushes.
    """

    number: int
    start: int
    up_to: int
    sent_up_to: int
    # The greatest times among its own records.
    max_event_ns: int | None = None
    max_arrival_ns: int | None = None
    rows: dict[RowKey, Tally] = field(default_factory=dict)
    totals: dict[RowKey, Tally] = field(default_factory=dict)
    _outputs: dict[RowKey, Iterable[int]] = field(default_factory=dict)
    _changed: dict[int, dict[RowKey, None]] = field(default_factory=dict)
    _samples_sent: dict[RowKey, int] = field(default_factory=dict)

    @classmethod
    def at(cls, offset: int) -> "Block":
        """Begin with an offset: the first of its block, unless what came before is gone."""
        return cls(number=block_of(offset), start=offset, up_to=offset, sent_up_to=offset)

    @property
    def is_whole(self) -> bool:
        """Whether all its offsets are contained."""
        return self.up_to >= end_offset(self.number)

    @property
    def has_news(self) -> bool:
        """Whether it contains records that the last flush did not."""
        return self.up_to > self.sent_up_to

    def take(self, offset: int, arrival_ns: int) -> None:
        """Contain one more record."""
        self.up_to = offset + 1
        self.max_arrival_ns = later(self.max_arrival_ns, arrival_ns)

    def saw(self, event_ns: int) -> None:
        """Note the time of an event, at most its arrival."""
        self.max_event_ns = later(self.max_event_ns, event_ns)

    def put(self, key: RowKey, tally: Tally, outputs: int) -> None:
        """Replace a row of a rule."""
        self.rows[key] = tally
        self._note_changed(key, (key.rule_id,), outputs)

    def put_totals(self, key: RowKey, tally: Tally, rule_ids: Iterable[str], outputs: int) -> None:
        """Replace the totals of a frame; they go to where these rules' groups are judged."""
        self.totals[key] = tally
        self._note_changed(key, rule_ids, outputs)

    def flush(self, progress: Progress, outputs: int) -> list[tuple[int, PartialBatch]]:
        """Tell each output partition how far this block is and what changed since the last flush."""
        changed, self._changed = self._changed, {}
        self.sent_up_to = self.up_to
        return [(output, self._batch(progress, changed.get(output, {}))) for output in range(outputs)]

    def _note_changed(self, key: RowKey, rule_ids: Iterable[str], outputs: int) -> None:
        chosen = self._outputs.get(key)
        if chosen is None:
            chosen = self._outputs[key] = _outputs_of(rule_ids, key.group, outputs)
        for output in chosen:
            self._changed.setdefault(output, {})[key] = None

    def _batch(self, progress: Progress, keys: Iterable[RowKey]) -> PartialBatch:
        return PartialBatch(progress=progress, rows=tuple(self._row(key) for key in keys))

    def _row(self, key: RowKey) -> Row:
        if key.is_totals:
            return Row(key, self.totals[key])
        tally = self.rows[key]
        known = self._samples_sent.get(key, 0)
        self._samples_sent[key] = len(tally.samples)
        return Row(key, Tally(*tally[:-2], (), tally.traceparent) if known == len(tally.samples) else tally)


def _outputs_of(rule_ids: Iterable[str], group: Group, outputs: int) -> set[int]:
    found: set[int] = set()
    for rule_id in rule_ids:
        found.add(partition_of(rule_id, group, outputs))
        if len(found) == outputs:
            break
    return found


@dataclass(slots=True)
class Source:
    """The blocks of one partition that are not yet wholly flushed, the current one last. Changed in place."""

    partition: int
    blocks: list[Block]
    max_event_ns: int | None = None
    max_arrival_ns: int | None = None

    @classmethod
    def at(cls, partition: int, offset: int) -> "Source":
        """Begin at an offset where nothing before is missing: a committed one, or the oldest that there is."""
        return cls(partition=partition, blocks=[Block.at(offset)])

    @property
    def position(self) -> int:
        """The next offset."""
        return self.blocks[-1].up_to

    @property
    def committable(self) -> int:
        """Where to begin again, once everything flushed has been delivered."""
        return self.blocks[-1].start

    def take(self, offset: int, arrival_ns: int) -> Block:
        """Take in one record: give the block that its events belong to. Offsets must rise."""
        if offset < self.position:
            raise ValueError(f"offset {offset} of partition {self.partition} comes after {self.position - 1}")
        block = self.blocks[-1]
        if block.number != block_of(offset):
            block.up_to = end_offset(block.number)
            block = Block.at(first_offset(block_of(offset)))
            self.blocks.append(block)
        block.take(offset, arrival_ns)
        return block

    def flush(
        self, *, outputs: int, source_partitions: int, idle_ns: int | None, rules_revision: int
    ) -> list[tuple[int, PartialBatch]]:
        """Tell every output partition what is new here; whole blocks are let go."""
        told: list[tuple[int, PartialBatch]] = []
        for block in self.blocks:
            # Block by block: the times of a later one must not overtake the rows of an earlier one.
            self.max_event_ns = later(self.max_event_ns, block.max_event_ns)
            self.max_arrival_ns = later(self.max_arrival_ns, block.max_arrival_ns)
            if block.has_news or idle_ns is not None:
                told += block.flush(self._progress(block, source_partitions, idle_ns, rules_revision), outputs)
        last = self.blocks[-1]
        self.blocks = [Block.at(end_offset(last.number)) if last.is_whole else last]
        return told

    def _progress(self, block: Block, source_partitions: int, idle_ns: int | None, rules_revision: int) -> Progress:
        return Progress(
            source_partition=self.partition,
            source_partitions=source_partitions,
            block=block.number,
            up_to=block.up_to,
            previous_up_to=block.sent_up_to,
            max_event_ns=self.max_event_ns,
            max_arrival_ns=self.max_arrival_ns,
            idle_ns=idle_ns,
            rules_revision=rules_revision,
        )
