"""What all channels say of an incident: title, cause, alerts, links, and why its receivers are notified."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from services.domain.severity import Severity
from services.notifier.core.channels.email import email_body
from services.notifier.core.channels.pagerduty import pagerduty_body
from services.notifier.core.channels.slack import slack_body
from services.notifier.core.channels.webhook import webhook_body
from services.notifier.core.channels.wording import (
    alert_lines,
    change_lines,
    context_lines,
    facts,
    headline,
    links,
)
from services.notifier.core.notification import NotificationChange, NotificationContent, NotificationKind
from stack.sinks.schemas import schema_problems
from tests.fakes.notifier import EVIL, NOW, incident_content, notification_content
from tests.unit.notifier.contents import DELIVERY, ENVELOPE, KEY, read, strings, texts

CONTEXT = (
    "14 alerts, 13 open, of orders, orders-db",
    "Since the last notification: 3 new alerts, 1 ended",
    "Probable cause: Database Down on orders-db: orders depends on it",
    "It is flapping: it changes so often that only summaries are sent until that ends",
    "Assigned to cleo",
    "Why you get this: step 2 of policy payments: nobody acknowledged within 5m",
)
ALERTS = (
    "CRITICAL FIRING since 2026-03-01 12:00:00 UTC: Database Down on orders-db",
    *(f"HIGH FIRING since 2026-03-01 12:{number:02}:00 UTC: Slow Orders on orders-{number}" for number in range(1, 10)),
    "and 4 more",
)
CHANGE = "2026-03-01 11:55:00 UTC configuration of orders-db 17 by ci"
LINKS = (
    ("database runbook", "https://wiki.example/db"),
    ("configuration of orders-db 17", "https://ci.example/17"),
)


def bare(**changes: Any) -> NotificationContent:
    """Return an incident of which little is known."""
    content = incident_content()
    assert content.incident is not None
    known: dict[str, Any] = {
        "alerts": (),
        "cause": None,
        "services": (),
        "assignee": "",
        "new_alert_count": 0,
        "ended_alert_count": 0,
        "is_flapping": False,
        "links": {},
        "changes": (),
    }
    return replace(content, reason="", incident=replace(content.incident, **known | changes))


def test_an_incident_in_words() -> None:
    content = incident_content()
    assert headline(content) == "[CRITICAL] UPDATED: Database Down on orders-db, and 13 others"
    assert (context_lines(content), alert_lines(content)) == (CONTEXT, ALERTS)
    assert links(content)[-2:] == LINKS
    assert change_lines(content) == (CHANGE,)


def test_an_incident_shows_the_changes_before_its_cause_and_else_those_before_the_alert() -> None:
    own = NotificationChange(time=NOW, service="orders", kind="DEPLOYMENT")
    assert change_lines(replace(incident_content(), changes=(own,))) == (CHANGE,)
    assert change_lines(replace(bare(), changes=(own,))) == ("2026-03-01 12:00:00 UTC deployment of orders",)


@pytest.mark.parametrize(
    ("kind", "fact"),
    [
        (NotificationKind.FIRING, None),
        (NotificationKind.ACKNOWLEDGED, "Acknowledged"),
        (NotificationKind.RESOLVED, "Resolved"),
        (NotificationKind.UPDATED, "Updated"),
    ],
)
def test_each_kind_has_its_words(kind: NotificationKind, fact: str | None) -> None:
    content = incident_content(kind=kind)
    assert headline(content).startswith(f"[CRITICAL] {kind.name}: ")
    names = dict(facts(content)).keys()
    assert names & {"Acknowledged", "Resolved", "Updated"} == ({fact} if fact else set())
    assert len(names) <= 10


def test_what_is_not_known_of_an_incident_is_left_out() -> None:
    assert context_lines(bare(alert_count=1, open_alert_count=0)) == ("1 alert, 0 open",)
    assert alert_lines(bare()) == ()
    assert headline(bare(title="\n")) == "[CRITICAL] UPDATED: High Error Rate on payment-service"
    (alert, *_) = incident_content().incident.alerts  # type: ignore[union-attr]
    assert context_lines(bare(cause=alert, cause_reason=""))[1] == "Probable cause: Database Down on orders-db"
    assert alert_lines(bare(alerts=(alert,), alert_count=1)) == ALERTS[:1]
    services = tuple(f"s{number}" for number in range(12))
    assert context_lines(bare(services=services))[0].endswith(
        ", of s0, s1, s2, s3, s4, s5, s6, s7, s8, s9 and 2 other services"
    )


def test_an_alert_without_incident_may_have_a_reason() -> None:
    content = replace(notification_content(), reason="route root/1")
    assert (context_lines(content), alert_lines(content)) == (("Why you get this: route root/1",), ())
    assert json.loads(webhook_body(content, DELIVERY))["incident"] is None


def test_slack_shows_the_incident_before_all_else() -> None:
    body = slack_body(incident_content(), DELIVERY)
    assert schema_problems("slack", body) == []
    blocks: Any = body["blocks"]
    assert blocks[0]["text"]["text"] == "[CRITICAL] UPDATED: Database Down on orders-db, and 13 others"
    assert blocks[2]["text"]["text"] == "\n".join(CONTEXT)
    assert blocks[3]["text"]["text"] == "\n".join(["Alerts:", *ALERTS])
    shown = strings(body)
    assert f"Changes before it fired:\n{CHANGE}" in shown
    assert [text.split("\n")[-2:] for text in shown if "|database runbook>" in text] == [
        [f"<{address}|{name}>" for name, address in LINKS]
    ]
    assert blocks[-2]["elements"][0]["text"] == "Incident 5d2f6c1e-8f0e-4f43-9d55-2f7f1d7c9a11"


def test_mails_of_an_incident_are_one_thread() -> None:
    first, later = incident_content(kind=NotificationKind.FIRING), replace(incident_content(), alert_id="another")
    mails = [read(email_body(content, DELIVERY, ENVELOPE)) for content in (first, later)]
    assert {mail["References"] for mail in mails} == {"<alert.5d2f6c1e-8f0e-4f43-9d55-2f7f1d7c9a11@example.com>"}
    assert {mail["Tocsin-Incident"] for mail in mails} == {"5d2f6c1e-8f0e-4f43-9d55-2f7f1d7c9a11"}
    text = mails[0].get_content().replace("\r\n", "\n")
    assert "\n".join(CONTEXT) + "\n\nAlerts:\n" + "\n".join(ALERTS) + "\n\n" in text
    assert f"\n\nChanges before it fired:\n{CHANGE}\n\n" in text
    assert "\n".join(f"{name}: {address}" for name, address in LINKS) in text


def test_pagerduty_is_updated_under_the_key_of_the_incident() -> None:
    events = [pagerduty_body(incident_content(kind=kind), KEY) for kind in NotificationKind]
    assert [schema_problems("pagerduty", event) for event in events] == [[]] * 4
    assert {event["dedup_key"] for event in events} == {"5d2f6c1e-8f0e-4f43-9d55-2f7f1d7c9a11"}
    payload: Any = events[-1]["payload"]
    assert payload["summary"] == "[CRITICAL] UPDATED: Database Down on orders-db, and 13 others"
    details = payload["custom_details"]
    assert (details["context"], details["alerts"], details["changes"]) == (list(CONTEXT), list(ALERTS), [CHANGE])
    shown: Any = events[-1]["links"]
    assert [(each["text"], each["href"]) for each in shown][-2:] == list(LINKS)


def test_a_webhook_gets_the_incident_beside_the_alert() -> None:
    document = json.loads(webhook_body(incident_content(), DELIVERY))
    assert schema_problems("webhook", document) == []
    assert document["alert"]["severity"] == Severity.LOW.name
    assert (document["subjectId"], document["sequence"]) == ("5d2f6c1e-8f0e-4f43-9d55-2f7f1d7c9a11", 3)
    assert document["reason"] == "step 2 of policy payments: nobody acknowledged within 5m"
    assert "receivers" not in document
    incident = document["incident"]
    alerts = incident.pop("alerts")
    cause = {
        "id": "alert-0",
        "severity": "CRITICAL",
        "state": "FIRING",
        "ruleName": "Database Down",
        "resource": "orders-db",
        "service": "orders",
        "fireTime": "2026-03-01T12:00:00.000+00:00",
    }
    assert (len(alerts), alerts[0]) == (12, cause)
    assert incident == {
        "id": "5d2f6c1e-8f0e-4f43-9d55-2f7f1d7c9a11",
        "title": "Database Down on orders-db, and 13 others",
        "state": "OPEN",
        "severity": "CRITICAL",
        "createTime": "2026-03-01T12:00:00.000+00:00",
        "alertCount": 14,
        "openAlertCount": 13,
        "newAlertCount": 3,
        "endedAlertCount": 1,
        "services": ["orders", "orders-db"],
        "assignee": "cleo",
        "cause": cause,
        "causeReason": "orders depends on it",
        "isFlapping": True,
        "links": {"database runbook": "https://wiki.example/db"},
        "changes": [
            {
                "time": "2026-03-01T11:55:00.000+00:00",
                "service": "orders-db",
                "kind": "CONFIGURATION",
                "version": "17",
                "actor": "ci",
                "link": "https://ci.example/17",
            }
        ],
    }
    assert json.loads(webhook_body(bare(), DELIVERY))["incident"]["cause"] is None


def hostile(text: str) -> NotificationContent:
    """Return an incident whose every text is this one."""
    content = incident_content()
    assert content.incident is not None
    alert = replace(content.incident.alerts[0], rule=text, resource=text, service=text, severity=text, state=text)
    incident = replace(
        content.incident,
        title=text,
        services=(text,) * 100,
        assignee=text,
        alerts=(alert,) * 20,
        cause=alert,
        cause_reason=text,
        links={text: "https://wiki.example/db", "other": text},
        changes=(NotificationChange(time=NOW, service=text, kind=text, version=text, actor=text, link=text),) * 10,
    )
    return replace(content, reason=text, incident=incident)


@given(texts)
def test_no_text_of_an_incident_is_markup_or_a_header(text: str) -> None:
    content = hostile(text)
    slack: Any = slack_body(content, DELIVERY)
    assert schema_problems("slack", slack) == []
    plain = [block["text"] for block in slack["blocks"] if "text" in block] + [
        element for block in slack["blocks"] for element in block.get("elements", ())
    ]
    shown = [each["text"] for each in plain if each["type"] == "plain_text"]
    assert [each for each in shown if "<" in each or ">" in each] == []
    assert schema_problems("pagerduty", pagerduty_body(content, KEY)) == []
    mail = email_body(content, DELIVERY, ENVELOPE)
    assert read(mail).keys() == read(email_body(incident_content(), DELIVERY, ENVELOPE)).keys()
    assert schema_problems("webhook", json.loads(webhook_body(content, DELIVERY))) == []


def test_a_line_of_a_log_is_one_line() -> None:
    content = hostile(EVIL)
    lines = [*context_lines(content), *alert_lines(content)]
    assert [line for line in lines if not line.isprintable()] == []
    assert all(len(line) <= 800 for line in lines)
