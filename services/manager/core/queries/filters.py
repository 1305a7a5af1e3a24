"""Which alerts and rules a reader wants, and which page of them."""

from dataclasses import dataclass
from datetime import datetime

from services.domain.alert import State
from services.domain.severity import Severity
from services.manager.core.alert import Alert


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFilter:
    """What must hold of an alert; empty fields hold of every one."""

    states: tuple[State, ...] = ()
    severities: tuple[Severity, ...] = ()
    rule_id: str = ""
    resource: str = ""
    fired_after: datetime | None = None
    fired_before: datetime | None = None

    def selects(self, alert: Alert) -> bool:
        """Whether all that is given holds."""
        subject = alert.subject
        return (
            (not self.states or alert.life.state in self.states)
            and (not self.severities or subject.severity in self.severities)
            and self.rule_id in {"", subject.rule_id}
            and self.resource in {"", subject.resource}
            and (self.fired_after is None or alert.fire_time >= self.fired_after)
            and (self.fired_before is None or alert.fire_time < self.fired_before)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFilter:
    """What must hold of a rule."""

    enabled: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """How many rows, and after which one; `after` is the key of that one, empty for the first page."""

    size: int = 50
    after: tuple[str, ...] = ()
