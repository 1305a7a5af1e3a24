"""Rows to values and back."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from asyncpg import Record

from services.domain.alert import Life, State, Verdict
from services.domain.severity import Severity
from services.manager.adapters.postgres.text import storable
from services.manager.core.alert import Alert, Entry, Kind, Subject
from services.manager.core.rule import KeptRule
from services.rule_language.rule import Rule, RuleType

RULE_COLUMNS = """id, name, description, type, scope, filter, group_by, value_field, condition, threshold, time_window,
    lateness, severity, labels, enabled, revision, selection_revision, create_time, update_time"""

ALERT_COLUMNS = """id, fingerprint, state, severity, rule_id, rule_name, description, resource, evidence, fire_time,
    acknowledge_time, acknowledged_by, resolve_time, resolved_by, superseded_by, repeat_count, last_episode,
    last_selection, last_revision, last_firing_time, version, update_time, open_key"""

ENTRY_COLUMNS = "id, alert_id, kind, create_time, actor, comment, channel, trace_id"


def rule_of(row: Record) -> KeptRule:
    """A rule from RULE_COLUMNS."""
    rule = Rule(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        type=RuleType[row["type"]],
        scope=row["scope"],
        filter=row["filter"],
        group_by=tuple(row["group_by"]),
        value_field=row["value_field"],
        condition=row["condition"],
        threshold=row["threshold"],
        window=row["time_window"],
        lateness=row["lateness"],
        severity=Severity[row["severity"]],
        labels=json.loads(row["labels"]),
        enabled=row["enabled"],
        revision=row["revision"],
        selection_revision=row["selection_revision"],
    )
    return KeptRule(rule=rule, create_time=row["create_time"], update_time=row["update_time"])


def rule_row(kept: KeptRule) -> tuple[Any, ...]:
    """The values of RULE_COLUMNS."""
    rule = kept.rule
    return (
        rule.id,
        rule.name,
        rule.description,
        rule.type.name,
        rule.scope,
        rule.filter,
        list(rule.group_by),
        rule.value_field,
        rule.condition,
        rule.threshold,
        rule.window,
        rule.lateness,
        rule.severity.name,
        json.dumps(dict(rule.labels)),
        rule.enabled,
        rule.revision,
        rule.selection_revision,
        kept.create_time,
        kept.update_time,
    )


def alert_of(row: Record) -> Alert:
    """An alert from ALERT_COLUMNS."""
    last = Verdict(
        episode=row["last_episode"],
        selection=row["last_selection"],
        revision=row["last_revision"],
        time=row["last_firing_time"],
        severity=Severity[row["severity"]],
    )
    return Alert(
        id=row["id"],
        subject=Subject(
            open_key=row["open_key"],
            fingerprint=row["fingerprint"],
            severity=Severity[row["severity"]],
            rule_id=row["rule_id"],
            rule_name=row["rule_name"],
            description=row["description"],
            resource=row["resource"],
            evidence=row["evidence"],
        ),
        life=Life(state=State(row["state"]), last_firing=last, repeat_count=row["repeat_count"]),
        fire_time=row["fire_time"],
        update_time=row["update_time"],
        version=row["version"],
        acknowledge_time=row["acknowledge_time"],
        acknowledged_by=row["acknowledged_by"],
        resolve_time=row["resolve_time"],
        resolved_by=row["resolved_by"],
        superseded_by=row["superseded_by"],
    )


def alert_row(alert: Alert) -> tuple[Any, ...]:
    """The values of ALERT_COLUMNS."""
    subject, life = alert.subject, alert.life
    return (
        alert.id,
        subject.fingerprint,
        life.state.value,
        subject.severity.name,
        subject.rule_id,
        storable(subject.rule_name),
        storable(subject.description),
        storable(subject.resource),
        subject.evidence,
        alert.fire_time,
        alert.acknowledge_time,
        storable(alert.acknowledged_by),
        alert.resolve_time,
        storable(alert.resolved_by),
        alert.superseded_by,
        life.repeat_count,
        life.last_firing.episode,
        life.last_firing.selection,
        life.last_firing.revision,
        life.last_firing.time,
        alert.version,
        alert.update_time,
        subject.open_key,
    )


def entry_of(row: Record) -> Entry:
    """A line of history from ENTRY_COLUMNS."""
    return Entry(
        id=row["id"],
        alert_id=row["alert_id"],
        kind=Kind(row["kind"]),
        create_time=row["create_time"],
        actor=row["actor"],
        comment=row["comment"],
        channel=row["channel"],
        trace_id=row["trace_id"],
    )


def entry_row(entry: Entry) -> tuple[str, str, str, datetime, str, str, str, str]:
    """The values of ENTRY_COLUMNS."""
    return (
        entry.id,
        storable(entry.alert_id),
        entry.kind.value,
        entry.create_time,
        storable(entry.actor),
        storable(entry.comment),
        storable(entry.channel),
        entry.trace_id,
    )


def columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Rows turned into columns, as unnest takes them; there must be at least one row."""
    return [list(column) for column in zip(*rows, strict=True)]
