"""One partition of `log-events`, as far as the match stage has counted it."""

from dataclasses import dataclass

from services.evaluator.core.block import Block, block_of, end_offset, first_offset, later
from services.evaluator.core.partial import PartialBatch, Progress


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
