"""Who is notified of an incident, of what, and when."""

from dataclasses import replace

from services.domain.severity import Severity
from services.manager.core.alert import NotifiedState, notification_id_of
from services.manager.core.incident import (
    Correlation,
    IncidentHistoryKind,
    IncidentState,
    WithheldReason,
)
from services.manager.core.incident_changes import (
    IncidentChange,
    IncidentReason,
    acknowledge,
    adopt,
    end_alert,
    join,
    open_incident,
    resolve_incident,
    unacknowledge,
    update_alert,
    withhold,
)
from services.manager.core.incident_merges import merge_incidents, split_incident
from services.manager.core.incident_notifications import (
    FILE_ROUTE,
    plan_notifications,
)
from services.manager.core.routing_tree import AlertRoute
from tests.unit.manager.incident_story import CONTEXT, NOW, PAGER, SETTLE, SILENCED, SLACK, Story, alert, at, described


def test_the_first_alert_is_notified_of_at_once_and_its_end_too() -> None:
    story = Story(alert("a", PAGER))
    (first,) = story.notified
    assert described([first]) == ["FIRING pager+slack a: routed"]
    assert (first.sequence, first.comment, first.new_alerts, first.ended_alerts) == (1, "route root/1", 1, 0)
    (entry,) = [each for each in story.last.history if each.kind is IncidentHistoryKind.NOTIFIED]
    assert (entry.receivers, entry.notification_id, entry.notified_kind) == (first.receivers, first.id, "FIRING")
    assert story.waits_until is None
    assert story.end("a", minute=1) == ["RESOLVED pager+slack a: ended"]
    assert (story.notified[-1].sequence, story.notified[-1].ended_alerts) == (2, 1)
    assert story.plan(100) == []


def test_a_higher_severity_is_notified_of_at_once_to_all() -> None:
    story = Story(alert("a", PAGER))
    assert story.join(alert("b", SLACK, severity=Severity.HIGH)) == ["UPDATED pager+slack b: severity_raised"]
    assert story.notified[-1].comment == "severity HIGH"
    assert story.join(alert("c", severity=Severity.LOW)) == []
    # Once it was notified of, it is not raised again.
    story.end("b", minute=1)
    assert story.join(alert("d", severity=Severity.HIGH), minute=1.5) == []


def test_a_severity_that_is_edited_is_notified_of_at_once() -> None:
    story = Story(alert("a"))
    edited = replace(story.incident.alerts["a"], severity=Severity.CRITICAL)
    assert story.take(update_alert(story.incident, edited, now=NOW)) == ["UPDATED slack a: severity_raised"]


def test_receivers_that_do_not_know_the_incident_are_notified_at_once() -> None:
    story = Story(alert("a", SLACK))
    assert story.join(alert("b", PAGER, severity=Severity.LOW)) == ["FIRING pager b: routed"]
    assert story.waits_until == 1
    assert story.plan(1) == ["UPDATED slack a: bundled"]
    assert story.end("a", "b", minute=1.1) == ["RESOLVED slack+pager a: ended"]


def test_an_alert_that_joins_after_the_end_is_notified_of_at_once() -> None:
    story = Story(alert("a", PAGER))
    story.end("a")
    assert story.join(alert("b", SLACK)) == ["FIRING slack b: routed"]
    assert story.end("b") == ["RESOLVED slack a: ended"]
    assert story.incident.receivers["pager"].is_active is False


def test_an_alert_that_has_ended_before_it_was_seen_is_notified_of() -> None:
    story = Story(end_alert(open_incident(alert("a"), now=NOW).incident, "a", settle=SETTLE, now=NOW).incident)
    assert described(story.notified) == ["FIRING slack a: routed", "RESOLVED slack a: ended"]
    assert [each.sequence for each in story.notified] == [1, 2]


