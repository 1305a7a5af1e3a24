"""The windows of one output partition, of all rules and of shared totals: found, opened and dropped."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from services.evaluator.core.match.events import RowMask
from services.evaluator.core.records import EARLIEST_NS, LATEST_NS, SECOND_NS, Group, RowKey, Transition, totals_key
from services.evaluator.core.rules import CompiledRule, RuleSet, SelectionKey
from services.evaluator.core.window.admission import Admission
from services.evaluator.core.window.judging import JudgedWindow
from services.evaluator.core.window.numbering import Window
from services.evaluator.core.window.pane_table import PaneTable
from services.evaluator.core.window.rule_windows import RuleWindows, ScopeTotals
from services.evaluator.core.window.watermark import Watermark
from services.rule_language.rule import RuleType

# How long rows are kept for a rule that is not known here (yet).
_UNUSED_RETENTION_NS = 60 * SECOND_NS


@dataclass(slots=True)
class PartitionWindows:
    """The windows of all selections and bucketings, and the table of their panes. Changed in place."""

    # Moved by the stage; a rule that is attached begins with the windows that it has not closed.
    watermark: Watermark
    rules: RuleSet | None = None
    by_selection: dict[SelectionKey, RuleWindows] = field(default_factory=dict)
    totals: dict[str, ScopeTotals] = field(default_factory=dict)
    table: PaneTable = field(default_factory=PaneTable)
    # The latest revision of rules that matched a record.
    matched_by: int = 0
    # The watermark that closes the next window of some rule.
    next_close_ns: int = EARLIEST_NS
    # Whether a rule came to be known after rows of it, so that windows may close that no owner has judged.
    has_late_rule: bool = False
    # Whether what rules have left that ended is to be freed.
    _has_ended: bool = False
    # Whether rows of each selection may count, as far as was asked: by these rules, and by the latest revision.
    _wanted: dict[SelectionKey, bool] = field(default_factory=dict)

    def update_rules(self, rules: RuleSet, now_ns: int) -> tuple[list[Transition], list[RuleWindows]]:
        """Use new rules; return how the alerts of removed ones resolve, and the windows whose rule has changed."""
        before, self.rules = self.rules, rules
        self.table.readers = {
            bucketing_id: [compiled.rule.id for compiled in readers]
            for bucketing_id, readers in rules.total_readers.items()
        }
        for readers in rules.total_readers.values():
            for compiled in readers:
                # They judge groups of which they have selected nothing, too.
                self.by_selection.setdefault(compiled.selection_key, RuleWindows(compiled.selection_key))
        # Most updates are of one rule among many.
        differing = rules.differing(before) if before else rules.rules.keys()
        touched = [
            windows
            for windows in self.by_selection.values()
            if windows.compiled is None or windows.selection[0] in differing
        ]
        ended: list[Transition] = []
        changed: list[RuleWindows] = []
        for windows in touched:
            compiled_now = rules.in_force(windows.selection)
            if compiled_now is None:
                ended += windows.detach(rules, now_ns)
            else:
                self._attach(windows, compiled_now)
                changed.append(windows)
        self._ask_again()
        self._forget_ended()
        self._limit_again(touched, is_all=before is None or rules.limits_differently(before))
        return ended, changed

    def are_wanted(self, selections: Sequence[SelectionKey], matched_by: int) -> RowMask:
        """Return whether rows of these selections, which rules of this revision matched, may still count."""
        if matched_by > self.matched_by:
            self.matched_by = matched_by
            self._ask_again()
        wanted = self._wanted
        for selection in selections:
            if selection not in wanted:
                wanted[selection] = self._is_wanted(RowKey(*selection, (), 0))
        return np.array([wanted[selection] for selection in selections], dtype=bool)

    def of_selection(self, selection: SelectionKey, now_ns: int) -> RuleWindows:
        """Return the windows of a selection, new ones if there are none."""
        windows = self.by_selection.get(selection)
        if windows is None:
            windows = self.by_selection[selection] = RuleWindows(selection, unused_since_ns=now_ns)
            compiled = self.rules.in_force(selection) if self.rules else None
            if compiled is not None:
                self._attach(windows, compiled)
        return windows

    def window(self, selection: SelectionKey, start_ns: int, offset: int, now_ns: int) -> Window:
        """Return the window that a row of the record at this offset counts in, a new one if there is none."""
        window = self.table.windows.find(selection, start_ns)
        if window is not None:
            window.first_offset = min(window.first_offset, offset)
            return window
        key = RowKey(*selection, (), start_ns)
        if key.is_closing:
            return self.table.windows.add(selection, start_ns, offset, is_open=False)
        if key.is_totals:
            owner: RuleWindows | ScopeTotals = self.totals.setdefault(key.rule_id, ScopeTotals())
            is_open = True
        else:
            owner = self.of_selection(selection, now_ns)
            is_open = start_ns >= owner.open_from_ns
        window = self.table.windows.add(selection, start_ns, offset, is_open=is_open)
        if is_open:
            owner.windows[start_ns] = window
            self._limit(window)
        return window

    def has_room(self, rows: int) -> bool:
        """Return whether so many further groups have panes wherever they are."""
        table = self.table
        is_much = rows > min(table.windows.panes.room, table.others.limit.share())
        return not is_much and table.tenants.has_room(table.windows, rows)

    def admissions(self, windows: Sequence[Window], rows: int) -> list[Admission]:
        """Return what decides which groups have panes in those windows in which not so many more may have one.

        The totals that such a window reads, and the rules that read such totals, are decided with it.
        """
        numbers = np.array([window.number for window in windows], dtype=np.int64)
        deciding = [self._totals_of(window) or window for window in windows]
        table = self.table
        rooms = np.minimum(
            table.windows.panes.rooms_in(numbers),
            table.windows.panes.rooms_in(np.array([each.number for each in deciding])),
        )
        if table.tenants.limit.limits_tenants:
            rooms = np.minimum(rooms, table.tenants.room(table.windows).rooms_in(numbers))
        is_near = (rooms < rows) | np.array([window.overflow is not None for window in windows])
        near = {id(each) for each, is_one in zip(deciding, is_near.tolist(), strict=True) if is_one}
        return [self.admission(window) for window, each in zip(windows, deciding, strict=True) if id(each) in near]

    def admission(self, window: Window) -> Admission:
        """Return what decides which groups have panes in a window."""
        rules = self.by_selection.get(window.selection)
        if rules is not None:
            return Admission(window=window, alerts=[rules.episodes], totals=self._totals_of(window))
        readers = [self.by_selection[compiled.selection_key] for compiled in self._readers(window.selection[0])]
        return Admission(
            window=window,
            alerts=[reader.episodes for reader in readers],
            readers=[own for reader in readers if (own := reader.windows.get(window.start_ns))],
        )

    def in_force(self, window: Window) -> JudgedWindow | None:
        """Return the window with its rule if that is in force here."""
        rules = self.by_selection.get(window.selection)
        if rules is None or rules.compiled is None or not window.is_open:
            return None
        return JudgedWindow(rules=rules, compiled=rules.compiled, start_ns=window.start_ns)

    def readers(self, window: Window) -> list[JudgedWindow]:
        """Return the windows that changed totals may make an alert.

        Those are the ones in which a rule has selected something, or in which it may fire without.
        """
        start_ns = window.start_ns
        return [
            JudgedWindow(rules=rules, compiled=compiled, start_ns=start_ns)
            for compiled in self._readers(window.selection[0])
            if (rules := self.by_selection[compiled.selection_key]).open_from_ns <= start_ns
            and (compiled.holds_when_empty or start_ns in rules.windows)
        ]

    def count_groups(self, rule_type: RuleType | None) -> tuple[int, int]:
        """Count the groups with an open window, and those with an open alert; of one type of rule, or of all."""
        counted = [
            windows
            for windows in self.by_selection.values()
            if rule_type is None or (windows.compiled and windows.compiled.rule.type is rule_type)
        ]
        slots, *_ = self.table.panes_of(window.number for windows in counted for window in windows.windows.values())
        return len(slots), sum(episode.is_open for windows in counted for episode in windows.episodes.values())

    def drop_unused(self, now_ns: int) -> None:
        """Drop what no rule has used for a while, and the totals that all rules have closed."""
        self._drop_unused_windows(now_ns)
        self._drop_totals(now_ns)
        self.table.compact(is_forced=self._has_ended)
        self._has_ended = False

    def expire(self, watermark_ns: int) -> list[tuple[str, Group]]:
        """Drop resolved alerts that this watermark has passed; return those of no other selection of their rule."""
        expired = [
            (windows.selection[0], group)
            for windows in self.by_selection.values()
            for group in windows.expire(watermark_ns)
        ]
        kept = {(windows.selection[0], group) for windows in self.by_selection.values() for group in windows.episodes}
        return [key for key in expired if key not in kept]

    def _totals_of(self, window: Window) -> Window | None:
        """Return the window of the totals that a rule reads in one of its windows, if there are any."""
        rules = self.by_selection.get(window.selection)
        return rules.scope.windows.get(window.start_ns) if rules is not None and rules.scope is not None else None

    def _is_wanted(self, key: RowKey) -> bool:
        """Whether rows with such keys may count: unless their rule has surely ended, or surely no rule reads them."""
        if self.rules is None or key.is_closing:
            return True
        if key.is_totals:
            # A rule that is not known yet may read them.
            is_unknown = self.matched_by > self.rules.revision or self.rules.refused
            return bool(is_unknown or self._readers(key.rule_id))
        return not self.rules.has_ended((key.rule_id, key.selection_revision), key.selection_revision)

    def _readers(self, bucketing_id: str) -> Sequence[CompiledRule]:
        """Return the rules that read the totals of a bucketing."""
        return self.rules.total_readers.get(bucketing_id, ()) if self.rules else ()

    def _ask_again(self) -> None:
        """Forget whether rows may count, but where their rule is in force: those may."""
        in_force = (self.by_selection.get(selection) for selection in self._wanted)
        self._wanted = {
            windows.selection: True for windows in in_force if windows is not None and windows.compiled is not None
        }

    def _limit_again(self, touched: Sequence[RuleWindows], *, is_all: bool) -> None:
        """Set how many groups the windows of these rules, or all windows, may have."""
        owners: list[RuleWindows | ScopeTotals] = [*touched]
        if is_all or self.table.tenants.has_many_former(len(self.by_selection) + len(self.totals)):
            self.table.tenants.clear()
            owners = [*self.by_selection.values(), *self.totals.values()]
        for owner in owners:
            for window in owner.windows.values():
                self._limit(window)

    def _limit(self, window: Window) -> None:
        """Set how many groups may have panes in a window: as many as in that of its totals, if it has such."""
        limit = self.table.others.limit
        if window.is_totals:
            # Readers may not be known yet.
            reading = self._readers(window.selection[0])
            compiled = reading[0] if reading else None
            readers = len(reading) or limit.partitions
        else:
            compiled = self.by_selection[window.selection].compiled
            readers = len(self._readers(compiled.bucketing_id)) if compiled and compiled.needs_totals else 1
        self.table.tenants.assign(window, compiled.rule.tenant if compiled else None)
        # No further ones once a group was beyond the limit.
        self.table.windows.panes.limit(window.number, limit.share(readers) if window.overflow is None else 0)

    def _forget_ended(self) -> None:
        """Forget what rules have left that surely ended, and totals that surely no rule reads.

        The memory is freed with the next checkpoint: for many groups that takes milliseconds.
        """
        unknown = [windows for windows in self.by_selection.values() if windows.compiled is None]
        owners: list[RuleWindows | ScopeTotals] = [*unknown, *self.totals.values()]
        keys = [RowKey(*windows.selection, (), 0) for windows in unknown]
        keys += [totals_key(bucketing_id, (), 0) for bucketing_id in self.totals]
        freed = [owner for key, owner in zip(keys, owners, strict=True) if owner.windows and not self._is_wanted(key)]
        for owner in freed:
            self._forget(owner.windows.values())
            owner.windows.clear()
        self._has_ended |= bool(freed)

    def _attach(self, windows: RuleWindows, compiled: CompiledRule) -> None:
        totals = self.totals.setdefault(compiled.bucketing_id, ScopeTotals()) if compiled.needs_totals else None
        is_late = windows.compiled is None and windows.windows and windows.judged_watermark_ns is None
        self.has_late_rule = self.has_late_rule or bool(is_late)
        for closed in windows.attach(compiled, totals, self.watermark.value_ns):
            self.table.windows.close(closed)
        self.next_close_ns = EARLIEST_NS

    def _drop_totals(self, now_ns: int) -> None:
        """Drop the totals of closed windows, and those that no rule has read for a while."""
        for bucketing_id, totals in list(self.totals.items()):
            readers = self._readers(bucketing_id)
            if readers:
                totals.unused_since_ns = None
                open_from_ns = min(self.by_selection[compiled.selection_key].open_from_ns for compiled in readers)
                self._forget(totals.pop_before(open_from_ns))
                continue
            totals.unused_since_ns = totals.unused_since_ns or now_ns
            if now_ns - totals.unused_since_ns > _UNUSED_RETENTION_NS:
                self._forget(totals.pop_before(LATEST_NS))
                del self.totals[bucketing_id]

    def _drop_unused_windows(self, now_ns: int) -> None:
        for selection, windows in list(self.by_selection.items()):
            since_ns = windows.unused_since_ns
            if since_ns is not None and now_ns - since_ns > _UNUSED_RETENTION_NS:
                self._forget(windows.windows.values())
                windows.windows.clear()
                if not windows.episodes:
                    del self.by_selection[selection]

    def _forget(self, windows: Iterable[Window]) -> None:
        for window in windows:
            self.table.windows.close(window, is_forgotten=True)
