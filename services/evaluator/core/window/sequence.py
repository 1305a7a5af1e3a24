"""The flushes of one source partition in sequence: which of them repeat, and where something is missing."""

from dataclasses import dataclass
from enum import Enum

from services.evaluator.core.records import BlockProgress, end_offset, first_offset


class FlushOrder(Enum):
    """How a flush follows on the flushes before it."""

    SAME_BLOCK = "same_block"
    NEXT_BLOCK = "next_block"
    # Something between the last flush and this one is missing.
    GAP = "gap"
    # It belongs to a block that was folded already: nothing in it counts.
    STALE = "stale"


@dataclass(slots=True)
class SourceSequence:
    """The current block of one source. Changed in place."""

    block: int
    up_to: int
    # Whether this block was read from its start: not the first one, as reading begins in the middle.
    is_complete: bool

    @classmethod
    def starting_with(cls, progress: BlockProgress) -> "SourceSequence":
        """Begin with the first flush that is read; no open window needs anything before it."""
        return cls(block=progress.block, up_to=progress.previous_up_to, is_complete=False)

    def next_block(self, progress: BlockProgress) -> "SourceSequence":
        """Go on with the block of this flush."""
        return SourceSequence(block=progress.block, up_to=progress.previous_up_to, is_complete=True)

    def order_of(self, progress: BlockProgress) -> FlushOrder:
        """Compare a flush with what was read so far."""
        if progress.block < self.block:
            return FlushOrder.STALE
        if progress.block > self.block:
            if not self.is_complete:
                return FlushOrder.NEXT_BLOCK
            is_last_at_its_end = self.up_to >= end_offset(self.block)
            is_next_from_its_start = progress.previous_up_to <= first_offset(progress.block)
            return FlushOrder.NEXT_BLOCK if is_last_at_its_end and is_next_from_its_start else FlushOrder.GAP
        if self.is_complete and progress.previous_up_to > self.up_to:
            return FlushOrder.GAP
        return FlushOrder.SAME_BLOCK

    def advance(self, up_to: int) -> None:
        """Record how far the current block was read."""
        self.up_to = max(self.up_to, up_to)