def test_who_knows_the_incident_is_notified_of_an_acknowledgement_once() -> None:
    story = Story(alert("a"))
    taken = acknowledge(story.incident, actor="ann", comment="", until=None, now=NOW)
    assert story.take(taken) == ["ACKNOWLEDGED slack a: acknowledged"]
    assert story.notified[-1].comment == "acknowledged by ann"
    # Who comes later learns of both.
    assert story.join(alert("b", PAGER)) == ["FIRING pager b: routed", "ACKNOWLEDGED pager a: acknowledged"]
    assert story.take(unacknowledge(story.incident, actor="ann", comment="", now=NOW)) == []
    taken = acknowledge(story.incident, actor="bob", comment="", until=None, now=NOW)
    # With other counts of what is news to them.
    assert story.take(taken) == ["ACKNOWLEDGED slack a: acknowledged", "ACKNOWLEDGED pager a: acknowledged"]
    assert story.end("a", "b") == ["RESOLVED slack+pager a: ended"]


def test_resolving_by_hand_notifies_at_once() -> None:
    story = Story(alert("a"))
    story.join(alert("b"))
    resolved = resolve_incident(story.incident, actor="ann", comment="", now=NOW)
    assert story.take(resolved) == ["RESOLVED slack a: ended"]
    assert story.notified[-1].comment == "resolved by ann"
    assert story.waits_until is None


def test_of_a_silenced_alert_nobody_is_notified_until_the_silence_ends() -> None:
    story = Story(alert("a", withheld_by=SILENCED))
    assert story.notified == []
    assert story.take(withhold(story.incident, "a", (), now=at(3)), minute=3) == ["FIRING slack a: routed"]
    assert story.take(withhold(story.incident, "a", SILENCED, now=at(4)), minute=4) == []
    # The end is notified of, although it is silenced again.
    assert story.end("a", minute=5) == ["RESOLVED slack a: ended"]


def test_of_an_alert_that_is_silenced_all_the_time_nobody_is_notified() -> None:
    story = Story(alert("a", withheld_by=SILENCED))
    assert story.end("a", minute=5) == []
    story = Story(alert("a"))
    assert story.join(alert("b", withheld_by=SILENCED, severity=Severity.CRITICAL), minute=3) == []
    assert story.end("a", minute=4) == ["RESOLVED slack a: ended"]


def test_a_silence_that_ends_is_bundled_for_who_knows_the_incident() -> None:
    story = Story(alert("a"))
    story.join(alert("b", withheld_by=SILENCED))
    assert story.take(withhold(story.incident, "b", (), now=NOW)) == []
    assert story.plan(1) == ["UPDATED slack a: bundled"]


def test_of_an_alert_that_somebody_has_taken_care_of_meanwhile_nobody_is_notified() -> None:
    story = Story(alert("a", withheld_by=SILENCED))
    story.take(acknowledge(story.incident, actor="ann", comment="", until=None, now=NOW))
    assert story.take(withhold(story.incident, "a", (), now=NOW)) == []
    (withheld,) = story.incident.alerts["a"].withheld_by
    assert (withheld.reason, withheld.by) == (WithheldReason.ACKNOWLEDGED, "ann")
    given = unacknowledge(story.incident, actor="ann", comment="", now=NOW)
    assert story.take(given) == ["FIRING slack a: routed"]


def test_messages_are_about_the_cause_unless_it_is_withheld() -> None:
    story = Story(alert("a", withheld_by=SILENCED))
    assert story.join(alert("b")) == ["FIRING slack b: routed"]
    story.join(alert("c"))
    assert story.plan(1) == ["UPDATED slack b: bundled"]
    story.take(withhold(story.incident, "a", (), now=at(1)))
    assert story.plan(2) == ["UPDATED slack a: bundled"]


def test_another_cause_is_an_update() -> None:
    story = Story(alert("a"))
    story.join(alert("b"))
    story.plan(1)
    assert story.take(IncidentChange(incident=replace(story.incident, cause="b"), reason=IncidentReason.JOINED)) == []
    assert story.plan(2) == ["UPDATED slack b: bundled"]


