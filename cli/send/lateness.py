"""Which events come too late for every rule: the windows that they belong to are closed."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import grpc

from cli.rule_names import all_rules
from services.contract.timestamps import timedelta_of
from tocsin.rules.v1.alert_rule_pb2 import AlertRule
from tocsin.rules.v1.alert_rule_service_pb2_grpc import AlertRuleServiceStub

# What counts as too late where the rules are not known.
DEFAULT_MAX_AGE = timedelta(minutes=5)
# A warning is not worth a longer wait.
_TIMEOUT_S = 2.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What the contract says of a rule without one.
_DEFAULT_LATENESS = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleWindow:
    """How long the windows of a rule are, and for how long after its end each still takes events."""

    length: timedelta
    lateness: timedelta

    def is_closed(self, event_time: datetime, now: datetime) -> bool:
        """Return whether the window of an event is closed by now, as the wall clock goes."""
        start = event_time - (event_time - _EPOCH) % self.length
        return now - start > self.length + self.lateness


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWindows:
    """The windows of all enabled rules; none where they are not known."""

    windows: frozenset[RuleWindow] = frozenset()

    def is_too_late(self, event_time: datetime, now: datetime) -> bool:
        """Return whether no rule evaluates an event of this time any more."""
        if not self.windows:
            return now - event_time > DEFAULT_MAX_AGE
        return all(window.is_closed(event_time, now) for window in self.windows)

    def describe(self, count: int, total: int, *, is_shifted: bool = False) -> str:
        """Return a sentence that says how many events come too late, and what helps."""
        verb = "is" if count == 1 else "are"
        # Shifted, only the end of a long file is new.
        remedy = "--times arrival sends all as of now" if is_shifted else "--times shift sends them as new"
        return f"{count:,} of {total:,} events {verb} {self.reason}; {remedy}"

    @property
    def reason(self) -> str:
        """Return what is said of events that come too late."""
        minutes = DEFAULT_MAX_AGE // timedelta(minutes=1)
        return "too late for every rule" if self.windows else f"older than {minutes} minutes, too late for most rules"


def open_windows_of(rules: Iterable[AlertRule]) -> OpenWindows:
    """Return the windows of those rules that are enabled."""
    return OpenWindows(windows=frozenset(_window_of(rule) for rule in rules if rule.enabled))


def _window_of(rule: AlertRule) -> RuleWindow:
    is_short = rule.WhichOneof("length") == "window"
    return RuleWindow(
        length=timedelta_of(rule.window) if is_short else timedelta(minutes=rule.window_minutes),
        lateness=timedelta_of(rule.lateness) if rule.HasField("lateness") else _DEFAULT_LATENESS,
    )


def fetch_open_windows(channel: grpc.Channel) -> OpenWindows:
    """Ask for the enabled rules; where that fails, none are known, and sending says what is wrong."""
    try:
        return open_windows_of(all_rules(AlertRuleServiceStub(channel), timeout_s=_TIMEOUT_S))
    except grpc.RpcError:
        return OpenWindows()
