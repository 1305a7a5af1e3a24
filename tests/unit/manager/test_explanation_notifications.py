"""Explanations: who was notified of what, who was not, and why."""

from dataclasses import replace
from datetime import timedelta

import pytest

from services.manager.core.alert import AlertHistoryEntry, AlertHistoryKind, NotifiedState
from services.manager.core.explanation import (
    ExplainedAlert,
    ExplainedIncident,
    ExplanationRecord,
    Reference,
    ReferenceKind,
    StepKind,
)
from services.manager.core.explanation_steps import explain_alert, explain_incident, inhibiting_ids_of, silence_ids_of
from services.manager.core.incident import (
    IncidentHistoryKind,
    WithheldReason,
)
from services.manager.core.incident import IncidentNotificationKind as Notified
from tests.fakes.transitions import NOW
from tests.unit.manager.explained import (
    MINUTE,
    SHOP,
    an_alert,
    an_incident,
    entry,
    incident_entry,
    incident_steps,
    member,
)


@pytest.mark.parametrize(
    ("fields", "kind", "text", "decided_by"),
    [
        (
            {
                "notified_kind": Notified.FIRING,
                "receivers": ("a", "b"),
                "comment": "route root/1",
                "decided_by": "routed",
            },
            StepKind.NOTIFIED,
            f"To be notified that {SHOP} fires: a, b.",
            "route root/1",
        ),
        (
            {"notified_kind": Notified.UPDATED, "comment": "what changed", "decided_by": "bundled"},
            StepKind.NOTIFIED,
            f"To be notified of what is new about {SHOP}: the channels of the notifier's file (what changed).",
            "the bundling interval of their route",
        ),
        ({}, StepKind.NOTIFIED, f"To be notified of {SHOP}: the channels of the notifier's file.", ""),
        (
            {"kind": IncidentHistoryKind.WITHHELD, "comment": "silenced", "decided_by": "gone"},
            StepKind.WITHHELD,
            f"Notifications of {SHOP} are withheld: a silence that is not stored any more holds of it.",
            "silence gone",
        ),
        (
            {"kind": IncidentHistoryKind.WITHHELD, "comment": "inhibited by rule; rule 0", "decided_by": "other"},
            StepKind.WITHHELD,
            f"Notifications of {SHOP} are withheld: alert other inhibits it (rule 0).",
            "alert other",
        ),
        (
            {"kind": IncidentHistoryKind.WITHHELD, "comment": "inhibited by dependency", "decided_by": "other"},
            StepKind.WITHHELD,
            f"Notifications of {SHOP} are withheld: alert other inhibits it.",
            "alert other",
        ),
        (
            {"kind": IncidentHistoryKind.WITHHELD, "comment": "acknowledged", "decided_by": "ann"},
            StepKind.WITHHELD,
            f"Notifications of {SHOP} are withheld: ann had acknowledged the incident, of which nobody knows.",
            "ann",
        ),
        (
            {"kind": IncidentHistoryKind.WITHHELD, "comment": "nothing withholds it any more"},
            StepKind.INCIDENT_CHANGED,
            f"Notifications of {SHOP}: nothing withholds it any more.",
            "",
        ),
        (
            {"kind": IncidentHistoryKind.FLAPPING, "comment": "fired 4 times or more within 30 minutes"},
            StepKind.FLAPPING,
            f"{SHOP} flaps: it fired 4 times or more within 30 minutes. Receivers are notified in bundles.",
            "the settings of flapping",
        ),
        (
            {"kind": IncidentHistoryKind.ESCALATED, "comment": "nobody acknowledged", "decided_by": "policy p, step 2"},
            StepKind.ESCALATED,
            "Escalation: nobody acknowledged.",
            "policy p, step 2",
        ),
        (
            {"kind": IncidentHistoryKind.NOTIFICATION_FAILED, "comment": "a notification has reached nobody"},
            StepKind.DELIVERY_FAILED,
            "A notification has reached nobody.",
            "",
        ),
    ],
)
def test_notifications_in_words(fields: dict[str, object], kind: StepKind, text: str, decided_by: str) -> None:
    found = {"kind": IncidentHistoryKind.NOTIFIED, "alert_id": an_alert().id} | fields
    assert incident_steps(incident_entry(**found)) == [(kind, text, decided_by)]  # type: ignore[arg-type]


