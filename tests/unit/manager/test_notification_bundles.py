"""Of what receivers of an incident are notified in bundles, and how seldom when it flaps."""

from dataclasses import replace

from services.manager.core.alert import AlertHistoryEntry, AlertHistoryKind, NotifiedState
from services.manager.core.incident import (
    AlertBundle,
    IncidentAlert,
    IncidentHistoryKind,
)
from services.manager.core.incident_changes import (
    resolve_incident,
)
from services.manager.core.notification_entries import entries_of_delivery
from tests.unit.manager.incident_story import (
    MINUTE,
    NOW,
    PAGER,
    SLACK,
    Story,
    alert,
    at,
    described,
)


def test_further_alerts_and_ends_are_bundled_once_a_minute() -> None:
    story = Story(alert("a"))
    assert story.join(alert("b"), minute=0.2) == []
    assert story.join(alert("c"), minute=0.4) == []
    assert story.end("b", minute=0.5) == []
    assert story.waits_until == 1
    assert story.plan(1) == ["UPDATED slack a: bundled"]
    assert (story.notified[-1].new_alerts, story.notified[-1].ended_alerts) == (2, 1)
    assert story.waits_until is None
    # The end of all may follow at once.
    assert story.end("c", minute=5) == []
    assert story.waits_until == 6
    assert story.plan(5.5) == []
    assert story.plan(6) == ["UPDATED slack a: bundled"]
    assert (story.notified[-1].new_alerts, story.notified[-1].ended_alerts) == (0, 1)


def test_the_history_says_of_which_other_alerts_a_bundle_tells() -> None:
    story = Story(alert("a"))
    assert bundles(story) == [AlertBundle()]
    story.join(alert("b"), alert("c"), minute=0.2)
    story.end("b", minute=0.5)
    story.plan(1)
    assert story.notified[-1].bundle == AlertBundle(fired=("c",), ended=("b",))
    assert bundles(story) == [AlertBundle(fired=("c",), ended=("b",))]
    story.end("a", "c", minute=5)
    story.plan(6)
    assert described(story.notified[-1:]) == ["RESOLVED slack a: ended"]
    assert story.notified[-1].bundle == AlertBundle(ended=("a", "c"))


def bundles(story: Story) -> list[AlertBundle]:
    return [each.bundle for each in story.last.history if each.kind is IncidentHistoryKind.NOTIFIED]


def test_each_alert_of_which_a_delivery_tells_has_an_entry() -> None:
    about = AlertHistoryEntry(
        id="1",
        alert_id="a",
        kind=AlertHistoryKind.NOTIFIED,
        create_time=NOW,
        comment="UPDATED",
        channel="slack",
        notified_state=None,
        notification_id="n",
    )
    bundle = AlertBundle(fired=("b",), ended=("c",))
    own, fired, ended = entries_of_delivery(about, bundle)
    assert own == about
    assert (fired.alert_id, fired.notified_state, fired.comment) == ("b", NotifiedState.FIRING, "UPDATED; in a bundle")
    assert (ended.alert_id, ended.notified_state) == ("c", NotifiedState.RESOLVED)
    assert {each.notification_id for each in (fired, ended)} == {"n"}
    assert len({own.id, fired.id, ended.id}) == 3
    assert entries_of_delivery(about, bundle) == [own, fired, ended]
    failed = replace(about, kind=AlertHistoryKind.NOTIFICATION_FAILED)
    assert entries_of_delivery(failed, bundle) == [failed]


def test_alerts_that_end_in_two_parts_make_one_message() -> None:
    story = Story(alert("a"))
    assert story.join(alert("b"), minute=0.2) == []
    assert story.plan(1) == ["UPDATED slack a: bundled"]
    assert story.end("b", minute=9) == []
    assert story.end("a", minute=9.1) == ["RESOLVED slack a: ended"]
    assert story.plan(100) == []


