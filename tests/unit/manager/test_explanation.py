"""Explanations: each entry in words, in order, with what decided; and the service on a store in memory."""

from dataclasses import replace
from datetime import timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.domain.matchers import parse_matchers
from services.domain.severity import Severity
from services.manager.core.alert import Alert, AlertHistoryEntry, AlertHistoryKind, NotifiedState
from services.manager.core.alert_changes import open_alert
from services.manager.core.alert_lifecycle import AlertState, AlertStatus
from services.manager.core.explanation import (
    MAX_EXPLANATION_STEPS,
    ExplainedAlert,
    ExplainedIncident,
    ExplainedWindow,
    ExplanationRecord,
    ExplanationStep,
    Reference,
    ReferenceKind,
    RuleRevision,
    StepKind,
    explanation_of,
)
from services.manager.core.explanation_steps import explain_alert, explain_incident, inhibiting_ids_of, silence_ids_of
from services.manager.core.incident import (
    Correlation,
    CorrelationReason,
    Incident,
    IncidentAlert,
    IncidentHistoryEntry,
    IncidentHistoryKind,
    WithheldReason,
)
from services.manager.core.incident import IncidentNotificationKind as Notified
from services.manager.core.incident_changes import open_incident
from services.manager.core.rule import StoredRule
from services.manager.core.silence import Silence
from services.manager.rpc.explanations import ExplanationRpc
from services.manager.rpc.failures import AlertNotFound, IncidentNotFound
from services.rule_language.label_regex import compile_regex
from services.rule_language.rule import Draft, RuleType, complete
from tests.fakes.explanations import MemoryExplanationReader
from tests.fakes.incidents import MemoryIncidentReader
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import MemoryAlertReader, MemorySilenceReader
from tests.fakes.transitions import NOW, a_subject, a_transition
from tocsin.alerts.v1 import alert_pb2
from tocsin.explanations.v1 import explanation_service_pb2 as pb
from tocsin.explanations.v1.explanation_pb2 import ExplanationStep as StepMessage

MINUTE = timedelta(minutes=1)
SHOP = '"High error count" on shop'
RULE_TEXT = (
    '"High error count" fires when count > threshold of events where (service == "shop") and (level >= ERROR) '
    "in a window of 5m, for each service, host; the threshold is 100."
)
WINDOW_TEXT = f"{SHOP}: count 120, total 400 in the window from 2026-01-01 12:55:00 to 13:00:00 UTC."
TRACE = "0af7651916cd43dd8448eb211c80319c"


def an_alert(resource: str = "shop") -> Alert:
    transition = a_transition(subject=a_subject(resource), revision=17)
    status = AlertStatus(state=AlertState.FIRING, last_firing=transition.evaluation)
    return replace(open_alert(transition.subject, "t", status, now=NOW).alert, fire_time=NOW)


def entry(kind: AlertHistoryKind, *, after: int = 0, **fields: object) -> AlertHistoryEntry:
    return AlertHistoryEntry(
        id=f"{kind} {after}",
        alert_id=an_alert().id,
        kind=kind,
        create_time=NOW + after * MINUTE,
        **fields,  # type: ignore[arg-type]
    )


def member(alert: Alert) -> IncidentAlert:
    return IncidentAlert(
        id=alert.id,
        rule_name=alert.subject.rule_name,
        service=alert.service,
        resource=alert.subject.resource,
        severity=Severity.HIGH,
        labels={},
        fire_time=alert.fire_time,
    )


def an_incident() -> Incident:
    return open_incident(member(an_alert()), now=NOW).incident


def incident_entry(kind: IncidentHistoryKind, *, after: int = 0, **fields: object) -> IncidentHistoryEntry:
    return IncidentHistoryEntry(
        id=f"{kind} {after}",
        incident_id=an_incident().id,
        kind=kind,
        create_time=NOW + after * MINUTE,
        **fields,  # type: ignore[arg-type]
    )


def steps_of(*history: AlertHistoryEntry, **fields: object) -> list[ExplanationStep]:
    explained = ExplainedAlert(alert=an_alert(), history=history, revisions=(17,))
    record = ExplanationRecord(alerts=[explained], **fields)  # type: ignore[arg-type]
    return [step for step in explain_alert(record).steps if step.kind is not StepKind.RULE]


def incident_steps(*history: IncidentHistoryEntry) -> list[tuple[StepKind, str, str]]:
    explained = ExplainedIncident(incident=an_incident(), history=history)
    steps = explain_incident(ExplanationRecord(incidents=[explained])).steps
    return [(step.kind, step.text, step.decided_by) for step in steps]


