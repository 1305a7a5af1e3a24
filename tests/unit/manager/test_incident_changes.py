"""The life of an incident, by example."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.domain.severity import Severity
from services.manager.core.correlation import CauseReason, CorrelationSettings
from services.manager.core.dependency_graph import DependencyEdge, DependencyGraph
from services.manager.core.incident import (
    Correlation,
    CorrelationReason,
    Incident,
    IncidentAlert,
    IncidentHistoryKind,
    IncidentState,
    summary_of,
    title_of,
)
from services.manager.core.incident_changes import (
    IncidentChange,
    IncidentReason,
    acknowledge,
    add_comment,
    assign,
    end_alert,
    expire_acknowledgement,
    join,
    open_incident,
    resolve_incident,
    settle,
    unacknowledge,
    update_alert,
    with_cause,
)
from services.manager.core.incident_merges import merge_incidents, split_incident

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
SETTLE = timedelta(minutes=5)
BY_RESOURCE = Correlation(incident_id="i", reason=CorrelationReason.SAME_RESOURCE)


def at(minute: float) -> datetime:
    return NOW + timedelta(minutes=minute)


def alert(name: str, service: str = "shop", severity: Severity = Severity.HIGH) -> IncidentAlert:
    return IncidentAlert(
        id=name,
        rule_name=f"rule {name}",
        service=service,
        resource=f"service={service}",
        severity=severity,
        labels={},
        fire_time=NOW,
    )


def opened(*names: str) -> Incident:
    incident = open_incident(alert(names[0]), now=NOW).incident
    for name in names[1:]:
        incident = join(incident, alert(name), BY_RESOURCE, now=NOW).incident
    return incident


def kinds(change: IncidentChange) -> list[IncidentHistoryKind]:
    return [entry.kind for entry in change.history]


def test_an_alert_opens_an_incident_whose_id_is_always_the_same() -> None:
    change = open_incident(alert("a"), now=NOW)
    assert change.incident.state is IncidentState.OPEN
    assert change.incident.cause == "a"
    assert kinds(change) == [IncidentHistoryKind.OPENED]
    assert open_incident(alert("a"), now=at(1)).incident.id == change.incident.id != opened("b").id


def test_an_alert_that_joins_says_why_and_joins_once() -> None:
    change = join(opened("a"), alert("b"), BY_RESOURCE, now=at(1))
    assert change.reason is IncidentReason.JOINED
    assert change.incident.alerts["b"].correlation == change.history[0].correlation == BY_RESOURCE
    again = join(change.incident, alert("b"), BY_RESOURCE, now=at(2))
    assert (again.incident, again.reason, again.history) == (
        change.incident,
        IncidentReason.ALREADY_IN_INCIDENT,
        (),
    )


def test_its_severity_is_the_highest_of_the_open_alerts() -> None:
    incident = join(opened("a"), alert("b", severity=Severity.CRITICAL), BY_RESOURCE, now=NOW).incident
    assert incident.severity is Severity.CRITICAL
    incident = end_alert(incident, "b", settle=SETTLE, now=NOW).incident
    assert incident.severity is Severity.HIGH
    assert end_alert(incident, "a", settle=SETTLE, now=NOW).incident.severity is Severity.CRITICAL


def test_it_is_resolved_when_its_last_alert_has_been_over_for_a_while() -> None:
    incident = end_alert(opened("a", "b"), "a", settle=SETTLE, now=at(1)).incident
    assert incident.settle_time is None
    change = end_alert(incident, "b", settle=SETTLE, now=at(2))
    assert (change.reason, kinds(change)) == (IncidentReason.ALERT_RESOLVED, [IncidentHistoryKind.ALERT_RESOLVED])
    assert settle(change.incident, now=at(6.9)).reason is IncidentReason.NOT_DUE
    settled = settle(change.incident, now=at(9))
    assert (settled.reason, settled.incident.state) == (IncidentReason.SETTLED, IncidentState.RESOLVED)
    assert settled.incident.resolve_time == at(7)
    assert settle(settled.incident, now=at(20)).reason is IncidentReason.NOT_DUE
    assert settle(incident, now=at(20)).reason is IncidentReason.NOT_DUE


def test_the_end_of_an_alert_is_noted_once() -> None:
    incident = end_alert(opened("a"), "a", settle=SETTLE, now=NOW).incident
    for name in ("a", "unknown"):
        change = end_alert(incident, name, settle=SETTLE, now=at(3))
        assert (change.incident, change.reason) == (incident, IncidentReason.ALERT_NOT_OPEN)


def test_an_alert_that_joins_while_it_settles_keeps_it_open() -> None:
    incident = end_alert(opened("a"), "a", settle=SETTLE, now=NOW).incident
    incident = join(incident, alert("b"), BY_RESOURCE, now=at(4)).incident
    assert settle(incident, now=at(60)).reason is IncidentReason.NOT_DUE


def test_a_related_alert_opens_it_again_and_nobody_has_acknowledged_it() -> None:
    incident = acknowledge(opened("a"), actor="ann", comment="", until=None, now=NOW).incident
    incident = end_alert(incident, "a", settle=SETTLE, now=NOW).incident
    incident = settle(incident, now=at(5)).incident
    change = join(incident, alert("b"), BY_RESOURCE, now=at(8))
    assert (change.reason, kinds(change)) == (
        IncidentReason.REOPENED,
        [IncidentHistoryKind.REOPENED, IncidentHistoryKind.JOINED],
    )
    assert (change.incident.state, change.incident.resolve_time) == (IncidentState.OPEN, None)
    assert (change.incident.acknowledged_by, change.incident.acknowledge_time) == ("", None)


def test_resolving_by_hand_ends_its_alerts_and_is_done_once() -> None:
    change = resolve_incident(opened("a", "b"), actor="ann", comment="fixed", now=at(1))
    assert (change.incident.resolved_by, change.incident.open_alerts) == ("ann", [])
    assert (change.history[0].actor, change.history[0].comment) == ("ann", "fixed")
    again = resolve_incident(change.incident, actor="bob", comment="", now=at(2))
    assert (again.incident, again.reason) == (change.incident, IncidentReason.ALREADY_RESOLVED)
    late = end_alert(join(change.incident, alert("c"), BY_RESOURCE, now=NOW).incident, "a", settle=SETTLE, now=NOW)
    assert late.reason is IncidentReason.ALERT_NOT_OPEN


def test_it_is_acknowledged_once() -> None:
    change = acknowledge(opened("a"), actor="ann", comment="mine", until=None, now=at(1))
    assert (change.incident.state, change.incident.acknowledged_by) == (IncidentState.ACKNOWLEDGED, "ann")
    assert (change.history[0].actor, change.history[0].comment) == ("ann", "mine")
    for actor in ("ann", "bob"):
        again = acknowledge(change.incident, actor=actor, comment="", until=None, now=at(2))
        assert (again.incident, again.reason) == (change.incident, IncidentReason.ALREADY_ACKNOWLEDGED)
    resolved = resolve_incident(change.incident, actor="ann", comment="", now=at(3)).incident
    too_late = acknowledge(resolved, actor="bob", comment="", until=None, now=at(4))
    assert (too_late.incident, too_late.reason) == (resolved, IncidentReason.ALREADY_RESOLVED)


def test_who_has_acknowledged_it_may_set_another_end() -> None:
    incident = acknowledge(opened("a"), actor="ann", comment="", until=at(30), now=at(1)).incident
    change = acknowledge(incident, actor="ann", comment="", until=at(60), now=at(2))
    assert (change.reason, change.incident.acknowledged_until) == (IncidentReason.ACKNOWLEDGED, at(60))
    assert change.incident.acknowledge_time == at(1)


def test_an_acknowledgement_ends_at_its_time() -> None:
    incident = acknowledge(opened("a"), actor="ann", comment="", until=at(30), now=at(1)).incident
    assert expire_acknowledgement(incident, now=at(29)).reason is IncidentReason.NOT_DUE
    change = expire_acknowledgement(incident, now=at(30))
    assert (change.reason, change.incident.state) == (IncidentReason.ACKNOWLEDGEMENT_EXPIRED, IncidentState.OPEN)
    assert kinds(change) == [IncidentHistoryKind.ACKNOWLEDGEMENT_EXPIRED]
    assert expire_acknowledgement(change.incident, now=at(40)).reason is IncidentReason.NOT_DUE
    endless = acknowledge(opened("a"), actor="ann", comment="", until=None, now=at(1)).incident
    assert expire_acknowledgement(endless, now=at(999)).reason is IncidentReason.NOT_DUE


def test_an_acknowledgement_is_taken_back() -> None:
    incident = acknowledge(opened("a"), actor="ann", comment="", until=None, now=at(1)).incident
    change = unacknowledge(incident, actor="bob", comment="no time", now=at(2))
    assert (change.reason, change.incident.state) == (IncidentReason.UNACKNOWLEDGED, IncidentState.OPEN)
    assert unacknowledge(change.incident, actor="bob", comment="", now=at(3)).reason is IncidentReason.NOT_ACKNOWLEDGED


def test_it_is_assigned_and_commented() -> None:
    change = assign(opened("a"), "ann", actor="bob", comment="", now=at(1))
    assert (change.reason, change.incident.assignee) == (IncidentReason.ASSIGNED, "ann")
    assert assign(change.incident, "ann", actor="bob", comment="", now=at(2)).reason is IncidentReason.ALREADY_ASSIGNED
    commented = add_comment(change.incident, actor="bob", comment="look", now=at(3))
    assert (commented.reason, commented.history[0].comment) == (IncidentReason.COMMENTED, "look")
    assert (
        commented.history[0].id != add_comment(commented.incident, actor="bob", comment="look", now=at(3)).history[0].id
    )


def test_merging_moves_all_alerts() -> None:
    one, other = opened("a"), opened("b", "c")
    merged, ended = merge_incidents(one, other, actor="ann", comment="same", now=at(1))
    assert set(merged.incident.alerts) == {"a", "b", "c"}
    assert (ended.incident.state, ended.incident.merged_into) == (IncidentState.RESOLVED, one.id)
    assert ended.incident.open_alerts == []
    assert kinds(merged) == [IncidentHistoryKind.MERGED]
    assert ended.incident.version == other.version + 1


def test_an_incident_that_settles_goes_on_with_the_alerts_that_it_takes_over() -> None:
    settling = end_alert(opened("a"), "a", settle=SETTLE, now=NOW).incident
    assert merge_incidents(settling, opened("b"), actor="", comment="", now=at(1))[0].incident.settle_time is None
    both = end_alert(opened("b"), "b", settle=SETTLE, now=NOW).incident
    assert merge_incidents(settling, both, actor="", comment="", now=at(1))[0].incident.settle_time == at(5)


def test_only_two_open_incidents_are_merged() -> None:
    one, done = opened("a"), resolve_incident(opened("b"), actor="", comment="", now=NOW).incident
    for pair in [(one, one), (one, done), (done, one)]:
        changes = merge_incidents(*pair, actor="ann", comment="", now=NOW)
        assert [change.incident for change in changes] == list(pair)
        assert {change.reason for change in changes} == {IncidentReason.NOT_MERGEABLE}


def test_splitting_moves_some_alerts_into_a_new_incident() -> None:
    left, new = split_incident(opened("a", "b", "c"), {"a", "b"}, actor="ann", comment="", settle=SETTLE, now=at(1))
    assert new is not None
    assert (set(left.incident.alerts), set(new.incident.alerts)) == ({"c"}, {"a", "b"})
    assert (left.incident.cause, new.incident.cause) == ("c", "a")
    assert left.incident.settle_time is None
    assert new.incident.id != left.incident.id
    assert kinds(left) == kinds(new) == [IncidentHistoryKind.SPLIT]


def test_what_is_left_settles_when_none_of_it_is_open() -> None:
    incident = end_alert(opened("a", "b"), "a", settle=SETTLE, now=NOW).incident
    left, new = split_incident(incident, {"b"}, actor="ann", comment="", settle=SETTLE, now=at(1))
    assert new is not None
    assert left.incident.settle_time == at(6)


@pytest.mark.parametrize("chosen", [set[str](), {"a", "b"}, {"a", "unknown"}, {"b"}])
def test_both_parts_of_a_split_have_alerts_and_the_new_one_an_open_one(chosen: set[str]) -> None:
    incident = end_alert(opened("a", "b"), "b", settle=SETTLE, now=NOW).incident
    change, new = split_incident(incident, chosen, actor="ann", comment="", settle=SETTLE, now=NOW)
    assert (change.incident, change.reason, new) == (incident, IncidentReason.NOT_SPLITTABLE, None)


def test_a_resolved_incident_is_not_split() -> None:
    done = resolve_incident(opened("a", "b"), actor="", comment="", now=NOW).incident
    assert split_incident(done, {"a"}, actor="", comment="", settle=SETTLE, now=NOW)[1] is None


def test_the_cause_changes_while_alerts_join_and_the_history_says_when() -> None:
    graph = DependencyGraph([DependencyEdge(service="shop", depends_on="database")])
    change = join(opened("a"), alert("b", "database"), BY_RESOURCE, now=at(1))
    decided = with_cause(change, graph, CorrelationSettings(), now=at(1))
    assert decided.incident.cause == "b"
    entry = decided.history[-1]
    assert (entry.kind, entry.alert_id, entry.comment) == (
        IncidentHistoryKind.CAUSE_CHANGED,
        "b",
        CauseReason.DEPENDENCY.value,
    )
    assert with_cause(decided, graph, CorrelationSettings(), now=at(2)) == decided
    over = resolve_incident(decided.incident, actor="", comment="", now=at(3))
    assert with_cause(over, DependencyGraph(), CorrelationSettings(), now=at(3)) == over


def test_its_title_names_the_cause_and_counts_the_others() -> None:
    assert title_of(opened("a")) == "rule a: service=shop"
    assert title_of(opened("a", "b")) == "rule a: service=shop and 1 more alert"
    assert title_of(replace(opened("a", "b", "c"), cause="b")) == "rule b: service=shop and 2 more alerts"


def test_its_title_counts_what_is_open_and_at_the_end_all() -> None:
    incident = end_alert(opened("a", "b", "c"), "b", settle=SETTLE, now=at(1)).incident
    assert title_of(incident) == "rule a: service=shop and 1 more alert"
    for name in ("a", "c"):
        incident = end_alert(incident, name, settle=SETTLE, now=at(2)).incident
    assert title_of(incident) == "rule a: service=shop and 2 more alerts"


def test_a_summary_counts_alerts_and_names_services() -> None:
    incident = join(opened("a"), alert("b", "database"), BY_RESOURCE, now=NOW).incident
    incident = join(incident, alert("c", ""), BY_RESOURCE, now=NOW).incident
    summary = summary_of(end_alert(incident, "a", settle=SETTLE, now=NOW).incident)
    assert (summary.alert_count, summary.open_alert_count) == (3, 2)
    assert summary.services == ("database", "shop")


def test_an_edit_of_a_rule_changes_what_is_known_of_its_alert() -> None:
    incident = opened("a", "b")
    edited = replace(alert("b", severity=Severity.LOW), labels={"team": "shop"}, fire_time=at(3))
    change = update_alert(incident, edited, now=at(4))
    assert change.reason is IncidentReason.ALERT_UPDATED
    known = change.incident.alerts["b"]
    assert (known.severity, known.fire_time, known.correlation) == (Severity.LOW, NOW, BY_RESOURCE)
    assert update_alert(change.incident, edited, now=at(5)).incident is change.incident


def test_versions_tell_incidents_apart() -> None:
    incident = opened("a")
    assert incident.etag != assign(incident, "ann", actor="", comment="", now=NOW).incident.etag
