"""Blocks of a source partition: 256 offsets each, and what has been counted in one so far."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Self

import numpy as np

from services.evaluator.core.match.counted_rows import CountedRows
from services.evaluator.core.match.events import Ints
from services.evaluator.core.partial_rows import NO_ROWS, BlockPart, PartialBatch, PartialRows, concat
from services.evaluator.core.records import BlockProgress, block_of, closing_key, end_offset, first_offset, later
from services.evaluator.core.rules import SelectionKey


@dataclass(slots=True)
class Block:
    """One block while it is being counted. Changed in place: it is the accumulator of the hot path.

    Its content is a function of the block's records up to `up_to` and of the rules. How the records were cut into
    fetches and flushes does not matter.
    """

    number: int
    start: int
    up_to: int
    flushed_up_to: int
    # The same of the last flush, early or not.
    announced_up_to: int
    # The greatest times among its own records.
    max_event_ns: int | None = None
    max_arrival_ns: int | None = None
    rows: CountedRows = field(default_factory=CountedRows)
    # Panes in which a rule was not evaluated for some events, and those of them that no flush has contained.
    _missed: dict[SelectionKey, set[int]] = field(default_factory=dict)
    _new_missed: dict[SelectionKey, list[int]] = field(default_factory=dict)

    @classmethod
    def at(cls, offset: int) -> "Block":
        """Begin with an offset: the first of its block, unless earlier records are deleted."""
        return cls(number=block_of(offset), start=offset, up_to=offset, flushed_up_to=offset, announced_up_to=offset)

    @property
    def is_complete(self) -> bool:
        """Whether it contains all its offsets."""
        return self.up_to >= end_offset(self.number)

    @property
    def has_unflushed_records(self) -> bool:
        """Whether it contains records that the last flush did not."""
        return self.up_to > self.flushed_up_to

    @property
    def has_missed(self) -> bool:
        """Whether a rule was not evaluated for some of its events."""
        return bool(self._missed)

    def add_record(self, offset: int, arrival_ns: int) -> None:
        """Add one more record."""
        self.up_to = offset + 1
        self.max_arrival_ns = later(self.max_arrival_ns, arrival_ns)

    def add_event_time(self, event_ns: int) -> None:
        """Take an event's time, at most its arrival, into account."""
        self.max_event_ns = later(self.max_event_ns, event_ns)

    def add_missed(self, selection: SelectionKey, panes_ns: Iterable[int]) -> None:
        """Record panes in which a rule was not evaluated for some events."""
        known = self._missed.setdefault(selection, set())
        if new := sorted(set(panes_ns) - known):
            known.update(new)
            self._new_missed.setdefault(selection, []).extend(new)

    def begin_again(self, selections: frozenset[SelectionKey], tenants: Iterable[str]) -> None:
        """Forget what these selections, and the tenants' late events, have counted: it is counted again and flushed."""
        self.rows.forget(selections)
        for closing in (closing_key(0, tenant) for tenant in tenants):
            self.rows.clear_counts(closing.selection, (closing.rule_id,), closing.group)
        self.flushed_up_to = self.start

    def mark_sent(self) -> None:
        """Leave what changed so far out of the next flush, but for what was missed: that differs by process."""
        self.flushed_up_to = self.announced_up_to = self.up_to
        self.rows.mark_sent()

    def flush(self, progress: BlockProgress, outputs: int, slots: Ints | None = None) -> "FlushedBlock":
        """Return how far this block is and what changed since the last flush; with `slots` only these rows."""
        self.announced_up_to = self.up_to
        if slots is None:
            self.flushed_up_to = self.up_to
        rows, found = self.rows.take_changed(outputs, slots)
        # Each output partition judges some of the rule's groups, so all are sent what was missed.
        missed, self._new_missed = self._new_missed, {}
        return FlushedBlock(progress=progress, missed=missed, rows=rows, outputs=found)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FlushedBlock:
    """What a flush takes of one block, for all output partitions."""

    progress: BlockProgress
    missed: Mapping[SelectionKey, Sequence[int]]
    rows: PartialRows
    # Of each row where it goes.
    outputs: Ints


