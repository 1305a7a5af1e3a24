"""The expected alerts, computed by going through all events one by one."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from services.evaluator.core.records import TransitionState
from services.evaluator.core.rules import RuleSet
from services.evaluator.core.window.condition import WindowValues
from tests.unit.evaluator.pipeline import AlertFacts, Event

WINDOW = 10


@dataclass
class WindowContent:
    """One window of one group."""

    count: int = 0
    total: int = 0
    values: list[float] = field(default_factory=list)

    def numbers(self, threshold: float) -> WindowValues:
        return WindowValues(
            count=self.count,
            total=self.total,
            threshold=threshold,
            value_count=len(self.values),
            sum=sum(self.values),
            min=min(self.values, default=None),
            max=max(self.values, default=None),
        )


def windows_of(events: Iterable[Event]) -> dict[str, dict[int, WindowContent]]:
    """Count the events of rules over errors, by service and window."""
    seen: dict[str, dict[int, WindowContent]] = defaultdict(lambda: defaultdict(WindowContent))
    for event in events:
        window = seen[event.service][int(event.second // WINDOW) * WINDOW]
        window.total += 1
        if event.level in {"ERROR", "FATAL"}:
            window.count += 1
            window.values += [] if event.response_time is None else [event.response_time]
    return seen


def holding(rules: RuleSet, events: Iterable[Event]) -> dict[tuple[str, str], set[int]]:
    """Return for each rule and service the windows that meet the condition in the end."""
    windows = windows_of(events)
    return {
        (compiled.rule.id, service): {
            start for start, seen in starts.items() if compiled.condition(seen.numbers(compiled.rule.threshold))
        }
        for compiled in rules.rules.values()
        for service, starts in windows.items()
    }


def expected(rules: RuleSet, events: Iterable[Event]) -> set[AlertFacts]:
    """Return the alerts when every window is complete before the next begins, and all are closed in the end."""
    facts: set[AlertFacts] = set()
    for (rule_id, service), starts in holding(rules, events).items():
        for start in starts:
            if start - WINDOW not in starts:
                end = start
                while end in starts:
                    end += WINDOW
                facts.add((rule_id, service, TransitionState.FIRING, float(start), float(start)))
                facts.add((rule_id, service, TransitionState.RESOLVED, float(end), float(start)))
    return facts