def test_a_route_says_how_often_updates_come() -> None:
    story = Story(alert("a", replace(SLACK, bundling_interval=5 * MINUTE)))
    assert story.join(alert("b"), minute=2) == []
    assert story.waits_until == 5


def flaps(number: int, minute: float) -> IncidentAlert:
    return alert(f"f{number}", minute=minute, resource="flaps")


def test_what_flaps_is_notified_of_once_and_then_in_bundles() -> None:
    story = Story(flaps(1, 0))
    assert story.end("f1", minute=0.1) == ["RESOLVED slack f1: ended"]
    assert story.join(flaps(2, 0.2), minute=0.2) == ["FIRING slack f2: routed"]
    assert story.end("f2", minute=0.3) == ["RESOLVED slack f1: ended"]
    assert story.join(flaps(3, 0.4), minute=0.4) == ["FIRING slack f3: flapping"]
    assert story.notified[-1].is_flapping
    kinds = [entry.kind for entry in story.last.history]
    assert kinds == [IncidentHistoryKind.FLAPPING, IncidentHistoryKind.NOTIFIED]
    assert story.last.history[0].comment == "fired 3 times or more within 30 minutes"
    # From now on, once a minute.
    assert story.end("f3", minute=0.5) == []
    assert story.waits_until == 1.4
    assert story.join(flaps(4, 0.6), minute=0.6) == []
    assert story.plan(1.4) == ["UPDATED slack f1: bundled"]
    assert story.end("f4", minute=1.5) == []
    assert story.plan(2.4) == ["RESOLVED slack f1: ended"]
    assert story.join(flaps(5, 2.5), minute=2.5) == []
    assert story.waits_until == 3.4
    assert story.plan(3.4) == ["FIRING slack f5: routed"]
    assert story.end("f5", minute=3.5) == []
    assert story.plan(4.4) == ["RESOLVED slack f1: ended"]
    # One that has ended before it could be notified of.
    assert story.join(flaps(6, 4.5), minute=4.5) == []
    assert story.end("f6", minute=4.6) == []
    # It no longer flaps: the last time but two was at 0.6.
    assert story.waits_until == 30.6
    assert story.plan(30.6) == []
    assert story.incident.flapping == frozenset()
    assert story.waits_until is None
    assert story.join(flaps(7, 33), minute=33) == ["FIRING slack f7: routed"]


def test_who_knows_the_incident_is_notified_that_it_flaps() -> None:
    story = Story(alert("a"))
    story.join(flaps(1, 0), flaps(2, 0.1))
    assert story.join(flaps(3, 0.2), minute=0.2) == ["UPDATED slack a: flapping"]
    assert story.join(flaps(4, 0.3), minute=0.3) == []
    # Another alert that does not flap is no less urgent.
    assert story.join(alert("b", PAGER), minute=0.4) == ["FIRING pager b: routed"]
    # And the end by hand is the end.
    resolved = resolve_incident(story.incident, actor="ann", comment="", now=at(0.5))
    # With other counts of what is news to them.
    assert story.take(resolved, minute=0.5) == ["RESOLVED slack a: ended", "RESOLVED pager a: ended"]
    assert story.incident.flapping == frozenset()


def test_a_storm_makes_three_messages_to_each_receiver() -> None:
    story = Story(alert("a", PAGER))
    for second in range(1, 11):
        alerts = [alert(f"{second} {number}", PAGER, minute=second / 60) for number in range(100)]
        story.join(*alerts, minute=second / 60)
    story.plan(1)
    story.plan(2)
    assert len(story.incident.alerts) == 1001
    story.end(*story.incident.alerts, minute=2.5)
    assert [(each.kind.value, each.receivers) for each in story.notified] == [
        ("FIRING", ("pager", "slack")),
        ("UPDATED", ("pager", "slack")),
        ("RESOLVED", ("pager", "slack")),
    ]
    assert story.notified[1].new_alerts == 1000
