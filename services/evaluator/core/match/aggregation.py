"""From columns and rules to rows: what each rule counts in each block, pane and group, all rules at once.

The events are placed in their blocks (`blocked_fetch`), the rules select some of them (`plan`), and what each rule
selected is added to its rows (`hits`).
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from services.evaluator.core.match.blocked_fetch import BlockedFetch, add_records, blocked
from services.evaluator.core.match.blocks import SourcePartition
from services.evaluator.core.match.cpu_meter import CpuClock, CpuMeter, share_costs
from services.evaluator.core.match.events import EventBatch, Ints, RowMask
from services.evaluator.core.match.hits import add_hits, place_buckets, totals_selection
from services.evaluator.core.match.missed import add_missed
from services.evaluator.core.match.sharing import RuleHits, together
from services.evaluator.core.rules import CompiledRule, RuleSet

# About how many selected events are added at once: it bounds the memory for many rules that select the same events.
_HITS_AT_ONCE: Final = 1 << 19
_NO_EVENTS: Final[Ints] = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchOutcome:
    """What matching one fetch led to, beside the rows of its blocks."""

    # How many events there were, without those that were counted before the partition began again.
    events: int
    # By the id of each rule that was evaluated, how many of these its filter selected.
    selected: Mapping[str, int]
    # Rules that could not be evaluated, and why: they miss this fetch, the others do not.
    failed: Mapping[CompiledRule, Exception]
    # Seconds of CPU of each rule's own work, if there was a clock.
    costs: Mapping[CompiledRule, float] = field(default_factory=dict)


def match_events(
    events: EventBatch,
    rules: RuleSet,
    sources: Mapping[int, SourcePartition],
    without: frozenset[CompiledRule] = frozenset(),
    clock: CpuClock | None = None,
) -> MatchOutcome:
    """Add the events of a fetch to the blocks of their sources; some rules are set aside, and miss them.

    With a clock of CPU time also say what each rule's own work costs.
    """
    fetch = add_records(events, sources)
    selected = _select(fetch, rules, without, clock)
    return _count(fetch, rules, sources, selected, [*selected.failed, *without])


def begin_again(again: Collection[CompiledRule], sources: Iterable[SourcePartition]) -> None:
    """Forget what these rules, and the totals of their bucketings, have in the current blocks; `match_again` counts it.

    So it does with the events of their tenants that may come too late.
    """
    selections = frozenset(key for each in again for key in (each.selection_key, totals_selection(each.bucketing_id)))
    tenants = {each.rule.tenant for each in again}
    for block in (block for source in sources for block in source.blocks):
        block.begin_again(selections, tenants)


def match_again(
    events: EventBatch,
    rules: RuleSet,
    again: Collection[CompiledRule],
    sources: Mapping[int, SourcePartition],
    without: frozenset[CompiledRule] = frozenset(),
) -> MatchOutcome:
    """Match records again that the current blocks have: in the end all those of the tenants of rules that began again.

    Only these rules count them. The tenants' other rules are evaluated where an event may come too late for one: then
    it counts once for all of them.
    """
    fetch = blocked(events, [sources[record.partition].block_with(record.offset) for record in events.records])
    if not fetch.may_be_late(rules.rules.values()):
        without |= frozenset(rules.rules.values()).difference(again)
    selected = _select(fetch, rules, without, None)
    for compiled in selected.hits.keys() - set(again):
        fetch.add_closings(compiled, selected.hits[compiled])
    own = {compiled: selected.hits[compiled] for compiled in again if compiled in selected.hits}
    missed = [compiled for compiled in again if compiled in selected.failed or compiled in without]
    return _count(fetch, rules, sources, replace(selected, hits=own), missed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Selected:
    """Which events of a fetch each rule selects, without the rules that failed; and what each rule's own work cost."""

    hits: Mapping[CompiledRule, Ints]
    failed: Mapping[CompiledRule, Exception]
    costs: Mapping[CompiledRule, float]


def _select(fetch: BlockedFetch, rules: RuleSet, without: frozenset[CompiledRule], clock: CpuClock | None) -> _Selected:
    if not len(fetch.events.columns):
        return _Selected(hits={}, failed={}, costs={})
    foreign = fetch.tenants.without_events(rules)
    chosen = rules.plan.select(fetch.events.columns, without | foreign if foreign else without, clock)
    scopes: CpuMeter[str] = CpuMeter(clock)
    failed = dict(chosen.failed)
    hits: dict[CompiledRule, Ints] = {}
    for compiled in rules.rules.values():
        if compiled in failed or compiled in without or compiled in foreign:
            continue
        try:
            fetch.prepare(compiled, scopes)
        except Exception as error:  # noqa: BLE001  (one rule that fails must not stop the others)
            failed[compiled] = error
        else:
            hits[compiled] = fetch.tenants.own(compiled.rule.tenant, chosen.rows.get(compiled, _NO_EVENTS))
    sharers = {scope: [each for each in hits if each.rule.scope == scope] for scope in scopes.seconds}
    return _Selected(hits=hits, failed=failed, costs=share_costs(chosen.costs, scopes.seconds, sharers))


def _count(
    fetch: BlockedFetch,
    rules: RuleSet,
    sources: Mapping[int, SourcePartition],
    selected: _Selected,
    missed: Sequence[CompiledRule],
) -> MatchOutcome:
    """Add what rules selected to their rows, and what the scopes of their bucketings selected to the totals."""
    if not len(fetch.events.columns):
        return MatchOutcome(events=0, selected={}, failed={})
    buckets = place_buckets(fetch, rules, {compiled.bucketing_id for compiled in selected.hits})
    for some in _in_turn(together(selected.hits)):
        add_hits(fetch, buckets, some)
    buckets.add_totals(fetch.blocks)
    fetch.count_closings()
    add_missed(missed, fetch.blocks, fetch.block_of_event, fetch.times_ns)
    outcome = _outcome(selected.hits, selected.failed, _uncounted(fetch.events, sources))
    return replace(outcome, costs=selected.costs)


def _outcome(hits: Mapping[CompiledRule, Ints], failed: Mapping[CompiledRule, Exception], new: RowMask) -> MatchOutcome:
    events = int(np.count_nonzero(new))
    is_all = events == len(new)
    selected = {
        compiled.rule.id: len(rows) if is_all else int(np.count_nonzero(new[rows])) for compiled, rows in hits.items()
    }
    return MatchOutcome(events=events, selected=selected, failed=failed)


def _uncounted(events: EventBatch, sources: Mapping[int, SourcePartition]) -> RowMask:
    """Return the events of the records that metrics do not count yet: all, unless a partition began again."""
    is_new = [record.offset >= sources[record.partition].counted_up_to for record in events.records]
    return np.repeat(np.array(is_new, dtype=np.bool_), events.lengths)


def _in_turn(hits: Sequence[RuleHits]) -> Iterator[list[RuleHits]]:
    """Return what rules selected, those of a bucketing together, not too many events at once."""
    some: list[RuleHits] = []
    size = 0
    for each in sorted(hits, key=lambda hit: hit.rules[0].bucketing_id):
        some.append(each)
        size += len(each.events)
        if size >= _HITS_AT_ONCE:
            yield some
            some, size = [], 0
    if some:
        yield some
