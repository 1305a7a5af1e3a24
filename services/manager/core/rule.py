"""An alert rule as the manager keeps it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.domain.fingerprint import digest
from services.rule_language.rule import Rule


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
class RuleSet:
    """The rules at one revision of the whole."""

    revision: int
    rules: tuple[KeptRule, ...] = ()
