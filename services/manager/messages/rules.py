"""Rules, their problems and histories as messages of the contract."""

from collections.abc import Iterable, Iterator
from itertools import chain, pairwise

from services.contract.alert_rules import write_alert_rule
from services.contract.timestamps import timestamp_of
from services.manager.core.rule import RuleChanges, RuleSnapshot, StoredRule
from services.manager.core.rule_problems import ReportedProblem, RuleHistoryEntry
from tocsin.rules.v1.alert_rule_pb2 import AlertRule
from tocsin.rules.v1.alert_rule_pb2 import RuleProblem as RuleProblemMessage
from tocsin.rules.v1.alert_rule_service_pb2 import WatchAlertRulesResponse
from tocsin.rules.v1.rule_statistics_service_pb2 import RuleHistoryEntry as RuleHistoryEntryMessage

# Of a page's rules; one rule is at most a tenth of it.
PAGE_BYTES = 1 << 20


def rule_message(stored: StoredRule) -> AlertRule:
    """Return a stored rule as clients see it."""
    message = write_alert_rule(stored.rule)
    message.etag = stored.etag
    message.create_time.CopyFrom(timestamp_of(stored.create_time))
    message.update_time.CopyFrom(timestamp_of(stored.update_time))
    return message


def problem_message(problem: ReportedProblem) -> RuleProblemMessage:
    """Return a problem of a rule as clients see it."""
    return RuleProblemMessage(
        reason=RuleProblemMessage.Reason.Value(problem.reason.value),
        description=problem.description,
        set_aside_time=timestamp_of(problem.set_aside_time),
        retry_time=timestamp_of(problem.retry_time),
        instance=problem.instance,
    )


def rule_history_message(entry: RuleHistoryEntry) -> RuleHistoryEntryMessage:
    """Return an entry of a rule's history as clients see it."""
    return RuleHistoryEntryMessage(
        kind=RuleHistoryEntryMessage.Kind.Value(entry.kind.value),
        create_time=timestamp_of(entry.create_time),
        reason=RuleProblemMessage.Reason.Value(entry.reason.value if entry.reason else "REASON_UNSPECIFIED"),
        description=entry.description,
        instance=entry.instance,
    )


def set_fields(rule: AlertRule) -> set[str]:
    """Return the names of the fields that a message has."""
    return {field.name for field, _ in rule.ListFields()}


def whole_snapshot(rules: RuleSnapshot, known_version: str) -> Iterator[WatchAlertRulesResponse]:
    """Yield all rules in one message; a heartbeat when the version is known."""
    if known_version == rules.version:
        yield WatchAlertRulesResponse(revision=rules.revision)
    else:
        yield WatchAlertRulesResponse(
            revision=rules.revision, is_snapshot=True, alert_rules=map(rule_message, rules.rules)
        )


def snapshot_pages(rules: RuleSnapshot, known_version: str) -> Iterator[WatchAlertRulesResponse]:
    """Yield pages of what changed since the known version, or of all rules; a heartbeat when nothing changed."""
    changes = rules.changes_since(known_version)
    if changes is None:
        kind, changes = WatchAlertRulesResponse.SNAPSHOT, RuleChanges(revision=rules.revision, rules=rules.rules)
    elif known_version == rules.version:
        kind = WatchAlertRulesResponse.HEARTBEAT
    else:
        kind = WatchAlertRulesResponse.CHANGES
    removed = changes.removed
    for page, next_page in pairwise(chain(rule_pages(changes.rules), [None])):
        yield WatchAlertRulesResponse(
            revision=rules.revision,
            kind=kind,
            alert_rules=page,
            removed_ids=removed,
            has_more=next_page is not None,
            resume_token="" if next_page is not None else rules.version,
        )
        removed = ()


def rule_pages(rules: Iterable[StoredRule]) -> Iterator[list[AlertRule]]:
    """Yield rules as messages, as many at once as fit into a page; at least one page, which may be empty."""
    page: list[AlertRule] = []
    size = 0
    for rule in map(rule_message, rules):
        if page and size + rule.ByteSize() > PAGE_BYTES:
            yield page
            page, size = [], 0
        page.append(rule)
        size += rule.ByteSize()
    yield page
