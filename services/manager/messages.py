"""Rules, alerts and incidents as messages of the contract, and back; rpcs, workers and adapters use them alike."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import chain, islice, pairwise

from google.protobuf.message import Message

from services.contract.alert_rules import write_alert_rule
from services.contract.timestamps import duration_of, timedelta_of, timestamp_of
from services.domain.matchers import SERVICE, LabelMatcher, MatcherError, parse_matchers
from services.domain.severity import Severity
from services.domain.tenants import SOLE_TENANT, write_tenant
from services.manager.core.alert import Alert, AlertHistoryEntry
from services.manager.core.alert_lifecycle import AlertState
from services.manager.core.catalog import Catalog
from services.manager.core.incident import (
    Correlation,
    Incident,
    IncidentAlert,
    IncidentNotification,
    IncidentNotificationKind,
    IncidentSummary,
    summary_of,
)
from services.manager.core.labels import labels_of
from services.manager.core.routing_tree import InhibitionRule, RouteNode, RoutingTree
from services.manager.core.rule import RuleChanges, RuleSnapshot, StoredRule
from services.manager.core.rule_problems import ReportedProblem, RuleHistoryEntry
from services.manager.core.service_changes import RelatedChange, ServiceChange
from services.rule_language.label_regex import compile_regex
from tocsin.alerts.v1 import alert_pb2
from tocsin.changes.v1.service_change_pb2 import ServiceChange as ChangeMessage
from tocsin.incidents.v1 import incident_pb2
from tocsin.incidents.v1.incident_notice_pb2 import IncidentNotice
from tocsin.notifications.v1.notification_pb2 import Notification
from tocsin.routing.v1 import routing_tree_pb2
from tocsin.rules.v1.alert_rule_pb2 import AlertRule
from tocsin.rules.v1.alert_rule_pb2 import RuleProblem as RuleProblemMessage
from tocsin.rules.v1.alert_rule_service_pb2 import WatchAlertRulesResponse
from tocsin.rules.v1.rule_statistics_service_pb2 import RuleHistoryEntry as RuleHistoryEntryMessage

# Of a page's rules; one rule is at most a tenth of it.
PAGE_BYTES = 1 << 20
# Of a notification.
_MAX_ALERTS = 20
_MAX_REASON = 500
_MAX_NAMES = 5
_MAX_EDGES = 2


class UnusableRecordError(ValueError):
    """A record that can be decoded but lacks what the manager needs."""


def alert_message(alert: Alert, catalog: Catalog | None = None) -> alert_pb2.Alert:
    """Return an alert as clients see it, with what the catalog has of its service."""
    subject = alert.subject
    message = alert_pb2.Alert.FromString(subject.evidence)
    message.MergeFrom(
        alert_pb2.Alert(
            id=alert.id,
            fingerprint=subject.fingerprint,
            state=alert_pb2.Alert.State.Value(alert.status.state.value),
            severity=AlertRule.Severity.ValueType(subject.severity),
            rule_id=subject.rule_id,
            rule_name=subject.rule_name,
            description=subject.description,
            resource=subject.resource,
            fire_time=timestamp_of(alert.fire_time),
            acknowledge_time=timestamp_of(alert.acknowledge_time),
            acknowledged_by=alert.acknowledged_by,
            resolve_time=timestamp_of(alert.resolve_time),
            resolved_by=alert.resolved_by,
            superseded_by=alert.superseded_by,
            repeat_count=alert.status.repeat_count,
            etag=alert.etag,
            update_time=timestamp_of(alert.update_time),
            match_labels=subject.labels,
            silenced_by=alert.silenced_by,
        )
    )
    if catalog is not None:
        fill_service_info(message, catalog)
    return message


def fill_service_info(message: alert_pb2.Alert, catalog: Catalog) -> None:
    """Set what the catalog has of an alert's service."""
    entry = catalog.entry_of(message.match_labels.get(SERVICE, ""))
    if entry is not None:
        message.service_info.CopyFrom(
            alert_pb2.ServiceInfo(
                name=entry.name,
                owner=entry.owner,
                tier=entry.tier,
                description=entry.description,
                links=entry.links,
            )
        )


