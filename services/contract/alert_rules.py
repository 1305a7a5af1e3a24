"""Alert rules between protobuf and the rule language."""

from datetime import timedelta
from enum import IntEnum
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration

from services.contract.timestamps import duration_of, timedelta_of
from services.domain.severity import Severity
from services.domain.tenants import read_tenant
from services.rule_language.rule import Draft, Rule, RuleType
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

_MINUTE = timedelta(minutes=1)
_Choice = TypeVar("_Choice", bound=IntEnum)


def read_alert_rule(message: AlertRule) -> Draft:
    """Return what the message says; what it leaves out is left out, and an unknown choice is its number."""
    return Draft(
        id=message.id,
        name=message.name,
        description=message.description,
        type=_choice(message.type, RuleType),
        scope=message.scope,
        filter=message.filter,
        group_by=tuple(message.group_by),
        value_field=message.value_field,
        condition=message.condition,
        threshold=message.threshold if message.HasField("threshold") else None,
        window_minutes=message.window_minutes if message.HasField("window_minutes") else None,
        window=_span(message.window) if message.HasField("window") else None,
        lateness=_span(message.lateness) if message.HasField("lateness") else None,
        severity=_choice(message.severity, Severity),
        labels=dict(message.labels),
        enabled=message.enabled if message.HasField("enabled") else None,
        revision=message.revision,
        selection_revision=message.selection_revision,
        tenant=read_tenant(message.tenant),
    )


def write_alert_rule(rule: Rule) -> AlertRule:
    """Return the rule as a message; a window of whole minutes is given in minutes."""
    message = AlertRule(
        id=rule.id,
        name=rule.name,
        description=rule.description,
        type=AlertRule.Type.ValueType(rule.type),
        scope=rule.scope,
        filter=rule.filter,
        group_by=rule.group_by,
        value_field=rule.value_field,
        condition=rule.condition,
        threshold=rule.threshold,
        lateness=duration_of(rule.lateness),
        severity=AlertRule.Severity.ValueType(rule.severity),
        labels=rule.labels,
        enabled=rule.enabled,
        revision=rule.revision,
        selection_revision=rule.selection_revision,
        tenant=rule.tenant,
    )
    if rule.window % _MINUTE:
        message.window.CopyFrom(duration_of(rule.window))
    else:
        message.window_minutes = rule.window // _MINUTE
    return message


def _choice(value: int, choices: type[_Choice]) -> _Choice | int | None:
    return choices(value) if value in set(map(int, choices)) else value or None


def _span(duration: Duration) -> timedelta:
    try:
        return timedelta_of(duration)
    except ValueError:
        # Longer than any rule may be, so it is refused like any other that is too long.
        return timedelta.max