A_RULE = RuleRevision(
    rule_id="rule-1",
    revision=17,
    edit_time=NOW - 60 * MINUTE,
    name="High error count",
    scope='service == "shop"',
    filter="level >= ERROR",
    condition="count > threshold",
    threshold=100,
    window=5 * MINUTE,
    group_by=("service", "host"),
)


def test_the_rule_and_the_window_come_before_the_firing() -> None:
    window = ExplainedWindow(
        start=NOW - 5 * MINUTE,
        end=NOW,
        condition="count > threshold && rate > 0.5",
        threshold=100,
        numbers={"count": 120, "total": 400, "sum": 1},
    )
    explained = ExplainedAlert(
        alert=an_alert(), history=[entry(AlertHistoryKind.FIRED)], revisions=(17, 18), rules={17: A_RULE}, window=window
    )
    steps = explain_alert(ExplanationRecord(alerts=[explained])).steps
    assert [(step.kind, step.text, step.decided_by) for step in steps] == [
        (
            StepKind.RULE,
            f"Revision 17 of the rule: {RULE_TEXT}",
            "",
        ),
        (StepKind.RULE, "Revision 18 of the rule: Its text is not stored any more.", ""),
        (
            StepKind.EVALUATED,
            f"{WINDOW_TEXT} The condition count > threshold && rate > 0.5 held, with the threshold 100.",
            "revision 17 of the rule",
        ),
        (StepKind.FIRED, f"{SHOP} fired.", "revision 17 of the rule"),
    ]
    assert steps[2].references == (
        Reference(ReferenceKind.RULE, "rule-1"),
        Reference(ReferenceKind.ALERT, an_alert().id),
    )


def test_a_rule_without_filter_and_groups_and_an_alert_without_revision() -> None:
    rule = replace(A_RULE, scope="", filter="", group_by=(), window=timedelta(seconds=90), condition="avg > threshold")
    window = ExplainedWindow(start=NOW, end=NOW, condition="avg > 1", threshold=1, numbers={"count": 2, "avg": 1.5})
    explained = ExplainedAlert(alert=an_alert(), revisions=(17,), rules={17: rule}, window=window)
    texts = [step.text for step in explain_alert(ExplanationRecord(alerts=[explained])).steps]
    assert "fires when avg > threshold of all events in a window of 90s; the threshold is 100." in texts[0]
    assert "count 2, avg 1.5 in" in texts[1]
    of_another = {17: replace(rule, rule_id="other")}
    explained = ExplainedAlert(alert=an_alert(), revisions=(17,), rules=of_another)
    assert "not stored" in explain_alert(ExplanationRecord(alerts=[explained])).steps[0].text
    without = ExplainedAlert(alert=an_alert(), history=[entry(AlertHistoryKind.FIRED)])
    assert explain_alert(ExplanationRecord(alerts=[without])).steps[0].decided_by == "the rule"


def test_repetitions_are_one_step() -> None:
    again = [entry(AlertHistoryKind.REPEATED, after=n) for n in range(1, 4)]
    steps = steps_of(entry(AlertHistoryKind.FIRED), *again, entry(AlertHistoryKind.RESOLVED, after=4))
    assert [step.text for step in steps[1:]] == [
        f"{SHOP} fired again while it was open, 3 times, until 2026-01-01 13:03:00 UTC. Nobody is notified of that.",
        f"{SHOP} ended: the condition no longer held.",
    ]
    assert "while it was open, once." in steps_of(again[0])[0].text


@pytest.mark.parametrize(
    ("found", "kind", "text", "decided_by"),
    [
        (
            entry(AlertHistoryKind.SUPERSEDED, comment="by other"),
            StepKind.RESOLVED,
            f"Another alert took the place of {SHOP}: the rule's severity was raised.",
            "a newer revision of the rule",
        ),
        (
            entry(AlertHistoryKind.UPDATED, comment="severity HIGH to LOW"),
            StepKind.FIRED,
            f"{SHOP} took over what was edited in its rule: severity HIGH to LOW.",
            "a newer revision of the rule",
        ),
        (
            entry(AlertHistoryKind.ACKNOWLEDGED, actor="ann", comment="on it"),
            StepKind.ACKNOWLEDGED,
            f"ann acknowledged {SHOP}: on it.",
            "ann",
        ),
        (
            entry(AlertHistoryKind.RESOLVED, actor="ann"),
            StepKind.RESOLVED,
            f"ann resolved {SHOP}.",
            "ann",
        ),
        (
            entry(AlertHistoryKind.RESOLVED, comment="the rule was disabled"),
            StepKind.RESOLVED,
            f"{SHOP} ended: the rule was disabled.",
            "",
        ),
        (
            entry(AlertHistoryKind.SILENCED, comment="by gone"),
            StepKind.WITHHELD,
            f"Notifications of {SHOP} are withheld: a silence that is not stored any more holds of it.",
            "silence gone",
        ),
        (
            entry(AlertHistoryKind.NOTIFICATION_HELD, channel="slack", comment="FIRING; held: the limit"),
            StepKind.WITHHELD,
            f"A notification of {SHOP} to slack waits for a bundle: FIRING; held: the limit.",
            "the limit of notifications",
        ),
    ],
)
def test_entries_of_an_alert_in_words(found: AlertHistoryEntry, kind: StepKind, text: str, decided_by: str) -> None:
    (step,) = steps_of(found)
    assert (step.kind, step.text, step.decided_by) == (kind, text, decided_by)


