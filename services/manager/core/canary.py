"""The canary's event, and the rule that makes an alert of it.

The rule is in no table: whoever watches the rules is sent it beside the stored ones, and nobody sees or edits it. Each
canary is a group of its own, so that each fires. The manager takes its firing from the others, records no alert, and
sends the time of the event on to the notifier, which notifies nobody and measures how long it took.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from services.domain.canary import CANARY_SERVICE
from services.domain.severity import Severity
from services.manager.core.rule import StoredRule
from services.rule_language.rule import Draft, RuleType, complete

CANARY_RULE_ID: Final = CANARY_SERVICE
# The event's attribute that makes it differ from other canaries.
CANARY_ATTRIBUTE: Final = "canary"
_BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """One event."""

    id: str
    time: datetime


def canary_rule() -> StoredRule:
    """Return the rule that every canary fires; it is the same in all instances and for ever."""
    selected = f'service == "{CANARY_SERVICE}"'
    draft = Draft(
        id=CANARY_RULE_ID,
        name=CANARY_SERVICE,
        description="The manager's own event, by which it measures how long alerts take.",
        type=RuleType.CUSTOM,
        scope=selected,
        filter=selected,
        group_by=(f"attributes.{CANARY_ATTRIBUTE}",),
        condition="count > threshold",
        threshold=0.0,
        window=timedelta(seconds=10),
        severity=Severity.LOW,
        revision=1,
        selection_revision=1,
    )
    return StoredRule(rule=complete(draft), create_time=_BEGINNING, update_time=_BEGINNING)