def change_message(change: ServiceChange) -> ChangeMessage:
    """Return a change of a service as clients see it."""
    return ChangeMessage(
        id=change.id,
        service=change.service,
        kind=ChangeMessage.Kind.Value(change.kind.value),
        version=change.version,
        actor=change.actor,
        link=change.link,
        time=timestamp_of(change.time),
        create_time=timestamp_of(change.create_time),
    )


def related_messages(related: Iterable[RelatedChange]) -> list[alert_pb2.RelatedChange]:
    """Return the changes that an alert shows, as clients see them."""
    return [alert_pb2.RelatedChange(change=change_message(each.change), distance=each.distance) for each in related]


def derived_labels(rule_name: str, severity: Severity, evidence: bytes) -> dict[str, str]:
    """Return the labels of an alert that was stored before alerts had any."""
    message = alert_pb2.Alert.FromString(evidence)
    return labels_of(
        rule_name=rule_name,
        severity=severity,
        service="",
        group=message.group,
        rule_labels=message.labels,
        catalog_labels={},
    )


def rule_labels_of(evidence: bytes) -> Mapping[str, str]:
    """Return the labels of an alert's rule."""
    return alert_pb2.Alert.FromString(evidence).labels


def history_message(entry: AlertHistoryEntry) -> alert_pb2.AlertHistoryEntry:
    """Return a history entry as clients see it."""
    return alert_pb2.AlertHistoryEntry(
        id=entry.id,
        kind=alert_pb2.AlertHistoryEntry.Kind.Value(entry.kind.value),
        create_time=timestamp_of(entry.create_time),
        actor=entry.actor,
        comment=entry.comment,
        channel=entry.channel,
        trace_id=entry.trace_id,
        recipient=entry.recipient,
        notified_state=alert_pb2.Alert.State.Value(entry.notified_state or "STATE_UNSPECIFIED"),
    )


def notification_message(
    notification: IncidentNotification,
    alert: Alert,
    catalog: Catalog,
    related: Iterable[RelatedChange] = (),
    *,
    tenant: str = SOLE_TENANT,
) -> Notification:
    """Return a notification of an incident, for the notifier, with the alert that it is about and its changes."""
    incident = notification.incident
    message = Notification(
        id=notification.id,
        kind=Notification.Kind.Value(notification.kind.value),
        alert=alert_message(alert, catalog),
        incident=_notice(notification, alert, catalog),
        receivers=notification.receivers,
        subject_id=incident.subject_id,
        sequence=notification.sequence,
        reason=notification.comment[:_MAX_REASON],
        create_time=timestamp_of(notification.create_time),
        time_zone=notification.time_zone,
        tenant=write_tenant(tenant),
    )
    message.alert.recent_changes.extend(related_messages(related))
    return message


def _notice(notification: IncidentNotification, alert: Alert, catalog: Catalog) -> IncidentNotice:
    """Return the incident as people are notified of it: without the alerts that are withheld from them."""
    incident = notification.incident
    audible = [member for member in incident.alerts.values() if member.audible_version]
    cause = incident.alerts[incident.cause]
    notice = IncidentNotice(
        incident=incident_message(summary_of(incident)),
        alerts=[
            incident_alert_message(incident, member) for member in sorted(audible, key=_notice_order)[:_MAX_ALERTS]
        ],
        cause_reason=_cause_reason(incident, catalog)[:_MAX_REASON],
        cause=incident_alert_message(incident, cause) if cause.audible_version else None,
        new_alert_count=notification.new_alerts,
        ended_alert_count=notification.ended_alerts,
        is_flapping=notification.is_flapping,
    )
    shown = incident.live_alerts or audible
    if shown:
        notice.incident.severity = AlertRule.Severity.ValueType(max(member.severity for member in shown))
    if notification.kind is IncidentNotificationKind.RESOLVED and not notice.incident.HasField("resolve_time"):
        # It settles first; receivers see the end of its alerts.
        notice.incident.resolve_time.CopyFrom(timestamp_of(alert.resolve_time or notification.create_time))
        notice.incident.resolved_by = alert.resolved_by
    entry = catalog.entry_of(cause.service)
    if entry is not None:
        notice.links.update(islice(entry.links.items(), _MAX_ALERTS))
    return notice