def test_a_silence_says_whose_it_is_and_why() -> None:
    silence = Silence(
        id="s",
        author="ann",
        comment="release",
        create_time=NOW,
        start_time=NOW,
        matchers=tuple(parse_matchers('service="shop"', compile_regex)),
    )
    by_matchers = entry(AlertHistoryKind.SILENCED, comment="by s", trace_id=TRACE)
    (step,) = steps_of(by_matchers, silences={"s": silence})
    assert 'a silence {service="shop"} by ann ("release") holds of it.' in step.text
    assert step.references[1:] == (Reference(ReferenceKind.SILENCE, "s"), Reference(ReferenceKind.TRACE, TRACE))
    (named,) = steps_of(by_matchers, silences={"s": replace(silence, matchers=(), alert_ids=("a",))})
    assert 'a silence by ann ("release")' in named.text
    assert silence_ids_of([by_matchers, entry(AlertHistoryKind.FIRED), by_matchers]) == ["s"]


@pytest.mark.parametrize(
    ("found", "kind", "text", "decided_by"),
    [
        (
            entry(
                AlertHistoryKind.NOTIFIED,
                channel="slack",
                recipient="https://hooks.example",
                comment="FIRING",
                notified_state=NotifiedState.FIRING,
            ),
            StepKind.DELIVERED,
            f"slack (https://hooks.example) took the notification: {SHOP} fires.",
            "",
        ),
        (
            entry(AlertHistoryKind.NOTIFIED, channel="mail", comment="UPDATED; in place of slack", trace_id=TRACE),
            StepKind.DELIVERED,
            f"mail took the notification: {SHOP} changed (in place of slack).",
            "",
        ),
        (
            entry(
                AlertHistoryKind.NOTIFICATION_FAILED,
                channel="slack",
                comment="RESOLVED; the channel's breaker is open",
                notified_state=NotifiedState.RESOLVED,
            ),
            StepKind.DELIVERY_FAILED,
            f"slack did not take the notification: {SHOP} has ended (the channel's breaker is open).",
            "the circuit breaker of slack",
        ),
        (
            entry(
                AlertHistoryKind.NOTIFICATION_FAILED,
                channel="slack",
                comment="answered 500",
                notified_state=NotifiedState.ACKNOWLEDGED,
            ),
            StepKind.DELIVERY_FAILED,
            f"slack did not take the notification: {SHOP} was acknowledged (answered 500).",
            "",
        ),
    ],
)
def test_deliveries_in_words(found: AlertHistoryEntry, kind: StepKind, text: str, decided_by: str) -> None:
    (step,) = steps_of(found, deliveries=[found])
    assert (step.kind, step.text, step.decided_by, step.channel) == (kind, text, decided_by, found.channel)


@pytest.mark.parametrize(
    ("correlation", "words"),
    [
        (Correlation(reason=CorrelationReason.SAME_RESOURCE), "an alert of the same resource"),
        (Correlation(reason=CorrelationReason.DEPENDENCY, path=("shop", "db")), "the dependency shop → db"),
        (Correlation(reason=CorrelationReason.DEPENDENCY, path=("shop",)), "an alert of the same service"),
        (Correlation(reason=CorrelationReason.LABELS, labels={"team": "a"}), 'the equal labels team="a"'),
        (Correlation(), "somebody put it there"),
    ],
)
def test_an_alert_joins_for_a_reason(correlation: Correlation, words: str) -> None:
    joined = incident_entry(IncidentHistoryKind.JOINED, alert_id=an_alert().id, correlation=correlation)
    assert incident_steps(joined) == [(StepKind.CORRELATED, f"{SHOP} joined an incident: {words}.", words)]


