"""An alert rule as the manager stores it, and the enabled rules as a whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Self

from services.domain.fingerprint import digest
from services.domain.tenants import SOLE_TENANT
from services.rule_language.rule import Rule

# Each costs memory and time in every evaluator.
MAX_RULES = 10_000
# How many removed rules are remembered, for those who watched the rules until shortly before.
MAX_REMOVED = 10_000
# Of a revision.
_MAX_DIGITS = 18


class RuleEdit(StrEnum):
    """What was done to a rule; the names are stored in its history."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRule:
    """A complete rule, and when it was created and last changed."""

    rule: Rule
    create_time: datetime
    update_time: datetime

    @property
    def etag(self) -> str:
        """Return a text that differs between revisions."""
        return digest("rule", self.rule.id, str(self.rule.revision))[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleStatistics:
    """What evaluators counted of a rule: events, those that came too late, and alerts that began to fire."""

    matched: int = 0
    late: int = 0
    # Events of groups beyond the limit, which were counted as one group.
    beyond_limit: int = 0
    fired: int = 0
    # When events were last matched against it.
    evaluate_time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleChanges:
    """What changed in the enabled rules up to a revision: the changed and new rules, and the ids of removed ones."""

    revision: int
    epoch: str = ""
    rules: tuple[StoredRule, ...] = ()
    removed: tuple[str, ...] = ()
    # Whose the removed rules were, by their ids.
    removed_from: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSnapshot:
    """The enabled rules at one revision, and which rules were removed since an earlier one."""

    revision: int
    # Differs between databases.
    epoch: str = ""
    rules: tuple[StoredRule, ...] = ()
    # The revision at which each rule was removed; complete from the revision `since` on.
    removed: Mapping[str, int] = field(default_factory=dict)
    # Whose they were.
    removed_from: Mapping[str, str] = field(default_factory=dict)
    since: int = 0

    @property
    def version(self) -> str:
        """Return a text that differs between revisions and between databases."""
        return f"{self.epoch}.{self.revision}"

    def apply(self, changes: RuleChanges) -> Self:
        """Return the snapshot after changes that begin at its revision."""
        changed = {stored.rule.id for stored in changes.rules}
        replaced = {*changes.removed, *changed}
        rules = (*(stored for stored in self.rules if stored.rule.id not in replaced), *changes.rules)
        removed = {rule_id: revision for rule_id, revision in self.removed.items() if rule_id not in changed}
        removed |= dict.fromkeys(changes.removed, changes.revision)
        is_too_long = len(removed) > MAX_REMOVED
        removed_from = {name: tenant for name, tenant in self.removed_from.items() if name in removed}
        return replace(
            self,
            revision=changes.revision,
            rules=rules,
            removed={} if is_too_long else removed,
            removed_from={} if is_too_long else {**removed_from, **changes.removed_from},
            since=changes.revision if is_too_long else self.since,
        )

    def with_unstored(self, rules: Sequence[StoredRule]) -> Self:
        """Return the snapshot with rules that are in no table; without them it is the snapshot of another epoch."""
        if not rules:
            return self
        epoch = "+".join([self.epoch, *(stored.rule.id for stored in rules)])
        return replace(self, epoch=epoch, rules=(*self.rules, *rules))

    def of_tenant(self, tenant: str) -> Self:
        """Return the same with one tenant's rules only."""
        return replace(
            self,
            rules=tuple(stored for stored in self.rules if stored.rule.tenant == tenant),
            removed={
                name: at for name, at in self.removed.items() if self.removed_from.get(name, SOLE_TENANT) == tenant
            },
        )

    def changes_since(self, version: str) -> RuleChanges | None:
        """Return what changed since a version of these rules; None when that is not known."""
        epoch, _, number = version.rpartition(".")
        known = int(number) if number.isdecimal() and len(number) <= _MAX_DIGITS else -1
        if epoch != self.epoch or not self.since <= known <= self.revision:
            return None
        return RuleChanges(
            revision=self.revision,
            epoch=self.epoch,
            rules=tuple(stored for stored in self.rules if stored.rule.revision > known),
            removed=tuple(rule_id for rule_id, revision in self.removed.items() if revision > known),
        )
