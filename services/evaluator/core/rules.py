"""The rules of one revision, compiled for matching and judging."""

import functools
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

from services.domain.fingerprint import digest
from services.domain.tenants import SOLE_TENANT
from services.evaluator.core.match.plan import RulePlan
from services.evaluator.core.match.selection import Selection, compile_selection
from services.evaluator.core.records import duration_ns
from services.evaluator.core.window.column_condition import ColumnCondition, compile_columns
from services.evaluator.core.window.condition import WindowValues, compile_condition, may_hold_when_empty, only_grows
from services.rule_language.checking import Expression, check_condition, check_filter, reads_total
from services.rule_language.rule import Rule, RuleType

# What a rule selects in one form: the rule's id and its selection revision.
SelectionKey = tuple[str, int]

# Names of the stateful stores in logs and runbooks: one for each type of rule.
STORES: Mapping[RuleType, str] = {
    RuleType.ERROR_THRESHOLD: "error-count",
    RuleType.LATENCY_THRESHOLD: "latency",
    RuleType.ERROR_RATE: "error-rate",
    RuleType.CUSTOM: "custom",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompiledRule:
    """A rule with its expressions compiled."""

    rule: Rule
    scope: Selection
    # An event is selected when all of these are true: the scope, if there is one, and the filter.
    expressions: tuple[Expression, ...]
    condition: Callable[[WindowValues], bool]
    # The same for many panes at once.
    column_condition: ColumnCondition
    window_ns: int
    lateness_ns: int
    # The same for rules that have scope, grouping and window in common.
    bucketing_id: str
    reads_total: bool
    # Whether a window in which nothing was selected can be an alert.
    holds_when_empty: bool
    # Whether further events can only make the condition true: it may be judged though some events are missing.
    only_grows: bool

    @classmethod
    def of(cls, rule: Rule) -> Self:
        """Compile a rule; ExpressionError when that is impossible."""
        condition = check_condition(rule.condition)
        window_ns = duration_ns(rule.window)
        scope = check_filter(rule.scope) if rule.scope else None
        return cls(
            rule=rule,
            scope=compile_selection(scope),
            expressions=(*([scope] if scope else []), check_filter(rule.filter)),
            condition=compile_condition(condition),
            column_condition=compile_columns(condition),
            window_ns=window_ns,
            lateness_ns=duration_ns(rule.lateness),
            # "frame" is part of keys in `window-partials`, so it stays.
            bucketing_id=digest(*_bucketing_kind(rule), rule.scope, str(window_ns), *rule.group_by),
            reads_total=reads_total(condition),
            holds_when_empty=may_hold_when_empty(condition, rule.threshold),
            only_grows=only_grows(condition),
        )

    @property
    def needs_totals(self) -> bool:
        """Whether it must know of events that its filter does not select."""
        return self.reads_total or self.holds_when_empty

    @property
    def selection_key(self) -> SelectionKey:
        """The key of what it selects."""
        return self.rule.id, self.rule.selection_revision


class RulePlace(NamedTuple):
    """Among the rules of a revision: the number of a rule's tenant, and of its bucketing, each from 0."""

    tenant: int
    bucketing: int


# Without slots: a cached property needs a place.
@dataclass(frozen=True, kw_only=True)
class RuleSet:
    """All enabled rules at one revision."""

    revision: int
    rules: Mapping[str, CompiledRule]
    # Rules that could not be compiled, and why: their alerts stay as they are, neither judged nor resolved.
    refused: Mapping[str, Exception] = field(default_factory=dict)
    # The plan of the rules before, if it was compiled: what did not change is taken from there.
    plan_before: RulePlan[CompiledRule] | None = field(default=None, repr=False, compare=False)
    # The rules that need totals, by bucketing.
    total_readers: Mapping[str, Sequence[CompiledRule]] = field(init=False)

    def __post_init__(self) -> None:
        readers: dict[str, list[CompiledRule]] = {}
        for compiled in self.rules.values():
            if compiled.needs_totals:
                readers.setdefault(compiled.bucketing_id, []).append(compiled)
        object.__setattr__(self, "total_readers", readers)

    @property
    def compiled_plan(self) -> RulePlan[CompiledRule] | None:
        """The plan, if it was needed so far, or else the one before."""
        plan: RulePlan[CompiledRule] | None = vars(self).get("plan", self.plan_before)
        return plan

    @functools.cached_property
    def tenants(self) -> Mapping[str, frozenset[CompiledRule]]:
        """The rules of each tenant that has some."""
        tenants: dict[str, set[CompiledRule]] = {}
        for compiled in self.rules.values():
            tenants.setdefault(compiled.rule.tenant, set()).add(compiled)
        return {tenant: frozenset(rules) for tenant, rules in tenants.items()}

    @functools.cached_property
    def selections(self) -> frozenset[SelectionKey]:
        """What its rules select."""
        return frozenset(compiled.selection_key for compiled in self.rules.values())

    @functools.cached_property
    def total_rules(self) -> frozenset[str]:
        """The ids of the rules that need totals."""
        return frozenset(compiled.rule.id for readers in self.total_readers.values() for compiled in readers)

    @functools.cached_property
    def places(self) -> Mapping[str, RulePlace]:
        """The place of each rule, by its id."""
        tenants: dict[str, int] = {}
        bucketings: dict[str, int] = {}
        return {
            rule_id: RulePlace(
                tenants.setdefault(compiled.rule.tenant, len(tenants)),
                bucketings.setdefault(compiled.bucketing_id, len(bucketings)),
            )
            for rule_id, compiled in self.rules.items()
        }

    @functools.cached_property
    def total_selections(self) -> frozenset[SelectionKey]:
        """The selections that need totals."""
        return frozenset(compiled.selection_key for readers in self.total_readers.values() for compiled in readers)

    @functools.cached_property
    def selection_digest(self) -> str:
        """The name of what its rules select: rules with the same one make the same rows of the same events."""
        named = [sorted(self.selections), sorted(self.total_selections)]
        return digest(json.dumps(named))

    @functools.cached_property
    def plan(self) -> RulePlan[CompiledRule]:
        """What selects the events of all rules; it takes seconds to compile thousands of rules."""
        rules = {compiled: compiled.expressions for compiled in self.rules.values()}
        return RulePlan(rules, self.plan_before)

    @classmethod
    def of(cls, revision: int, rules: Iterable[Rule], before: "RuleSet | None" = None) -> Self:
        """Compile all rules; those that did not change since `before` are taken from there."""
        kept = before.rules if before else {}
        compiled: dict[str, CompiledRule] = {}
        refused: dict[str, Exception] = {}
        for rule in rules:
            old = kept.get(rule.id)
            try:
                compiled[rule.id] = old if old is not None and old.rule == rule else CompiledRule.of(rule)
            except Exception as error:  # noqa: BLE001  (one rule that cannot be compiled must not stop the others)
                refused[rule.id] = error
        return cls(
            revision=revision, rules=compiled, refused=refused, plan_before=before.compiled_plan if before else None
        )

    def with_changes(self, changes: Self, removed: Collection[str]) -> Self:
        """Return the rules after changes: without the removed ones, with the changed and new ones."""
        gone = {*removed, *changes.rules, *changes.refused}
        rules = {rule_id: compiled for rule_id, compiled in self.rules.items() if rule_id not in gone}
        refused = {rule_id: error for rule_id, error in self.refused.items() if rule_id not in gone}
        return replace(changes, rules=rules | dict(changes.rules), refused=refused | dict(changes.refused))

    def in_force(self, selection: SelectionKey) -> CompiledRule | None:
        """Return the rule, if this selection of it is the current one."""
        rule_id, selection_revision = selection
        compiled = self.rules.get(rule_id)
        return compiled if compiled is not None and compiled.rule.selection_revision == selection_revision else None

    def selecting_more(self, before: "RuleSet") -> frozenset[CompiledRule]:
        """Return the rules that select what none selected before, or begin to need totals."""
        new = (self.selections - before.selections) | (self.total_selections - before.total_selections)
        return frozenset(self.rules[rule_id] for rule_id, _ in new)

    def differing(self, before: "RuleSet") -> AbstractSet[str]:
        """Return the ids of the rules that are not the same in both."""
        new = {rule_id for rule_id, compiled in self.rules.items() if before.rules.get(rule_id) is not compiled}
        return new | (before.rules.keys() - self.rules.keys())

    def limits_differently(self, before: "RuleSet") -> bool:
        """Whether windows of rules that are the same in both may have another number of groups."""
        readers, former = (
            {bucketing_id: len(each) for bucketing_id, each in rules.total_readers.items()} for rules in (self, before)
        )
        return readers != former or self.tenants.keys() != before.tenants.keys()

    def has_ended(self, selection: SelectionKey, known_revision: int) -> bool:
        """Whether a selection is surely no longer current: these rules are at least as new as `known_revision`."""
        rule_id, selection_revision = selection
        is_new_enough = self.revision >= max(selection_revision, known_revision)
        return is_new_enough and rule_id not in self.refused and self.in_force(selection) is None


def _bucketing_kind(rule: Rule) -> tuple[str, ...]:
    """Return what distinguishes the buckets of tenants; those of the sole tenant keep the key that they always had."""
    return ("frame",) if rule.tenant == SOLE_TENANT else ("tenant frame", rule.tenant)