def test_an_alert_that_inhibits_is_named_also_of_another_incident() -> None:
    database = an_alert("database")
    comment = "inhibited by dependency; shop → database"
    history = [
        incident_entry(IncidentHistoryKind.WITHHELD, decided_by=database.id, comment=comment, alert_id=an_alert().id),
        incident_entry(IncidentHistoryKind.WITHHELD, after=1, decided_by="s", comment="silenced"),
        incident_entry(IncidentHistoryKind.COMMENTED, after=2, comment="inhibited by rule"),
    ]
    assert inhibiting_ids_of(history) == [database.id]
    explained = ExplainedIncident(incident=an_incident(), history=history)
    steps = explain_incident(ExplanationRecord(incidents=[explained], inhibiting=[database])).steps
    assert f'{SHOP} are withheld: "High error count" on database inhibits it (shop → database).' in steps[0].text


def test_a_notification_and_the_other_incident_are_referred_to() -> None:
    kinds = IncidentHistoryKind
    history = [
        incident_entry(kinds.NOTIFIED, notification_id="n"),
        incident_entry(kinds.MERGED, after=1, actor="ann", decided_by="other"),
        incident_entry(kinds.RESOLVED, after=2, actor="ann", decided_by="other"),
    ]
    explained = ExplainedIncident(incident=an_incident(), history=history)
    steps = explain_incident(ExplanationRecord(incidents=[explained])).steps
    assert [step.references[1:] for step in steps] == [
        (Reference(ReferenceKind.NOTIFICATION, "n"),),
        (Reference(ReferenceKind.INCIDENT, "other"),),
        (Reference(ReferenceKind.INCIDENT, "other"),),
    ]
    assert steps[2].text == "ann merged the incident into another one."
    assert steps[0].text.startswith("To be notified of the incident")


def test_a_silence_that_the_incident_has_taken_note_of_is_one_step() -> None:
    withheld = {"comment": "silenced", "alert_id": an_alert().id}
    history = [
        incident_entry(IncidentHistoryKind.WITHHELD, after=1, decided_by="s", **withheld),
        incident_entry(IncidentHistoryKind.NOTIFIED, after=2, alert_id="other", notified_kind=Notified.UPDATED),
        incident_entry(IncidentHistoryKind.NOTIFIED, after=-1, alert_id="other", notified_kind=Notified.FIRING),
    ]
    own = [entry(AlertHistoryKind.SILENCED, comment="by s"), entry(AlertHistoryKind.SILENCED, comment="by t")]
    record = ExplanationRecord(
        alerts=[ExplainedAlert(alert=an_alert(), history=own)],
        incidents=[ExplainedIncident(incident=an_incident(), history=history)],
    )
    steps = explain_alert(record).steps
    assert [(step.kind, step.decided_by) for step in steps] == [
        (StepKind.WITHHELD, "silence t"),
        (StepKind.WITHHELD, "silence s"),
    ]
    assert silence_ids_of(own, history) == ["s", "t"]


def test_an_alert_has_what_concerns_it_of_its_incident() -> None:
    other = an_alert("search")
    kinds = IncidentHistoryKind
    history = [
        incident_entry(kinds.OPENED, alert_id=an_alert().id),
        incident_entry(kinds.JOINED, alert_id=other.id),
        incident_entry(kinds.ALERT_RESOLVED, alert_id=an_alert().id),
        incident_entry(kinds.ACKNOWLEDGED, after=1, actor="ann"),
    ]
    delivery = {"kind": AlertHistoryKind.NOTIFIED, "channel": "slack"}
    deliveries = [
        AlertHistoryEntry(id="before", alert_id=other.id, create_time=NOW - MINUTE, **delivery),  # type: ignore[arg-type]
        AlertHistoryEntry(id="after", alert_id=other.id, create_time=NOW + MINUTE, **delivery),  # type: ignore[arg-type]
        AlertHistoryEntry(id="own", alert_id=an_alert().id, create_time=NOW - MINUTE, **delivery),  # type: ignore[arg-type]
    ]
    incident = replace(an_incident(), alerts={each.id: member(each) for each in (an_alert(), other)})
    record = ExplanationRecord(
        alerts=[ExplainedAlert(alert=an_alert())],
        incidents=[ExplainedIncident(incident=incident, history=history)],
        deliveries=deliveries,
    )
    explanation = explain_alert(record)
    assert [step.kind for step in explanation.steps] == [
        StepKind.DELIVERED,
        StepKind.CORRELATED,
        StepKind.ACKNOWLEDGED,
        StepKind.DELIVERED,
    ]
    assert '"High error count" on search' in explanation.steps[3].text