def _notice_order(member: IncidentAlert) -> tuple[bool, int, float]:
    return not member.is_open, -member.severity, -member.fire_time.timestamp()


def _cause_reason(incident: Incident, catalog: Catalog) -> str:
    cause = incident.alerts[incident.cause]
    others = sorted({alert.service for alert in incident.alerts.values() if alert.service} - {cause.service})
    dependents = catalog.graph.dependents(cause.service, _MAX_EDGES) if cause.service else {}
    dependent = [name for name in others if name in dependents]
    if dependent:
        return f"{', '.join(dependent[:_MAX_NAMES])} depend{'s' if len(dependent) == 1 else ''} on {cause.service}"
    return "it fired first" if len(incident.alerts) > 1 else ""


def incident_message(summary: IncidentSummary) -> incident_pb2.Incident:
    """Return an incident as clients see it."""
    incident = summary.incident
    return incident_pb2.Incident(
        id=incident.id,
        state=incident_pb2.Incident.State.Value(incident.state.value),
        title=summary.title,
        severity=AlertRule.Severity.ValueType(summary.severity),
        cause_alert_id=incident.cause,
        alert_count=summary.alert_count,
        open_alert_count=summary.open_alert_count,
        services=summary.services,
        create_time=timestamp_of(incident.create_time),
        update_time=timestamp_of(incident.update_time),
        settle_time=timestamp_of(incident.settle_time),
        resolve_time=timestamp_of(incident.resolve_time),
        resolved_by=incident.resolved_by,
        acknowledge_time=timestamp_of(incident.acknowledge_time),
        acknowledged_by=incident.acknowledged_by,
        acknowledged_until=timestamp_of(incident.acknowledged_until),
        assignee=incident.assignee,
        merged_into=incident.merged_into,
        etag=incident.etag,
    )


def incident_alert_message(incident: Incident, alert: IncidentAlert) -> incident_pb2.IncidentAlert:
    """Return an alert of an incident as clients see it."""
    is_open = alert.is_open and incident.is_open
    return incident_pb2.IncidentAlert(
        alert_id=alert.id,
        rule_name=alert.rule_name,
        resource=alert.resource,
        service=alert.service,
        severity=AlertRule.Severity.ValueType(alert.severity),
        state=alert_pb2.Alert.FIRING if is_open else alert_pb2.Alert.RESOLVED,
        fire_time=timestamp_of(alert.fire_time),
        correlation=correlation_message(alert.correlation),
    )


def correlation_message(correlation: Correlation) -> incident_pb2.Correlation:
    """Return why an alert is in its incident, as clients see it."""
    return incident_pb2.Correlation(
        reason=incident_pb2.Correlation.Reason.Value(correlation.reason.value),
        path=correlation.path,
        labels=correlation.labels,
    )


def alert_state_of(value: alert_pb2.Alert.State.ValueType) -> AlertState:
    """Return a state of the contract. Raises ValueError for the unspecified and for unknown ones."""
    return AlertState(alert_pb2.Alert.State.Name(value))


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


