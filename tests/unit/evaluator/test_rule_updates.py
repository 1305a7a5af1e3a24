"""An update of rules touches only what differs, and leaves the same as if all of them were new."""

from dataclasses import replace
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.domain.tenants import TenantLimits
from services.evaluator.core.partial_rows import PartialBatch, of_rows
from services.evaluator.core.records import SECOND_NS, Row
from services.evaluator.core.rules import RuleSet, SelectionKey
from services.evaluator.core.window.group_limit import GroupLimit
from services.evaluator.core.window.numbering import Window
from services.evaluator.core.window.partition_windows import PartitionWindows
from services.evaluator.core.window.rule_windows import RuleWindows, ScopeTotals
from services.evaluator.core.window.stage import WindowStage
from services.evaluator.core.window.step import Outcome
from services.rule_language.rule import Rule
from tests.unit.evaluator.pipeline import rule
from tests.unit.evaluator.stage_driver import COUNT, FRESH, StageDriver, progress, row, scope_row

LIMIT = GroupLimit(max_groups=6, partitions=2, of_tenants=TenantLimits.parse("14,acme=8"))
NAMES = ("count", "rate", "often", "foreign")
# Of each rule: left out, as it was, with another threshold, selecting something else, reading totals or not.
FORMS = ("", "same", "threshold", "filter", "condition")
KNOWN = {"count": COUNT, "rate": rule("rate", "rate > 0.5")}
KNOWN |= {"often": rule("often", "count > 3.0"), "foreign": replace(rule("foreign", "count > 1.0"), tenant="acme")}


def next_rule(known: Rule, form: str, revision: int) -> Rule:
    match form:
        case "threshold":
            return replace(known, threshold=known.threshold + 1, revision=revision)
        case "filter":
            texts = f'level >= FATAL && host != "{revision}"'
            return replace(known, filter=texts, revision=revision, selection_revision=revision)
        case "condition":
            reads = "count > 1.0" if "rate" in known.condition else "rate > 0.5"
            return replace(known, condition=reads, revision=revision)
        case _:
            return known


class Stage:
    """A stage, and the rules that it was told."""

    def __init__(self) -> None:
        self.stage: WindowStage = WindowStage.restored(FRESH, (), SECOND_NS, limit=LIMIT)
        self.rules: RuleSet | None = None

    def update(self, rules: RuleSet) -> list[str]:
        self.rules = rules
        return sorted(map(repr, self.stage.update_rules(rules, 0)))

    def content(self) -> object:
        windows: PartitionWindows = self.stage.windows
        open_windows = [*self._open(windows)]
        table = windows.table
        rooms = table.windows.panes.rooms_in(np.array([window.number for _, window in open_windows], dtype=np.int64))
        tenants = {tenant: groups for tenant, groups in table.tenants.count(table.windows).items() if groups}
        asked = sorted({selection for selection, _ in open_windows})
        wanted = windows.are_wanted(asked, windows.matched_by).tolist()
        return (
            [(*each, room) for (each, _), room in zip(open_windows, rooms.tolist(), strict=True)],
            tenants,
            asked,
            wanted,
        )

    @staticmethod
    def _open(windows: PartitionWindows) -> list[tuple[SelectionKey, Window]]:
        owners: list[RuleWindows | ScopeTotals] = [*windows.by_selection.values(), *windows.totals.values()]
        found = [(window.selection, window) for owner in owners for window in owner.windows.values()]
        return sorted(found, key=lambda each: (each[0], each[1].start_ns))


def shown(outcome: Outcome) -> object:
    return sorted(map(repr, outcome.transitions)), dict(outcome.beyond_limit), dict(outcome.late_by_rule)


def some_rows(random: Random, rules: dict[str, Rule], revision: int, second: int) -> list[Row]:
    rows: list[Row] = []
    for name, known in rules.items():
        # Sometimes of rules that are not known yet, or no more.
        selection = max(known.selection_revision + random.choice((0, 0, 0, -1, revision)), 1)
        for group in random.sample("abcde", random.randrange(4)):
            rows += [row(random.randrange(1, 4), second, (group,), rule_id=name, selection_revision=selection)]
    rows += [scope_row(5, KNOWN["rate"], second, (group,)) for group in random.sample("abcde", random.randrange(3))]
    return rows


@settings(deadline=None)
@given(
    randoms=st.randoms(use_true_random=True),
    updates=st.lists(st.lists(st.sampled_from(FORMS), min_size=4, max_size=4), min_size=1, max_size=6),
)
def test_an_update_leaves_what_new_rules_leave(randoms: Random, updates: list[list[str]]) -> None:
    known, one, other = dict(KNOWN), Stage(), Stage()
    for revision, forms in enumerate(updates, start=2):
        known = {name: next_rule(known[name], form, revision) for name, form in zip(NAMES, forms, strict=True)}
        used = [known[name] for name, form in zip(NAMES, forms, strict=True) if form]
        # For the other stage all rules are new each time, and all limits are set again.
        assert one.update(RuleSet.of(revision, used, one.rules)) == other.update(RuleSet.of(revision, used))
        other.stage.windows._limit_again([], is_all=True)
        assert one.content() == other.content()
        rows = some_rows(randoms, known, revision, 10 * randoms.randrange(revision))
        moved = replace(
            progress(0, revision - 2, revision - 1), max_event_ns=5 * revision * SECOND_NS, rules_revision=revision
        )
        batch = PartialBatch.of_block(progress=moved, rows=of_rows(rows))
        outcomes = [each.stage.observe([(revision - 2, batch)], 0) for each in (one, other)]
        assert shown(outcomes[0]) == shown(outcomes[1])
        assert one.content() == other.content()


def test_selections_that_are_gone_take_no_places_of_tenants_after_many_edits() -> None:
    driver = StageDriver.with_rules(COUNT, limit=LIMIT)
    rules, known = driver.stage.windows.rules, COUNT
    for revision in range(2, 60):
        known = next_rule(known, "filter", revision)
        rules = RuleSet.of(revision, [known], rules)
        driver.stage.update_rules(rules, 0)
        driver.flush(row(1, rule_id="count", selection_revision=revision), rules=revision)
    table = driver.stage.windows.table
    assert len(table.tenants.tenant_places) < 2 * len(driver.stage.windows.by_selection) + 3
    assert dict(table.tenants.count(table.windows)) == {"default": 1}