def test_entries_of_an_incident_in_words() -> None:
    kinds = IncidentHistoryKind
    about = {"alert_id": an_alert().id}
    history = [
        incident_entry(kinds.OPENED, after=0, **about),
        incident_entry(kinds.CAUSE_CHANGED, after=1, alert_id="unknown", comment="DEPENDENCY"),
        incident_entry(kinds.CAUSE_CHANGED, after=2, **about, comment="NEW_REASON"),
        incident_entry(kinds.ACKNOWLEDGED, after=3, actor="ann", comment="on it"),
        incident_entry(kinds.ACKNOWLEDGEMENT_EXPIRED, after=4),
        incident_entry(kinds.ASSIGNED, after=5, actor="ann"),
        incident_entry(kinds.ALERT_RESOLVED, after=6, **about),
        incident_entry(kinds.RESOLVED, after=7),
        incident_entry(kinds.REOPENED, after=8, **about),
        incident_entry(kinds.RESOLVED, after=9, actor="ann", comment="done"),
    ]
    assert incident_steps(*history) == [
        (StepKind.CORRELATED, f"{SHOP} opened an incident: no open one is related to it.", "no relation"),
        (
            StepKind.CAUSE_CHANGED,
            "alert unknown is the probable cause: services of other alerts depend on its service.",
            "services of other alerts depend on its service",
        ),
        (StepKind.CAUSE_CHANGED, f"{SHOP} is the probable cause: NEW_REASON.", "NEW_REASON"),
        (StepKind.ACKNOWLEDGED, "ann acknowledged the incident: on it.", "ann"),
        (StepKind.ACKNOWLEDGED, "The acknowledgement ended.", ""),
        (StepKind.INCIDENT_CHANGED, "ann assigned the incident.", "ann"),
        (StepKind.RESOLVED, f"{SHOP} ended.", ""),
        (StepKind.RESOLVED, "The incident was resolved: its alerts had ended, and no other one joined.", ""),
        (StepKind.INCIDENT_CHANGED, f"The incident is open again: {SHOP} is related to it.", ""),
        (StepKind.RESOLVED, "ann resolved the incident: done.", "ann"),
    ]


@pytest.mark.parametrize("kind", list(IncidentHistoryKind))
def test_each_kind_of_entry_has_words(kind: IncidentHistoryKind) -> None:
    assert len(incident_steps(incident_entry(kind, actor="ann", alert_id="a"))) == 1


@pytest.mark.parametrize("kind", list(AlertHistoryKind))
def test_each_kind_of_entry_of_an_alert_has_words(kind: AlertHistoryKind) -> None:
    found = entry(kind, channel="slack", comment="by x")
    assert len(steps_of(found, deliveries=[found] if kind in ("NOTIFIED", "NOTIFICATION_FAILED") else [])) == 1


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


def a_step(kind: StepKind, *, after: int = 0, text: str = "why.", channel: str = "") -> ExplanationStep:
    return ExplanationStep(time=NOW + after * MINUTE, kind=kind, text=text, channel=channel)


@pytest.mark.parametrize(
    ("steps", "summary"),
    [
        ([], "Nobody has been notified: no notification is recorded."),
        ([a_step(StepKind.WITHHELD)], "Nobody was notified. why."),
        (
            [a_step(StepKind.WITHHELD), a_step(StepKind.NOTIFIED, after=1, text="who.")],
            "Nobody has been notified yet: no delivery is recorded. who.",
        ),
        (
            [
                a_step(StepKind.DELIVERED, channel="slack"),
                a_step(StepKind.DELIVERY_FAILED, channel="slack"),
                a_step(StepKind.DELIVERED, channel="mail", after=1),
                a_step(StepKind.DELIVERED, channel="slack", after=2),
                a_step(StepKind.DELIVERY_FAILED, channel="pagerduty"),
            ],
            "Notified: slack, mail. Not delivered: pagerduty.",
        ),
        ([a_step(StepKind.DELIVERY_FAILED, channel="pagerduty")], "Not delivered: pagerduty."),
    ],
)
def test_the_summary_says_who_was_notified_or_why_nobody(steps: list[ExplanationStep], summary: str) -> None:
    assert explanation_of(steps).summary == summary


def test_steps_are_in_order_each_once_and_bounded() -> None:
    steps = [a_step(StepKind.FIRED, after=n % 3000) for n in range(6000)]
    steps += [a_step(StepKind.NOTIFIED, after=3000), a_step(StepKind.RULE, after=3000)]
    found = explanation_of(steps).steps
    assert len(found) == MAX_EXPLANATION_STEPS
    assert [step.kind for step in found[-2:]] == [StepKind.RULE, StepKind.NOTIFIED]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def explanations(store: MemoryStore) -> ExplanationRpc:
    readers = MemoryAlertReader(store), MemoryIncidentReader(store), MemorySilenceReader(store)
    return ExplanationRpc(*readers, MemoryExplanationReader(store))


