"""What rules miss: the panes of the events for which they were not evaluated."""

from collections.abc import Iterable, Sequence

from services.evaluator.core.distinct_integers import distinct_integers
from services.evaluator.core.match.blocks import Block
from services.evaluator.core.match.events import Ints
from services.evaluator.core.rules import CompiledRule


def add_missed(missed: Iterable[CompiledRule], blocks: Sequence[Block], block_of_event: Ints, times_ns: Ints) -> None:
    """Record in the blocks of a fetch that rules were not evaluated for its events."""
    panes: dict[int, list[tuple[Block, list[int]]]] = {}
    for compiled in missed:
        window_ns = compiled.window_ns
        if window_ns not in panes:
            panes[window_ns] = [
                (block, (distinct_integers(times_ns[block_of_event == number] // window_ns) * window_ns).tolist())
                for number, block in enumerate(blocks)
            ]
        for block, of_block in panes[window_ns]:
            block.add_missed(compiled.selection_key, of_block)
