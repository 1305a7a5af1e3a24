"""Alert rules on the wire."""

from collections.abc import Iterable, Iterator
from itertools import chain, pairwise

from services.contract.alert_rules import write_alert_rule
from services.contract.timestamps import timestamp_of
from services.manager.core.rule import KeptRule, RuleChanges, RuleSet
from tocsin.rules.v1 import alert_rule_pb2 as pb
from tocsin.rules.v1 import alert_rule_service_pb2 as service_pb

_Response = service_pb.WatchAlertRulesResponse
# Of a page's rules; one rule is at most a tenth of it.
PAGE_BYTES = 1 << 20


def present(message: pb.AlertRule) -> set[str]:
    """The names of the fields that are set."""
    return {field.name for field, _ in message.ListFields()}


def message(kept: KeptRule) -> pb.AlertRule:
    """A kept rule as clients see it."""
    message = write_alert_rule(kept.rule)
    # A rule that was only validated has neither.
    if kept.rule.id:
        message.etag = kept.etag
        message.create_time.CopyFrom(timestamp_of(kept.create_time))
        message.update_time.CopyFrom(timestamp_of(kept.update_time))
    return message


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
