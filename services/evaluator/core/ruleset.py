"""The rules of one revision, made ready for matching and judging."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from services.evaluator.core.condition import Numbers, condition
from services.evaluator.core.moment import span_ns
from services.evaluator.core.selection import Selection, selection
from services.rule_language.checking import check_condition, check_filter
from services.rule_language.rule import Rule


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReadyRule:
    """A rule with its expressions compiled."""

    rule: Rule
    scope: Selection
    filter: Selection
    condition: Callable[[Numbers], bool]
    window_ns: int
    lateness_ns: int

    @classmethod
    def of(cls, rule: Rule) -> Self:
        """Compile a rule; ExpressionError when it cannot be."""
        return cls(
            rule=rule,
            scope=selection(check_filter(rule.scope) if rule.scope else None),
            filter=selection(check_filter(rule.filter)),
            condition=condition(check_condition(rule.condition)),
            window_ns=span_ns(rule.window),
            lateness_ns=span_ns(rule.lateness),
        )

    @property
    def frame(self) -> tuple[str, tuple[str, ...], int]:
        """What rules have in common that see the same groups and panes."""
        return self.rule.scope, self.rule.group_by, self.window_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """All enabled rules at one revision."""

    revision: int
    rules: Mapping[str, ReadyRule]
    # Rules that could not be compiled: they are left as they are, neither judged nor resolved.
    refused: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, revision: int, rules: Iterable[Rule], before: "RuleSet | None" = None) -> Self:
        """Compile what changed since the rules before."""
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

    def current(self, rule_id: str, selection_revision: int) -> ReadyRule | None:
        """Give the rule, if this selection of it is the one in force."""
        ready = self.rules.get(rule_id)
        return ready if ready is not None and ready.rule.selection_revision == selection_revision else None

    def has_ended(self, rule_id: str, selection_revision: int, seen_revision: int) -> bool:
        """Whether a selection is known to be no longer in force, by rules at least as new as `seen_revision`."""
        known = self.revision >= max(selection_revision, seen_revision)
        return known and rule_id not in self.refused and self.current(rule_id, selection_revision) is None
