"""The contract's messages to values and back."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.contract.timestamps import timestamp_of
from services.domain.fingerprint import open_key
from services.domain.severity import Severity
from services.manager.core.alert import Alert as StoredAlert
from services.manager.core.alert import AlertHistoryKind, history_id_of
from services.manager.core.alert_changes import AlertCommand, apply_command
from services.manager.core.alert_lifecycle import AlertAction, AlertState, Ended, Fired
from services.manager.core.catalog import Catalog, CatalogChanges, ServiceEntry, StoredService
from services.manager.core.incident import IncidentNotification
from services.manager.core.incident_batch import IncidentContext, IncidentSettings, OpenIncidents, SeenAlert
from services.manager.core.rule_edits import create
from services.manager.core.service_changes import RelatedChange, ServiceChange, ServiceChangeKind
from services.manager.core.transitions import TransitionContext, decide
from services.manager.messages import alerts, incidents, rules
from services.manager.worker.incidents import incident_alert_of
from services.manager.worker.results import result_entry
from services.manager.worker.transitions import transition_of
from services.rule_language.rule import Draft, RuleType, complete
from tests.fakes.transitions import NOW, a_transition
from tocsin.alerts.v1.alert_pb2 import Alert, AlertTransition, SampleEvent
from tocsin.notifications.v1.notification_pb2 import Notification, NotificationResult
from tocsin.rules.v1.alert_rule_pb2 import AlertRule


def sent(**changed: object) -> AlertTransition:
    fields: dict[str, object] = {
        "id": "t1",
        "state": "FIRING",
        "fingerprint": "f1",
        "rule_id": "r1",
        "rule_revision": 3,
        "severity": "HIGH",
        "resource": "a",
        "group": {"service": "a"},
        "labels": {"team": "x"},
        "samples": [SampleEvent(message="no")],
        "first_window_time": Timestamp(seconds=100),
        "create_time": Timestamp(seconds=200, nanos=1500),
    }
    return AlertTransition(**{**fields, **changed})  # type: ignore[arg-type]


def test_a_transition_becomes_an_alert_with_all_its_evidence() -> None:
    message = sent()
    message.window.count = 5
    context, _ = decide(TransitionContext(), [transition_of(message)], NOW)
    shown = alerts.alert_message(context.open_alerts[open_key(rule_id="r1", resource="a")])
    assert (shown.window, dict(shown.group), dict(shown.labels)) == (message.window, {"service": "a"}, {"team": "x"})
    assert list(shown.samples) == list(message.samples)
    assert (shown.state, shown.severity, shown.rule_id) == (Alert.FIRING, AlertRule.HIGH, "r1")
    assert shown.fire_time == Timestamp(seconds=200, nanos=1000)
    assert not shown.HasField("resolve_time")
    (bare,) = decide(TransitionContext(), [transition_of(sent())], NOW)[0].open_alerts.values()
    assert not alerts.alert_message(bare).HasField("window")


def test_the_two_kinds_of_observations() -> None:
    assert isinstance(transition_of(sent()).observation, Fired)
    ended = transition_of(sent(state="RESOLVED"))
    assert isinstance(ended.observation, Ended)
    assert ended.evaluation.episode == datetime(1970, 1, 1, 0, 1, 40, tzinfo=UTC)
    assert ended.evaluation.rule_revision == 3


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"id": ""}, "id is missing"),
        ({"fingerprint": "a\0"}, "fingerprint has the character NUL"),
        ({"rule_id": ""}, "rule_id is missing"),
        ({"severity": 0}, "severity is missing"),
        ({"severity": 99}, "severity is missing"),
        ({"state": 0}, "state is missing"),
        ({"first_window_time": None}, "first_window_time is missing"),
        ({"create_time": Timestamp(seconds=10**12)}, "out of range"),
    ],
)
def test_a_transition_that_lacks_a_field_names_it(changed: dict[str, object], problem: str) -> None:
    with pytest.raises(alerts.UnusableRecordError, match=problem):
        transition_of(sent(**changed))


def an_incident(*, is_over: bool = False) -> tuple[IncidentNotification, StoredAlert]:
    """Return the last notification of an incident of three alerts, one of which is silenced, and the first alert."""
    context, _ = decide(TransitionContext(), [a_transition()], NOW)
    (alert,) = context.open_alerts.values()
    shop = incident_alert_of(alert)
    database = replace(shop, id="database", service="database", resource="database", severity=Severity.CRITICAL)
    seen = [SeenAlert(alert=each, state=AlertState.FIRING) for each in (shop, database)]
    seen.append(SeenAlert(alert=replace(shop, id="other"), state=AlertState.FIRING, silenced_by=("s",)))
    incidents = OpenIncidents(IncidentSettings())
    (change,) = incidents.advance(seen, IncidentContext(graph=CATALOG.graph), NOW)
    if is_over:
        ended, _ = apply_command(alert, AlertCommand(action=AlertAction.RESOLVE, actor="ana"), now=NOW)
        assert ended is not None
        alert = ended.alert
        over = [replace(each, state=AlertState.RESOLVED) for each in seen]
        (change,) = incidents.advance(over, IncidentContext(graph=CATALOG.graph), NOW)
    return change.notifications[-1], alert


def stored_service(name: str, **entry: Any) -> StoredService:
    return StoredService(entry=ServiceEntry(name=name, **entry), revision=1, create_time=NOW, update_time=NOW)


CATALOG = Catalog.of(
    CatalogChanges(
        revision=1,
        services=(
            stored_service("payment-service", depends_on=("database",)),
            stored_service("database", links={"runbook": "http://wiki/db"}),
        ),
    )
)


def test_a_notification_shows_the_incident_without_what_is_withheld() -> None:
    notification, alert = an_incident()
    message = incidents.notification_message(notification, alert, CATALOG)
    assert (message.kind, message.alert.state) == (Notification.FIRING, Alert.FIRING)
    assert (message.subject_id, message.sequence, list(message.receivers)) == (notification.incident.id, 1, [])
    assert message.reason == "routes of the notifier's file"
    assert message.time_zone == ""
    zoned = replace(notification, time_zone="Europe/Berlin")
    assert incidents.notification_message(zoned, alert, CATALOG).time_zone == "Europe/Berlin"
    notice = message.incident
    assert [each.alert_id for each in notice.alerts] == ["database", alert.id]
    assert (notice.incident.severity, notice.incident.alert_count) == (AlertRule.CRITICAL, 3)
    assert (notice.cause.alert_id, notice.cause_reason) == ("database", "payment-service depends on database")
    assert dict(notice.links) == {"runbook": "http://wiki/db"}
    assert not notice.incident.HasField("resolve_time")
    assert not notice.changes
    unknown = incidents.notification_message(notification, alert, Catalog())
    assert (unknown.incident.cause_reason, dict(unknown.incident.links)) == ("it fired first", {})


def test_a_notification_shows_what_changed_before_its_alert_and_before_the_cause() -> None:
    notification, alert = an_incident()
    own, of_cause = (
        RelatedChange(
            change=ServiceChange(id=name, service=name, kind=ServiceChangeKind.DEPLOYMENT, time=NOW, create_time=NOW),
            distance=0,
        )
        for name in ("shop", "database")
    )
    changes = incidents.NotifiedChanges(of_alert=(own,), of_cause=(of_cause,))
    message = incidents.notification_message(notification, alert, CATALOG, changes)
    assert [each.change.service for each in message.alert.recent_changes] == ["shop"]
    assert [each.change.service for each in message.incident.changes] == ["database"]
    # Of a cause that is withheld nothing is shown.
    members = notification.incident.alerts
    silent = replace(members["database"], audible_version=0)
    hidden = replace(notification, incident=replace(notification.incident, alerts={**members, "database": silent}))
    assert not incidents.notification_message(hidden, alert, CATALOG, changes).incident.changes


def test_a_notification_of_the_end_says_who_has_resolved_the_alert() -> None:
    notification, alert = an_incident(is_over=True)
    message = incidents.notification_message(notification, alert, Catalog())
    assert (message.kind, message.alert.state, message.alert.resolved_by) == (
        Notification.RESOLVED,
        Alert.RESOLVED,
        "ana",
    )
    assert (message.incident.incident.resolved_by, message.incident.ended_alert_count) == ("ana", 2)
    assert message.incident.incident.resolve_time == timestamp_of(NOW)
    assert message.id == notification.id


def test_states_are_those_of_the_contract() -> None:
    assert alerts.alert_state_of(Alert.ACKNOWLEDGED) is AlertState.ACKNOWLEDGED
    with pytest.raises(ValueError, match="STATE_UNSPECIFIED"):
        alerts.alert_state_of(Alert.STATE_UNSPECIFIED)


def result(**changed: object) -> NotificationResult:
    fields: dict[str, object] = {
        "delivery_id": "d1",
        "alert_id": "a1",
        "kind": "FIRING",
        "channel": "slack",
        "outcome": "DELIVERED",
        "create_time": Timestamp(seconds=5),
    }
    return NotificationResult(**{**fields, **changed})  # type: ignore[arg-type]


def test_a_result_becomes_a_history_entry() -> None:
    taken = result_entry(result())
    assert (taken.kind, taken.channel, taken.comment) == (AlertHistoryKind.NOTIFIED, "slack", "FIRING")
    failed = result_entry(result(outcome="FAILED", reason="HTTP 500", fallback_for="pager"))
    assert (failed.kind, failed.comment) == (
        AlertHistoryKind.NOTIFICATION_FAILED,
        "FIRING; in place of pager; HTTP 500",
    )
    assert failed.id != taken.id == result_entry(result(attempt_count=3)).id
    assert taken.id == history_id_of("a1", AlertHistoryKind.NOTIFIED, "d1")
    assert alerts.history_message(result_entry(result(), trace_id="4b" * 16)).trace_id == "4b" * 16
    assert result_entry(result(kind=77)).comment == ""
    assert result_entry(result(kind=77)).notified_state is None


def test_an_entry_says_whom_a_notification_reached_and_about_what() -> None:
    shown = alerts.history_message(result_entry(result(kind="RESOLVED", recipient="ann@example.com")))
    assert (shown.recipient, shown.notified_state) == ("ann@example.com", Alert.RESOLVED)
    assert alerts.history_message(result_entry(result(kind=77))).notified_state == Alert.STATE_UNSPECIFIED


@pytest.mark.parametrize("changed", [{"delivery_id": ""}, {"alert_id": ""}, {"channel": ""}, {"outcome": 0}])
def test_a_result_that_lacks_a_field_names_it(changed: dict[str, object]) -> None:
    with pytest.raises(alerts.UnusableRecordError, match="missing"):
        result_entry(result(**changed))


def test_a_result_whose_time_is_out_of_range_is_refused() -> None:
    with pytest.raises(alerts.UnusableRecordError, match="create_time"):
        result_entry(result(create_time=Timestamp(seconds=-(10**12))))


def test_a_stored_rule_is_shown_with_its_etag_and_times() -> None:
    draft = Draft(name="n", type=RuleType.ERROR_RATE, threshold=0, window_minutes=5, severity=Severity.LOW)
    stored = create(complete(draft), "id", 4, now=NOW)
    shown = rules.rule_message(stored)
    assert (shown.etag, shown.create_time, shown.update_time) == (stored.etag, timestamp_of(NOW), timestamp_of(NOW))


def test_fields_that_are_present_are_those_that_were_set() -> None:
    assert rules.set_fields(AlertRule(enabled=False, name="")) == {"enabled"}