def routing_tree_message(tree: RoutingTree) -> routing_tree_pb2.RoutingTree:
    """Return a routing tree as clients see it and as it is stored."""
    return routing_tree_pb2.RoutingTree(
        root=_route_message(tree.root),
        inhibition_rules=[
            routing_tree_pb2.InhibitionRule(
                source=map(str, rule.source), target=map(str, rule.target), equal=rule.equal
            )
            for rule in tree.inhibition_rules
        ],
    )


def _route_message(node: RouteNode) -> routing_tree_pb2.Route:
    labels, window = node.correlation_labels, node.correlation_window
    correlation = None
    if labels is not None or window is not None:
        correlation = routing_tree_pb2.Correlation(
            labels=labels, without_labels=labels == (), window=None if window is None else duration_of(window)
        )
    return routing_tree_pb2.Route(
        matchers=map(str, node.matchers),
        receivers=node.receivers,
        without_receivers=node.receivers == (),
        policy=node.policy,
        continues=node.continues,
        correlation=correlation,
        bundling_interval=None if node.bundling_interval is None else duration_of(node.bundling_interval),
        inhibits_dependents=node.inhibits_dependents,
        routes=map(_route_message, node.routes),
    )


def read_routing_tree(message: routing_tree_pb2.RoutingTree) -> tuple[RoutingTree, list[tuple[str, str]]]:
    """Return the tree that a message holds, and what cannot be read of it, each with its field named as in JSON."""
    reader = _TreeReader()
    return reader.tree(message), reader.problems


class _TreeReader:
    """Reads a routing tree; `problems` has what could not be read."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, str]] = []

    def tree(self, message: routing_tree_pb2.RoutingTree) -> RoutingTree:
        rules = tuple(self._rule(f"inhibitionRules[{n}]", rule) for n, rule in enumerate(message.inhibition_rules))
        return RoutingTree(root=self._route("root", message.root), inhibition_rules=rules)

    def _rule(self, field: str, message: routing_tree_pb2.InhibitionRule) -> InhibitionRule:
        return InhibitionRule(
            source=self._matchers(f"{field}.source", message.source),
            target=self._matchers(f"{field}.target", message.target),
            equal=tuple(message.equal),
        )

    def _route(self, field: str, message: routing_tree_pb2.Route) -> RouteNode:
        correlation = message.correlation
        labels, without_labels = correlation.labels, correlation.without_labels
        return RouteNode(
            matchers=self._matchers(f"{field}.matchers", message.matchers),
            receivers=self._names(f"{field}.withoutReceivers", message.receivers, without=message.without_receivers),
            policy=message.policy if message.HasField("policy") else None,
            continues=message.continues,
            correlation_labels=self._names(f"{field}.correlation.withoutLabels", labels, without=without_labels),
            correlation_window=self._span(f"{field}.correlation.window", correlation, "window"),
            bundling_interval=self._span(f"{field}.bundlingInterval", message, "bundling_interval"),
            inhibits_dependents=message.inhibits_dependents if message.HasField("inhibits_dependents") else None,
            routes=tuple(self._route(f"{field}.routes[{n}]", below) for n, below in enumerate(message.routes)),
        )

    def _matchers(self, field: str, texts: Sequence[str]) -> tuple[LabelMatcher, ...]:
        matchers: list[LabelMatcher] = []
        for n, text in enumerate(texts):
            try:
                matchers += parse_matchers(text, compile_regex)
            except MatcherError as error:
                self.problems.append((f"{field}[{n}]", str(error)))
        return tuple(matchers)

    def _names(self, field: str, names: Sequence[str], *, without: bool) -> tuple[str, ...] | None:
        """Return names, none where the inherited ones are taken away, None where these stay."""
        if without and names:
            self.problems.append((field, "takes away what is inherited, so it does not go with names"))
        return tuple(names) if names or without else None

    def _span(self, field: str, message: Message, name: str) -> timedelta | None:
        if not message.HasField(name):
            return None
        try:
            return timedelta_of(getattr(message, name))
        except ValueError as error:
            self.problems.append((field, str(error)))
            return None
