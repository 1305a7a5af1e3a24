"""How far one source has been heard of, flush by flush; finds repeats and gaps."""

from dataclasses import dataclass, field
from enum import Enum

from services.evaluator.core.records import Progress, Row, RowKey, Tally, end_offset, first_offset


class Reception(Enum):
    """How a flush fits to what was heard before."""

    SAME_BLOCK = "same_block"
    NEXT_BLOCK = "next_block"
    # Something between the last flush and this one is missing.
    GAP = "gap"
    # A block that was folded already: nothing in it counts.
    PAST = "past"


@dataclass(slots=True)
class Chain:
    """The current block of one source. Changed in place."""

    block: int
    up_to: int
    # Whether everything of this block was heard: not of the first one, after beginning in the middle.
    is_complete: bool
    rows: dict[RowKey, tuple[int, Tally]] = field(default_factory=dict)

    @classmethod
    def begun_by(cls, progress: Progress) -> "Chain":
        """Begin with the first flush that is heard; what was before it is not needed by anything open."""
        return cls(block=progress.block, up_to=progress.previous_up_to, is_complete=False)

    def after(self, progress: Progress) -> "Chain":
        """Go on with the block of this flush."""
        return Chain(block=progress.block, up_to=progress.previous_up_to, is_complete=True)

    def follows(self, progress: Progress) -> Reception:
        """Say how a flush fits to what was heard so far."""
        if progress.block < self.block:
            return Reception.PAST
        if progress.block > self.block:
            if not self.is_complete:
                return Reception.NEXT_BLOCK
            is_whole = self.up_to >= end_offset(self.block)
            is_begun = progress.previous_up_to <= first_offset(progress.block)
            return Reception.NEXT_BLOCK if is_whole and is_begun else Reception.GAP
        if self.is_complete and progress.previous_up_to > self.up_to:
            return Reception.GAP
        return Reception.SAME_BLOCK

    def reach(self, up_to: int) -> None:
        """Note how far the current block is known."""
        self.up_to = max(self.up_to, up_to)

    def replace(self, row: Row, up_to: int) -> tuple[Tally, Tally | None] | None:
        """Hold a row if it is newer than the one that is held; give the new and the old numbers, None if it is not."""
        held_up_to, held = self.rows.get(row.key, (-1, None))
        if held_up_to >= up_to:
            return None
        tally = row.tally
        if held is not None and not tally.samples:
            tally = tally._replace(samples=held.samples)
        self.rows[row.key] = up_to, tally
        return tally, held
