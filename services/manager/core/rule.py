"""An alert rule as the manager keeps it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Self

from services.domain.fingerprint import digest
from services.rule_language.rule import Rule

# Each costs memory and time in every evaluator.
MAX_RULES = 10_000
# How many rules that went are remembered, for those who followed until shortly before.
MAX_REMOVED = 10_000
# Of a revision.
MAX_DIGITS = 18


class Edit(StrEnum):
    """What was done to a rule, as its history says it."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRule:
    """A complete rule and when it was made and last changed."""

    rule: Rule
    create_time: datetime
    update_time: datetime

    @property
    def etag(self) -> str:
        """Another one after each change."""
        return digest("rule", self.rule.id, str(self.rule.revision))[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleChanges:
    """What became of the enabled rules up to a revision: those that are other or new, and ids of those that went."""

    revision: int
    epoch: str = ""
    rules: tuple[KeptRule, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """The enabled rules at one revision of the whole, and which went since an earlier one."""

    revision: int
    # Another one for each database.
    epoch: str = ""
    rules: tuple[KeptRule, ...] = ()
    # At which revision rules went, complete from the revision `since` on.
    removed: Mapping[str, int] = field(default_factory=dict)
    since: int = 0

    @property
    def version(self) -> str:
        """Another text for each revision of each database."""
        return f"{self.epoch}.{self.revision}"

    def changed(self, changes: RuleChanges) -> Self:
        """The set after changes that begin at its revision."""
        gone = {*changes.removed, *(kept.rule.id for kept in changes.rules)}
        rules = (*(kept for kept in self.rules if kept.rule.id not in gone), *changes.rules)
        back = {kept.rule.id for kept in changes.rules}
        removed = {rule_id: revision for rule_id, revision in self.removed.items() if rule_id not in back}
        removed |= dict.fromkeys(changes.removed, changes.revision)
        is_too_long = len(removed) > MAX_REMOVED
        return replace(
            self,
            revision=changes.revision,
            rules=rules,
            removed={} if is_too_long else removed,
            since=changes.revision if is_too_long else self.since,
        )

    def changes_since(self, version: str) -> RuleChanges | None:
        """What changed since a version of these rules; None when that is not known."""
        epoch, _, number = version.rpartition(".")
        known = int(number) if number.isdecimal() and len(number) <= MAX_DIGITS else -1
        if epoch != self.epoch or not self.since <= known <= self.revision:
            return None
        return RuleChanges(
            revision=self.revision,
            epoch=self.epoch,
            rules=tuple(kept for kept in self.rules if kept.rule.revision > known),
            removed=tuple(rule_id for rule_id, revision in self.removed.items() if revision > known),
        )