def test_what_is_merged_ends_and_goes_on_in_the_other_one() -> None:
    one, other = Story(alert("a")), Story(alert("b", PAGER))
    merged, ended = merge_incidents(one.incident, other.incident, actor="ann", comment="", now=NOW)
    assert other.take(ended) == ["RESOLVED pager+slack b: merged"]
    assert one.take(merged) == ["FIRING pager b: routed"]
    assert one.plan(1) == ["UPDATED slack a: bundled"]
    fresh = open_incident(alert("c"), now=NOW).incident
    _, ended = merge_incidents(one.incident, fresh, actor="", comment="", now=NOW)
    assert described(plan_notifications(ended.incident, CONTEXT, now=NOW).notifications) == []


def test_what_is_split_off_is_an_incident_of_its_own() -> None:
    story = Story(alert("a"))
    story.join(alert("b"), alert("c"))
    story.end("c")
    left, new = split_incident(story.incident, {"b", "c"}, actor="", comment="", settle=SETTLE, now=NOW)
    assert new is not None
    assert story.take(left) == []
    assert described(Story(new.incident).notified) == ["FIRING slack b: routed"]


def test_receivers_are_named_in_records_of_fifty() -> None:
    names = tuple(f"receiver {number}" for number in range(120))
    story = Story(alert("a", AlertRoute(path="root", receivers=names)))
    assert [len(each.receivers) for each in story.notified] == [50, 50, 20]
    assert [each.sequence for each in story.notified] == [1, 2, 3]
    assert len({each.id for each in story.notified}) == 3


def test_who_comes_by_several_routes_is_notified_once() -> None:
    story = Story(alert("a", SLACK, PAGER))
    assert described(story.notified) == ["FIRING slack+pager a: routed"]
    assert story.notified[0].comment == "route root/0, root/1"


def test_the_file_is_asked_about_each_severity_and_rule() -> None:
    story = Story(alert("a", FILE_ROUTE, file_route="1"))
    assert described(story.notified) == ["FIRING file a: routed"]
    assert story.notified[0].comment == "routes of the notifier's file"
    assert story.join(alert("b", FILE_ROUTE, file_route="1")) == []
    both = alert("c", FILE_ROUTE, file_route="2"), alert("d", FILE_ROUTE, file_route="3", severity=Severity.HIGH)
    assert story.join(*both) == ["UPDATED file d: routed_by_file", "UPDATED file c: routed_by_file"]
    assert story.end("a", "b", "c", "d", minute=3) == ["RESOLVED file a: ended"]
    assert story.join(alert("e", FILE_ROUTE, file_route="2"), minute=4) == ["FIRING file e: routed"]


def test_two_rules_that_fire_at_once_are_both_routed_by_the_file() -> None:
    incident = open_incident(alert("a", FILE_ROUTE, file_route="1"), now=NOW).incident
    second = alert("b", FILE_ROUTE, file_route="2")
    story = Story(join(incident, second, Correlation(), now=NOW).incident)
    assert described(story.notified) == ["FIRING file a: routed", "UPDATED file b: routed_by_file"]


def test_receivers_of_an_alert_from_before_incidents_are_notified_of_its_end_under_its_id() -> None:
    adopted = adopt(alert("a", FILE_ROUTE, file_route="1"), now=NOW).incident
    story = Story(adopted)
    assert (story.notified, story.incident.subject_id) == ([], "a")
    assert story.end("a") == ["RESOLVED file a: ended"]
    (end,) = story.notified
    assert (end.id, end.sequence) == (notification_id_of("a", NotifiedState.RESOLVED), 3)
    taken = acknowledge(adopted, actor="ann", comment="", until=None, now=NOW)
    story = Story(adopted)
    assert story.take(taken) == ["ACKNOWLEDGED file a: acknowledged"]
    known = adopt(alert("b", FILE_ROUTE), is_acknowledged=True, now=NOW).incident
    known = acknowledge(known, actor="ann", comment="", until=None, now=NOW).incident
    assert (Story(known).notified, known.state) == ([], IncidentState.ACKNOWLEDGED)