def test_a_delivery_that_told_of_several_alerts_is_one_step() -> None:
    own, other = an_alert(), an_alert("search")
    deliveries = [
        AlertHistoryEntry(
            id=f"{alert.id} {channel}",
            alert_id=alert.id,
            create_time=NOW + MINUTE,
            kind=AlertHistoryKind.NOTIFIED,
            channel=channel,
            comment=comment,
            notified_state=NotifiedState.FIRING,
            notification_id="n",
        )
        for channel in ("slack", "mail")
        for alert, comment in ((other, "UPDATED"), (own, "UPDATED; in a bundle"))
    ]
    incident = replace(an_incident(), alerts={each.id: member(each) for each in (own, other)})
    record = ExplanationRecord(
        alerts=[ExplainedAlert(alert=own)], incidents=[ExplainedIncident(incident=incident)], deliveries=deliveries
    )
    of_alert = [step.text for step in explain_alert(record).steps if step.kind is StepKind.DELIVERED]
    name = '"High error count" on'
    assert of_alert == [
        f"{channel} took the notification: {name} {own.subject.resource} fires (in a bundle)."
        for channel in ("slack", "mail")
    ]
    of_incident = [step.text for step in explain_incident(record).steps if step.kind is StepKind.DELIVERED]
    assert of_incident == [f"{channel} took the notification: {name} search fires." for channel in ("slack", "mail")]


def test_who_was_notified_of_others_while_an_alert_was_withheld_is_left_out() -> None:
    other = an_alert("search")
    kinds = IncidentHistoryKind
    own = an_alert().id
    reason = WithheldReason.INHIBITED_BY_RULE.words
    history = [
        incident_entry(kinds.ESCALATED, after=-9, comment="step 1 of policy shop"),
        incident_entry(kinds.RESOLVED, after=-8, actor="ann"),
        incident_entry(kinds.WITHHELD, comment=reason, decided_by=other.id, alert_id=own),
        incident_entry(kinds.NOTIFIED, alert_id=other.id, receivers=("slack",), comment="route root"),
        incident_entry(kinds.ESCALATED, after=2, comment="step 2 of policy shop"),
        incident_entry(kinds.ACKNOWLEDGED, after=3, actor="ann"),
        incident_entry(kinds.WITHHELD, after=6, comment="nothing withholds it any more", alert_id=own),
        incident_entry(kinds.NOTIFIED, after=6, receivers=("pager",), comment="route root", alert_id=own),
    ]
    delivery = {"kind": AlertHistoryKind.NOTIFIED, "alert_id": other.id}
    deliveries = [
        AlertHistoryEntry(id="1", channel="slack", create_time=NOW + timedelta(minutes=1), **delivery),  # type: ignore[arg-type]
        AlertHistoryEntry(id="2", channel="pager", create_time=NOW + timedelta(minutes=7), **delivery),  # type: ignore[arg-type]
    ]
    incident = replace(an_incident(), alerts={each.id: member(each) for each in (an_alert(), other)})
    explanation = explain_alert(
        ExplanationRecord(
            alerts=[ExplainedAlert(alert=an_alert())],
            incidents=[ExplainedIncident(incident=incident, history=history)],
            deliveries=deliveries,
        )
    )
    found = [step.kind for step in explanation.steps]
    assert found == [
        StepKind.WITHHELD,
        StepKind.ACKNOWLEDGED,
        StepKind.INCIDENT_CHANGED,
        StepKind.NOTIFIED,
        StepKind.DELIVERED,
    ]
    assert explanation.summary == "Notified: pager."