@dataclass(slots=True)
class SourcePartition:
    """A partition of `log-events`: its blocks that are not yet flushed to the end, the current one last.

    Changed in place.
    """

    partition: int
    blocks: list[Block]
    # Metrics count the events before this offset already; it stays when the partition begins again.
    counted_up_to: int = 0
    # Nothing is flushed before this offset is reached: what is counted again was flushed up to there before.
    flush_from: int = 0
    # Rows that nothing changes from this offset on were sent by a former owner.
    sent_before: int = 0
    max_event_ns: int | None = None
    max_arrival_ns: int | None = None

    @classmethod
    def at(cls, partition: int, offset: int, sent_before: int = 0) -> Self:
        """Begin at an offset before which nothing is missing: the committed one, or the oldest that Kafka has."""
        return cls(partition=partition, blocks=[Block.at(offset)], sent_before=sent_before, counted_up_to=sent_before)

    def again(self, offset: int) -> Self:
        """Begin again at the committed offset, without counting in metrics what they count already.

        The next flush goes at least as far as the last one, so each of its rows replaces the one that was sent before.
        """
        flush_from = max(self.flush_from, self.blocks[-1].announced_up_to, self.sent_before)
        return replace(self.at(self.partition, offset), counted_up_to=self.counted_up_to, flush_from=flush_from)

    @property
    def has_skipped_rows(self) -> bool:
        """Whether rows were not sent because a former owner has sent them: it is not beyond that yet."""
        return self.blocks[0].start < self.position <= self.sent_before

    def mark_counted(self) -> None:
        """Remember that metrics count everything so far."""
        self.counted_up_to = max(self.counted_up_to, self.position)

    def block_with(self, offset: int) -> Block:
        """Return the block of a record that was added and not flushed to the end of its block."""
        return next(block for block in self.blocks if block.number == block_of(offset))

    @property
    def position(self) -> int:
        """The next offset."""
        return self.blocks[-1].up_to

    @property
    def commit_offset(self) -> int:
        """The offset to commit once everything flushed has been delivered: the start of the first block that is left.

        After a flush that is the current one, unless it was begun again and nothing is flushed yet.
        """
        return self.blocks[0].start

    @property
    def sent_up_to(self) -> int:
        """Up to where a new owner need not send the current block again, once everything flushed has been delivered.

        Where a rule was not evaluated for some events, another owner may count more of them.
        """
        block = self.blocks[0]
        return max(block.start if block.has_missed else block.flushed_up_to, self.sent_before)

    @property
    def has_unflushed_records(self) -> bool:
        """Whether it contains records that the next flush will."""
        return self.position >= self.flush_from and any(block.has_unflushed_records for block in self.blocks)

    @property
    def is_at_border(self) -> bool:
        """Whether everything is flushed, and nothing of the current block has come."""
        return len(self.blocks) == 1 and self.position == self.blocks[-1].start

    def add_record(self, offset: int, arrival_ns: int) -> Block:
        """Add one record; return the block that its events belong to. Offsets must rise."""
        if offset < self.position:
            raise ValueError(f"offset {offset} of partition {self.partition} comes after {self.position - 1}")
        block = self.blocks[-1]
        if block.number != block_of(offset):
            block.up_to = end_offset(block.number)
            block = Block.at(first_offset(block_of(offset)))
            self.blocks.append(block)
        block.add_record(offset, arrival_ns)
        return block

    def skip_sent(self) -> None:
        """Flush nothing of what a former owner has sent, as far as the records have not gone beyond it."""
        if self.position <= self.sent_before:
            self.blocks[-1].mark_sent()

    def flush(
        self, *, outputs: int, source_partitions: int, idle_ns: int | None, rules_revision: int
    ) -> list[FlushedBlock]:
        """Return what is new here, block by block; drop the blocks that are complete."""
        if self.position < self.flush_from:
            return []
        flushed: list[FlushedBlock] = []
        for block in self.blocks:
            # Block by block: the times of a later one must not overtake the rows of an earlier one.
            self.max_event_ns = later(self.max_event_ns, block.max_event_ns)
            self.max_arrival_ns = later(self.max_arrival_ns, block.max_arrival_ns)
            if block.has_unflushed_records or idle_ns is not None:
                progress = self._progress(block, source_partitions, idle_ns, rules_revision)
                flushed.append(block.flush(progress, outputs))
        last = self.blocks[-1]
        self.blocks = [Block.at(end_offset(last.number)) if last.is_complete else last]
        return flushed

    @property
    def may_flush_early(self) -> bool:
        """Whether some rows may be written before the others: not where a block is complete, or was begun again."""
        return len(self.blocks) == 1 and not self.blocks[0].is_complete and self.position >= self.flush_from

    def flush_early(self, slots: Ints, *, outputs: int, source_partitions: int, rules_revision: int) -> FlushedBlock:
        """Return these rows of the current block; event time stays where the last flush has brought it."""
        block = self.blocks[-1]
        return block.flush(self._progress(block, source_partitions, None, rules_revision), outputs, slots)

    def _progress(
        self, block: Block, source_partitions: int, idle_ns: int | None, rules_revision: int
    ) -> BlockProgress:
        return BlockProgress(
            source_partition=self.partition,
            source_partitions=source_partitions,
            block=block.number,
            up_to=block.up_to,
            previous_up_to=block.announced_up_to,
            max_event_ns=self.max_event_ns,
            max_arrival_ns=self.max_arrival_ns,
            idle_ns=idle_ns,
            rules_revision=rules_revision,
        )


def flush_sources(
    sources: Iterable[SourcePartition],
    *,
    outputs: int,
    source_partitions: int,
    idle_ns: Mapping[int, int],
    rules_revision: int,
) -> list[tuple[int, PartialBatch]]:
    """Return what is new in all sources, for every output partition: one flush, whose batches are judged together.

    A batch has one block of each source, so where a source has begun another one, further batches follow.
    `idle_ns` has the idle time of each source that is idle.
    """
    flushed = [
        source.flush(
            outputs=outputs,
            source_partitions=source_partitions,
            idle_ns=idle_ns.get(source.partition),
            rules_revision=rules_revision,
        )
        for source in sources
    ]
    turns = [[block for block in turn if block is not None] for turn in zip_longest(*flushed)]
    return [
        (output, batch)
        for number, turn in enumerate(turns, start=1)
        for output, batch in enumerate(batches_of(turn, outputs, continues=number < len(turns)))
    ]


def batches_of(blocks: Sequence[FlushedBlock], outputs: int, *, continues: bool) -> Iterator[PartialBatch]:
    """Return what goes to each output partition of blocks of different sources."""
    rows = blocks[0].rows if len(blocks) == 1 else concat([block.rows for block in blocks])
    output_of_row = np.concatenate([block.outputs for block in blocks])
    block_of_row = np.repeat(np.arange(len(blocks)), [len(block.rows) for block in blocks])
    for output in range(outputs):
        chosen = np.flatnonzero(output_of_row == output)
        sizes = np.bincount(block_of_row[chosen], minlength=len(blocks)).tolist()
        parts = [
            BlockPart(progress=block.progress, rows=size, missed=block.missed)
            for block, size in zip(blocks, sizes, strict=True)
        ]
        yield PartialBatch(
            blocks=parts,
            rows=rows.take(chosen) if len(chosen) else NO_ROWS,
            continues=continues,
            output=output,
            outputs=outputs,
        )
