"""How many events the scope of a frame selected, shared by all rules that need to know.

A rule must not see totals of events from before it was known: it has counted none of them. So the totals of a block
are kept by the revision of the rules that the block was matched by, and a rule sums those that know its selection.
"""

from dataclasses import dataclass, field

from services.evaluator.core.block import later
from services.evaluator.core.partial import NOTHING, Group, Tally

# A rule, in one form of what it selects.
Selection = tuple[str, int]


@dataclass(slots=True)
class TotalsPane:
    """One group's totals in one pane. Changed in place."""

    folded: dict[int, Tally] = field(default_factory=dict)
    # Of each source's current block: the revision of its rules, and its totals.
    growing: dict[int, tuple[int, Tally]] = field(default_factory=dict)
    # The rules that have selected something of the group, by what they select: these totals decide for them.
    selecting: dict[Selection, None] = field(default_factory=dict)

    def put(self, source: int, revision: int, tally: Tally) -> None:
        """Replace the totals of a source's current block."""
        self.growing[source] = revision, tally

    def fold(self, source: int) -> None:
        """Add the totals of a source's block for good: the block has ended."""
        if source in self.growing:
            revision, tally = self.growing.pop(source)
            self.folded[revision] = _added(self.folded.get(revision, NOTHING), tally)

    def since(self, revision: int) -> Tally | None:
        """Give the totals of all blocks that were matched by rules of this revision or a later one."""
        found = [tally for known, tally in (*self.folded.items(), *self.growing.values()) if known >= revision]
        return _summed(found) if found else None


@dataclass(slots=True)
class TotalsWindow:
    """All groups' totals of one window; `first_offset` is the oldest partial record that any of them needs."""

    first_offset: int
    panes: dict[Group, TotalsPane] = field(default_factory=dict)


@dataclass(slots=True)
class FrameTotals:
    """The totals of one frame, window by window. Changed in place."""

    windows: dict[int, TotalsWindow] = field(default_factory=dict)
    # Since when no rule asks for them.
    unclaimed_since_ns: int | None = None

    def pane(self, group: Group, start_ns: int, offset: int) -> TotalsPane:
        """Give the pane of a group, a new one if need be."""
        window = self.windows.get(start_ns)
        if window is None:
            window = self.windows[start_ns] = TotalsWindow(first_offset=offset)
        return window.panes.setdefault(group, TotalsPane())

    def existing_pane(self, group: Group, start_ns: int) -> TotalsPane | None:
        """Give the pane of a group, if there is one."""
        window = self.windows.get(start_ns)
        return window.panes.get(group) if window else None

    def close(self, open_from_ns: int) -> None:
        """Let go of the windows that start before this: all rules have closed them."""
        self.windows = {start_ns: window for start_ns, window in self.windows.items() if start_ns >= open_from_ns}


def _summed(tallies: list[Tally]) -> Tally:
    total = NOTHING
    for tally in tallies:
        total = _added(total, tally)
    return total


def _added(one: Tally, other: Tally) -> Tally:
    return NOTHING._replace(total=one.total + other.total, last_event_ns=later(one.last_event_ns, other.last_event_ns))
