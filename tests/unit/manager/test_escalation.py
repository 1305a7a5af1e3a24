"""Whom the steps of an escalation notify, and when, until somebody acknowledges the incident."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from services.domain.severity import Severity
from services.manager.core.escalation import Escalation, EscalationCause
from services.manager.core.escalation_policy import EscalationPolicy, EscalationStep
from services.manager.core.flapping import FlappingSettings
from services.manager.core.incident import (
    Correlation,
    IncidentAlert,
    IncidentHistoryEntry,
    IncidentHistoryKind,
    IncidentNotification,
)
from services.manager.core.incident_changes import (
    IncidentChange,
    acknowledge,
    end_alert,
    expire_acknowledgement,
    join,
    open_incident,
    unacknowledge,
)
from services.manager.core.incident_notifications import NotificationContext, plan_notifications
from services.manager.core.on_call import OnCallDirectory, Person
from services.manager.core.routing_tree import AlertRoute

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ROUTE = AlertRoute(path="root/0", receivers=("slack",), policy="p", bundling_interval=2 * MINUTE)
ANN = Person(name="ann", receivers=("ann-pager", "ann-mail"))
FIRST = EscalationStep(people=("ann",))
SECOND = EscalationStep(delay=5 * MINUTE, receivers=("chiefs", "slack"))


def at(minute: float) -> datetime:
    return NOW + minute * MINUTE


def alert(name: str, *routes: AlertRoute, minute: float = 0, severity: Severity = Severity.HIGH) -> IncidentAlert:
    return IncidentAlert(
        id=name,
        rule_name="rule",
        service="shop",
        resource="shop",
        severity=severity,
        labels={},
        fire_time=at(minute),
        routes=routes or (ROUTE,),
    )


class Story:
    """One incident and one policy."""

    def __init__(self, *steps: EscalationStep, first: IncidentAlert | None = None, **policy: object) -> None:
        found = EscalationPolicy(name="p", steps=steps or (FIRST, SECOND), **policy)  # type: ignore[arg-type]
        self.directory = OnCallDirectory(people={"ann": ANN}, policies={"p": found})
        self.flapping = FlappingSettings()
        self.sent: list[IncidentNotification] = []
        self.minute = 0.0
        self.incident = open_incident(first or alert("a"), now=NOW).incident
        self.begun = self.plan()

    def plan(self, minute: float | None = None, *exhausted: str) -> list[str]:
        self.minute = self.minute if minute is None else minute
        context = NotificationContext(flapping=self.flapping, directory=self.directory, exhausted=frozenset(exhausted))
        change = plan_notifications(self.incident, context, now=at(self.minute))
        self.history = change.history
        self.entries = [entry for entry in change.history if entry.kind is not IncidentHistoryKind.NOTIFIED]
        self.incident = change.incident
        self.sent += change.notifications
        calm = replace(context, exhausted=frozenset())
        assert plan_notifications(self.incident, calm, now=at(self.minute)).incident is self.incident
        return described(change.notifications)

    def take(self, change: IncidentChange, minute: float | None = None) -> list[str]:
        self.incident = change.incident
        return self.plan(minute)

    def acknowledge(self, minute: float, until: float | None = None) -> list[str]:
        end = None if until is None else at(until)
        return self.take(acknowledge(self.incident, actor="ann", comment="", until=end, now=at(minute)), minute)

    def end(self, name: str, minute: float) -> list[str]:
        return self.take(end_alert(self.incident, name, settle=2 * MINUTE, now=at(minute)), minute)

    @property
    def waits_until(self) -> float | None:
        return None if self.incident.notify_time is None else (self.incident.notify_time - NOW) / MINUTE

    @property
    def escalation(self) -> Escalation:
        return self.incident.escalations["p"]


def described(notifications: Iterable[IncidentNotification]) -> list[str]:
    return [f"{each.kind} {'+'.join(each.receivers)}: {each.comment}" for each in notifications]


def test_steps_follow_each_other_until_somebody_acknowledges() -> None:
    story = Story()
    assert story.begun == ["FIRING slack: route root/0", "FIRING ann-pager: step 1 of policy p; ann"]
    assert [(entry.decided_by, entry.comment) for entry in story.entries] == [
        ("policy p, step 1", "step 1 of policy p")
    ]
    assert story.waits_until == 5
    assert story.plan(5) == ["FIRING chiefs+slack: step 2 of policy p, nobody acknowledged it"]
    assert story.waits_until is None
    # Everybody is notified of the end.
    assert story.end("a", 7) == ["RESOLVED slack+ann-pager+chiefs: all alerts have ended"]
    assert story.incident.escalations == {}


def test_it_ends_with_the_last_alert_that_it_is_for() -> None:
    story = Story()
    other = alert("b", replace(ROUTE, policy=""), minute=1, severity=Severity.LOW)
    story.take(join(story.incident, other, Correlation(), now=at(1)), 1)
    story.end("a", 2)
    assert story.incident.escalations == {}
    assert "FIRING" not in " ".join(story.plan(5))


def test_an_acknowledgement_stops_it_and_everybody_is_notified() -> None:
    story = Story()
    assert story.acknowledge(1) == ["ACKNOWLEDGED slack+ann-pager: acknowledged by ann"]
    assert story.waits_until is None
    assert story.plan(60) == []
    assert story.end("a", 61) == ["RESOLVED slack+ann-pager: all alerts have ended"]


def test_an_acknowledgement_that_ends_lets_it_go_on_at_once() -> None:
    story = Story()
    story.acknowledge(1, until=3)
    expired = expire_acknowledgement(story.incident, now=at(3))
    words = "FIRING chiefs+slack: step 2 of policy p, the acknowledgement ended"
    assert story.take(expired, 3) == [words]
    again = Story()
    again.acknowledge(1)
    given = unacknowledge(again.incident, actor="ann", comment="", now=at(2))
    assert again.take(given, 2) == [words]
    again.acknowledge(3)
    # No step is left.
    assert again.take(unacknowledge(again.incident, actor="ann", comment="", now=at(4)), 4) == []


def test_what_joins_an_acknowledged_incident_waits_for_the_end_of_the_acknowledgement() -> None:
    story = Story(first=alert("a", AlertRoute(path="root", receivers=("slack",))))
    story.acknowledge(1)
    assert story.take(join(story.incident, alert("b"), Correlation(), now=at(2)), 2) == [
        "UPDATED slack: what changed since the last message"
    ]
    given = unacknowledge(story.incident, actor="ann", comment="", now=at(3))
    assert story.take(given, 3) == ["FIRING ann-pager: step 1 of policy p; ann"]


def test_people_are_notified_in_their_zones() -> None:
    story = Story(SECOND, FIRST)
    ann = replace(ANN, zone=ZoneInfo("Europe/Berlin"))
    story.directory = OnCallDirectory(people={"ann": ann}, policies=story.directory.policies)
    story.plan(5)
    story.end("a", 7)
    assert [("+".join(each.receivers), each.time_zone) for each in story.sent] == [
        ("slack", ""),
        ("chiefs+slack", ""),
        ("ann-pager", "Europe/Berlin"),
        ("slack+chiefs", ""),
        ("ann-pager", "Europe/Berlin"),
    ]


def test_rounds_repeat_with_their_delay() -> None:
    story = Story(FIRST, repeat_count=1, repeat_delay=3 * MINUTE)
    assert story.waits_until == 3
    assert story.plan(3) == ["FIRING ann-pager: step 1 of policy p, nobody acknowledged it; ann"]
    assert story.waits_until is None


def test_the_last_step_is_repeated_until_somebody_acknowledges() -> None:
    story = Story(EscalationStep(delay=MINUTE, receivers=("chiefs",), until_acknowledged=True))
    assert story.begun == ["FIRING slack: route root/0"]
    for minute in (1, 2, 3):
        assert story.waits_until == minute
        assert story.plan(minute)[0].startswith("FIRING chiefs: step 1 of policy p")
    assert story.acknowledge(3.5) == ["ACKNOWLEDGED slack+chiefs: acknowledged by ann"]


def test_of_repeats_without_end_the_history_names_ever_fewer() -> None:
    step = EscalationStep(delay=MINUTE, people=("ann",), until_acknowledged=True)
    story = Story(step)
    told = story.incident.sequence
    entries: list[IncidentHistoryEntry] = []
    for minute in range(1, 101):
        story.plan(minute)
        entries += story.history
    assert story.incident.sequence - told == 100
    named = [entry.comment for entry in entries if entry.kind is IncidentHistoryKind.ESCALATED]
    often = "step 1 of policy p, nobody acknowledged it"
    assert named == ["step 1 of policy p", often, *(f"{often}, repeat {n}" for n in (2, 3, 4, 8, 16, 32, 64))]
    assert [entry.comment for entry in entries if entry.kind is IncidentHistoryKind.NOTIFIED] == [
        f"{comment}; ann" for comment in named
    ]
    # That one of them fails is not named either, but who is notified in its place.
    (last,) = story.escalation.notifications
    assert story.plan(100.5, last.id) == ["FIRING ann-mail: policy p: ann could not be reached otherwise"]
    assert [entry.kind for entry in story.history] == [IncidentHistoryKind.NOTIFIED]


def test_an_overdue_step_begins_at_once_and_says_how_late_it_is() -> None:
    story = Story(FIRST, SECOND, replace(SECOND, receivers=("boss",)))
    assert story.plan(65) == ["FIRING chiefs+slack: step 2 of policy p, nobody acknowledged it, 1:00:00 late"]
    # People have their time to answer.
    assert story.waits_until == 70
    assert story.plan(70) == ["FIRING boss: step 3 of policy p, nobody acknowledged it"]


def test_a_step_whose_conditions_do_not_hold_is_skipped() -> None:
    step = EscalationStep(receivers=("boss",), min_severity=Severity.CRITICAL)
    story = Story(step, SECOND)
    assert story.begun == [
        "FIRING slack: route root/0",
        "FIRING chiefs: step 2 of policy p",
    ]
    assert [entry.comment for entry in story.entries] == [
        "step 1 of policy p: its conditions do not hold",
        "step 2 of policy p",
    ]
    # What never holds does not run in circles.
    story = Story(replace(step, until_acknowledged=True))
    assert story.begun == ["FIRING slack: route root/0"]
    assert (story.waits_until or 0) * 60 == 10


def test_when_nobody_is_on_call_the_fallback_receivers_are_notified() -> None:
    empty = EscalationStep(schedules=("none",))
    story = Story(empty, fallback_receivers=("duty",))
    assert story.begun[1:] == ["FIRING duty: step 1 of policy p: nobody is on call in schedule none"]
    # Without any, the next step begins at once.
    story = Story(empty, SECOND)
    assert story.begun[1:] == ["FIRING chiefs: step 2 of policy p, nobody acknowledged it"]


def test_a_policy_that_was_deleted_ends() -> None:
    story = Story()
    story.directory = OnCallDirectory()
    assert story.plan(5) == []
    assert story.escalation.due_time is None
    unknown = Story(first=alert("a", replace(ROUTE, policy="x")))
    assert unknown.begun == ["FIRING slack: route root/0"]


def test_a_person_who_was_not_reached_is_notified_otherwise_and_then_the_next_step_begins() -> None:
    story = Story()
    pager = story.sent[1].id
    assert story.plan(1, pager) == ["FIRING ann-mail: policy p: ann could not be reached otherwise"]
    assert [(entry.kind, entry.notification_id) for entry in story.entries] == [
        (IncidentHistoryKind.NOTIFICATION_FAILED, pager)
    ]
    mail = story.sent[2].id
    # One that was learned of before changes nothing.
    assert story.plan(1.5, pager) == []
    words = "step 2 of policy p, no notification of the step before was delivered"
    assert story.plan(2, mail) == [f"FIRING chiefs+slack: {words}"]
    assert story.escalation.cause is EscalationCause.NOT_ACKNOWLEDGED
    # The last one: none is left.
    assert story.plan(3, story.sent[3].id) == []


def test_a_step_of_which_a_part_was_delivered_waits() -> None:
    story = Story(EscalationStep(people=("ann",), receivers=("duty",)), SECOND)
    duty, pager = story.sent[1].id, story.sent[2].id
    assert story.plan(1, duty) == []
    assert story.plan(1.5, pager) == ["FIRING ann-mail: policy p: ann could not be reached otherwise"]
    assert story.plan(2, story.sent[3].id)[0].startswith("FIRING chiefs+slack: step 2")


def test_no_failure_makes_a_policy_run_in_circles() -> None:
    story = Story(EscalationStep(receivers=("duty",)), repeat_count=5, repeat_delay=3 * MINUTE)
    assert story.plan(1, story.sent[1].id) == []
    assert story.waits_until == 3
    deleted = Story()
    deleted.directory = replace(deleted.directory, policies={})
    deleted.plan(1, deleted.sent[1].id)
    assert deleted.plan(2, deleted.sent[2].id) == []


def test_who_is_notified_that_it_fires_anyway_is_not_notified_twice() -> None:
    story = Story(EscalationStep(receivers=("slack",)), SECOND)
    assert story.begun == ["FIRING slack: route root/0"]
    assert story.waits_until == 5


def test_people_get_the_updates_of_the_route() -> None:
    story = Story()
    assert story.take(join(story.incident, alert("b"), Correlation(), now=at(1)), 1) == []
    assert story.incident.receivers["ann-pager"].interval == 2 * MINUTE
    assert story.plan(2) == ["UPDATED slack+ann-pager: what changed since the last message"]


def test_what_flaps_does_not_escalate_from_the_beginning_each_time() -> None:
    story = Story()
    story.flapping = FlappingSettings(count=2)
    story.end("a", 0.1)
    assert story.take(join(story.incident, alert("b", minute=0.2), Correlation(), now=at(0.2)), 0.2) == [
        "FIRING slack: route root/0",
        "FIRING ann-pager: step 1 of policy p; ann",
    ]
    story.end("b", 0.3)
    assert story.waits_until == 2.2
    assert story.take(join(story.incident, alert("c", minute=0.4), Correlation(), now=at(0.4)), 0.4) == []
    assert story.escalation.due_time == at(5.2)
