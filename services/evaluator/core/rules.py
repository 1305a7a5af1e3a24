"""The rules of one revision, compiled for matching and judging."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from services.domain.fingerprint import digest
from services.evaluator.core.match.selection import Selection, selection
from services.evaluator.core.records import span_ns
from services.evaluator.core.window.condition import Numbers, condition, may_hold_unselected
from services.rule_language.checking import check_condition, check_filter, reads_total
from services.rule_language.rule import Rule, RuleType

STORES: Mapping[RuleType, str] = {
    RuleType.ERROR_THRESHOLD: "error-count",
    RuleType.LATENCY_THRESHOLD: "latency",
    RuleType.ERROR_RATE: "error-rate",
    RuleType.CUSTOM: "custom",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReadyRule:
    """A rule with its expressions compiled."""

    rule: Rule
    scope: Selection
    filter: Selection
    condition: Callable[[Numbers], bool]
    window_ns: int
    lateness_ns: int
    # Names what rules have in common that see the same groups and panes.
    frame_id: str
    reads_total: bool
    # Whether a window in which nothing was selected can be an alert.
    holds_unselected: bool

    @classmethod
    def of(cls, rule: Rule) -> Self:
        """Compile a rule; ExpressionError when it cannot be."""
        expression = check_condition(rule.condition)
        window_ns = span_ns(rule.window)
        return cls(
            rule=rule,
            scope=selection(check_filter(rule.scope) if rule.scope else None),
            filter=selection(check_filter(rule.filter)),
            condition=condition(expression),
            window_ns=window_ns,
            lateness_ns=span_ns(rule.lateness),
            frame_id=digest("frame", rule.scope, str(window_ns), *rule.group_by),
            reads_total=reads_total(expression),
            holds_unselected=may_hold_unselected(expression, rule.threshold),
        )

    @property
    def needs_totals(self) -> bool:
        """Whether it must hear of events that its filter does not select."""
        return self.reads_total or self.holds_unselected

    @property
    def selection(self) -> tuple[str, int]:
        """Name what it selects, in this form."""
        return self.rule.id, self.rule.selection_revision


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """All enabled rules at one revision."""

    revision: int
    rules: Mapping[str, ReadyRule]
    # Rules that could not be compiled: they are left as they are, neither judged nor resolved.
    refused: Mapping[str, str] = field(default_factory=dict)
    # The rules that need totals, by frame; and which of them may fire for groups of which they have selected nothing.
    readers: Mapping[str, Sequence[ReadyRule]] = field(init=False)
    unselecting: Mapping[str, Sequence[tuple[str, int]]] = field(init=False)

    def __post_init__(self) -> None:
        readers: dict[str, list[ReadyRule]] = {}
        for ready in self.rules.values():
            if ready.needs_totals:
                readers.setdefault(ready.frame_id, []).append(ready)
        unselecting = {
            frame_id: [ready.selection for ready in found if ready.holds_unselected]
            for frame_id, found in readers.items()
        }
        object.__setattr__(self, "readers", readers)
        object.__setattr__(self, "unselecting", unselecting)

    @classmethod
    def of(cls, revision: int, rules: Iterable[Rule], before: "RuleSet | None" = None) -> Self:
        """Compile all rules, but for those that are as they were before."""
        kept = before.rules if before else {}
        ready: dict[str, ReadyRule] = {}
        refused: dict[str, str] = {}
        for rule in rules:
            old = kept.get(rule.id)
            try:
                ready[rule.id] = old if old is not None and old.rule == rule else ReadyRule.of(rule)
            except Exception as error:  # noqa: BLE001  (one rule that cannot be compiled must not stop the others)
                refused[rule.id] = str(error)
        return cls(revision=revision, rules=ready, refused=refused)

    def changed(self, changes: Self, removed: Collection[str]) -> Self:
        """The rules after changes: without what was removed, and with what is other or new."""
        gone = {*removed, *changes.rules, *changes.refused}
        rules = {rule_id: ready for rule_id, ready in self.rules.items() if rule_id not in gone}
        refused = {rule_id: problem for rule_id, problem in self.refused.items() if rule_id not in gone}
        return replace(changes, rules=rules | dict(changes.rules), refused=refused | dict(changes.refused))

    def current(self, rule_id: str, selection_revision: int) -> ReadyRule | None:
        """Give the rule, if this selection of it is the one in force."""
        ready = self.rules.get(rule_id)
        return ready if ready is not None and ready.rule.selection_revision == selection_revision else None

    def needs_more_totals(self, before: "RuleSet") -> bool:
        """Whether a rule needs totals that did not need them before."""
        known = {ready.selection for readers in before.readers.values() for ready in readers}
        return any(ready.selection not in known for readers in self.readers.values() for ready in readers)

    def has_ended(self, rule_id: str, selection_revision: int, seen_revision: int) -> bool:
        """Whether a selection is known to be no longer in force, by rules at least as new as `seen_revision`."""
        known = self.revision >= max(selection_revision, seen_revision)
        return known and rule_id not in self.refused and self.current(rule_id, selection_revision) is None