def put(store: MemoryStore, *, evidence: bytes = b"") -> tuple[str, str]:
    """Store an alert with its rule, a silence and an incident; return the ids of alert and incident."""
    alert = replace(an_alert(), subject=replace(a_subject("shop"), evidence=evidence))
    store.tables.alerts[alert.id] = alert
    draft = Draft(
        id="rule-1",
        name="High error count",
        type=RuleType.ERROR_THRESHOLD,
        threshold=100,
        window=5 * MINUTE,
        severity=Severity.HIGH,
        revision=17,
    )
    rule = StoredRule(rule=complete(draft, is_stored=True), create_time=NOW - MINUTE, update_time=NOW - MINUTE)
    store.tables.rule_revisions[17] = rule
    silence = Silence(id="s", author="ann", comment="release", create_time=NOW, start_time=NOW, alert_ids=("a",))
    store.tables.silences["s"] = silence, 1
    for found in (
        entry(AlertHistoryKind.FIRED),
        entry(AlertHistoryKind.SILENCED, comment="by s"),
        entry(AlertHistoryKind.SILENCED, after=1, comment="by gone"),
    ):
        store.tables.history[found.id] = found
    incident = an_incident()
    store.tables.incidents.incidents[incident.id] = incident, 1
    opened = incident_entry(IncidentHistoryKind.OPENED, alert_id=alert.id)
    store.tables.incidents.history[opened.id] = opened
    return alert.id, incident.id


async def test_an_alert_and_an_incident_are_explained(store: MemoryStore, explanations: ExplanationRpc) -> None:
    evidence = alert_pb2.Alert()
    evidence.window.start_time.FromDatetime(NOW)
    evidence.window.end_time.FromDatetime(NOW + MINUTE)
    evidence.window.condition = "count > threshold"
    evidence.window.count = 120
    alert_id, incident_id = put(store, evidence=evidence.SerializeToString())
    explained = (await explanations.ExplainAlert(pb.ExplainAlertRequest(id=alert_id), None)).explanation
    kinds = StepMessage.Kind
    assert [kinds.Name(step.kind) for step in explained.steps] == [
        "RULE",
        "EVALUATED",
        "FIRED",
        "CORRELATED",
        "WITHHELD",
        "WITHHELD",
    ]
    assert 'a silence by ann ("release")' in explained.steps[4].text
    assert explained.summary.startswith("Nobody was notified. Notifications of")
    assert "count 120 in" in explained.steps[1].text
    whole = (await explanations.ExplainIncident(pb.ExplainIncidentRequest(id=incident_id), None)).explanation
    assert [kinds.Name(step.kind) for step in whole.steps] == ["RULE", "EVALUATED", "CORRELATED"]


async def test_what_is_about_an_alert_is_found_in_a_history_of_very_many(
    store: MemoryStore, explanations: ExplanationRpc
) -> None:
    alert_id, incident_id = put(store)
    for n in range(1000):
        joined = incident_entry(IncidentHistoryKind.JOINED, after=n, alert_id=f"other {n}")
        store.tables.incidents.history[joined.id] = replace(joined, incident_id=incident_id)
    explained = (await explanations.ExplainAlert(pb.ExplainAlertRequest(id=alert_id), None)).explanation
    assert StepMessage.CORRELATED in [step.kind for step in explained.steps]


@pytest.mark.parametrize("seconds", [None, 1 << 40])
async def test_a_window_that_cannot_be_read_is_left_out(
    store: MemoryStore, explanations: ExplanationRpc, seconds: int | None
) -> None:
    evidence = alert_pb2.Alert()
    if seconds is not None:
        evidence.window.start_time.CopyFrom(Timestamp(seconds=seconds))
    alert_id, _ = put(store, evidence=evidence.SerializeToString())
    explained = (await explanations.ExplainAlert(pb.ExplainAlertRequest(id=alert_id), None)).explanation
    assert StepMessage.EVALUATED not in [step.kind for step in explained.steps]


async def test_what_is_not_there_is_refused(explanations: ExplanationRpc) -> None:
    with pytest.raises(AlertNotFound):
        await explanations.ExplainAlert(pb.ExplainAlertRequest(id="a"), None)
    with pytest.raises(IncidentNotFound):
        await explanations.ExplainIncident(pb.ExplainIncidentRequest(id="a"), None)
