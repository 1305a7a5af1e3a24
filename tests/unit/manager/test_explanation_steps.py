"""Explanations: each entry of an alert or an incident in words, with what decided."""

from dataclasses import replace
from datetime import timedelta

import pytest

from services.domain.matchers import parse_matchers
from services.manager.core.alert import AlertHistoryEntry, AlertHistoryKind, NotifiedState
from services.manager.core.explanation import (
    ExplainedAlert,
    ExplainedWindow,
    ExplanationRecord,
    Reference,
    ReferenceKind,
    StepKind,
)
from services.manager.core.explanation_steps import explain_alert, silence_ids_of
from services.manager.core.incident import (
    Correlation,
    CorrelationReason,
    IncidentHistoryKind,
)
from services.manager.core.silence import Silence
from services.rule_language.label_regex import compile_regex
from tests.fakes.transitions import NOW
from tests.unit.manager.explained import (
    A_RULE,
    MINUTE,
    RULE_TEXT,
    SHOP,
    TRACE,
    WINDOW_TEXT,
    an_alert,
    entry,
    incident_entry,
    incident_steps,
    steps_of,
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
