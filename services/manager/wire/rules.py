"""Alert rules on the wire."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import chain, pairwise

from services.domain.severity import Severity
from services.manager.core.rule import KeptRule, RuleChanges, RuleSet
from services.manager.wire.times import duration, span, stamp
from services.rule_language.rule import Draft, RuleType
from tocsin.rules.v1 import alert_rule_pb2 as pb
from tocsin.rules.v1 import alert_rule_service_pb2 as service_pb

_Response = service_pb.WatchAlertRulesResponse
# Of a page's rules; one rule is at most a tenth of it.
PAGE_BYTES = 1 << 20
_MINUTE = timedelta(minutes=1)
# Longer than any rule may say, so that a duration out of range is refused like any other that is too long.
_TOO_LONG = timedelta.max
_TYPES = {int(kind) for kind in RuleType}
_SEVERITIES = {int(severity) for severity in Severity}


def draft(message: pb.AlertRule) -> Draft:
    """What a client said, with what it did not say left out."""
    return Draft(
        id=message.id,
        name=message.name,
        description=message.description,
        type=RuleType(message.type) if message.type in _TYPES else None,
        scope=message.scope,
        filter=message.filter,
        group_by=tuple(message.group_by),
        value_field=message.value_field,
        condition=message.condition,
        threshold=message.threshold if message.HasField("threshold") else None,
        window_minutes=message.window_minutes if message.HasField("window_minutes") else None,
        window=_span(message, "window"),
        lateness=_span(message, "lateness"),
        severity=Severity(message.severity) if message.severity in _SEVERITIES else None,
        labels=dict(message.labels),
        enabled=message.enabled if message.HasField("enabled") else None,
        revision=message.revision,
        selection_revision=message.selection_revision,
    )


def present(message: pb.AlertRule) -> set[str]:
    """The names of the fields that are set."""
    return {field.name for field, _ in message.ListFields()}


def message(kept: KeptRule) -> pb.AlertRule:
    """A kept rule as clients see it."""
    rule = kept.rule
    found = pb.AlertRule(
        id=rule.id,
        name=rule.name,
        description=rule.description,
        type=pb.AlertRule.Type.ValueType(rule.type),
        scope=rule.scope,
        filter=rule.filter,
        group_by=rule.group_by,
        value_field=rule.value_field,
        condition=rule.condition,
        threshold=rule.threshold,
        lateness=duration(rule.lateness),
        severity=pb.AlertRule.Severity.ValueType(rule.severity),
        labels=rule.labels,
        enabled=rule.enabled,
        revision=rule.revision,
        selection_revision=rule.selection_revision,
        etag=kept.etag if rule.id else "",
        create_time=stamp(kept.create_time) if rule.id else None,
        update_time=stamp(kept.update_time) if rule.id else None,
    )
    if rule.window % _MINUTE:
        found.window.CopyFrom(duration(rule.window))
    else:
        found.window_minutes = rule.window // _MINUTE
    return found


def whole(rules: RuleSet, known: str) -> Iterator[_Response]:
    """All rules in one message; a sign of life when the version is known."""
    if known == rules.version:
        yield _Response(revision=rules.revision)
    else:
        yield _Response(revision=rules.revision, is_snapshot=True, alert_rules=map(message, rules.rules))


def pages(rules: RuleSet, known: str) -> Iterator[_Response]:
    """What changed since the known version, or all rules, in pages; a sign of life when nothing changed."""
    changes = rules.changes_since(known)
    if changes is None:
        kind, changes = _Response.SNAPSHOT, RuleChanges(revision=rules.revision, rules=rules.rules)
    else:
        kind = _Response.HEARTBEAT if known == rules.version else _Response.CHANGES
    removed = changes.removed
    for portion, following in pairwise(chain(portions(changes.rules), [None])):
        yield _Response(
            revision=rules.revision,
            kind=kind,
            alert_rules=portion,
            removed_ids=removed,
            has_more=following is not None,
            resume_token="" if following is not None else rules.version,
        )
        removed = ()


def portions(rules: Iterable[KeptRule]) -> Iterator[list[pb.AlertRule]]:
    """Rules on the wire, as many at once as fit into a page; at least one portion."""
    portion: list[pb.AlertRule] = []
    size = 0
    for each in map(message, rules):
        if portion and size + each.ByteSize() > PAGE_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(each)
        size += each.ByteSize()
    yield portion


def _span(message: pb.AlertRule, field: str) -> timedelta | None:
    if not message.HasField(field):  # type: ignore[arg-type]  # the two callers name fields of the message
        return None
    try:
        return span(getattr(message, field))
    except ValueError:
        return _TOO_LONG
