"""Owner, links and changes of an alert's service, in all channels."""

import json
from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any
from uuid import UUID

import pytest

from services.notifier.core.channels.email import Envelope, email_body
from services.notifier.core.channels.pagerduty import pagerduty_body
from services.notifier.core.channels.slack import slack_body
from services.notifier.core.channels.webhook import webhook_body
from services.notifier.core.channels.wording import change_lines, facts, links, service_text
from services.notifier.core.notification import NotificationChange, NotificationContent, NotificationService
from services.notifier.messages import decode_notification
from stack.sinks.schemas import schema_problems
from tests.fakes.notifications import notification as notification_record
from tests.fakes.notifier import EVIL, NOW, notification_content
from tocsin.alerts.v1.alert_pb2 import RelatedChange, ServiceInfo
from tocsin.changes.v1.service_change_pb2 import ServiceChange

DELIVERY = UUID(int=42)
ENVELOPE = Envelope(sender="tocsin@example.com", recipients=["a@example.com"], date=NOW)
SERVICE = NotificationService(
    name="payment-service",
    owner="team-pay",
    tier="1",
    description="Takes payments.",
    links={"runbook": "https://wiki.example/pay", "dashboard": "https://grafana.example/d"},
)
CHANGES = (
    NotificationChange(
        time=NOW - timedelta(minutes=5),
        service="payment-service",
        kind="DEPLOYMENT",
        version="1.4.2",
        actor="ci",
        link="https://ci.example/7",
    ),
    NotificationChange(time=NOW - timedelta(minutes=9), service="ledger", kind="FEATURE_FLAG"),
)
LINES = (
    "2026-03-01 11:55:00 UTC deployment of payment-service 1.4.2 by ci",
    "2026-03-01 11:51:00 UTC feature flag of ledger",
)


def content(service: NotificationService | None = SERVICE, changes: Any = CHANGES) -> NotificationContent:
    return replace(notification_content(), service=service, changes=changes)


def mail_text(notification: NotificationContent) -> str:
    message = message_from_bytes(email_body(notification, DELIVERY, ENVELOPE), policy=policy.default)
    assert isinstance(message, EmailMessage)
    return str(message.get_content())


def test_the_words_say_who_owns_it_what_it_does_and_what_changed() -> None:
    notification = content()
    assert dict(facts(notification))["Owner"] == "team-pay, tier 1"
    assert service_text(notification) == "payment-service: Takes payments."
    assert change_lines(notification) == LINES
    assert links(notification) == (
        ("dashboard", "https://grafana.example/d"),
        ("runbook", "https://wiki.example/pay"),
        ("deployment of payment-service 1.4.2", "https://ci.example/7"),
    )


@pytest.mark.parametrize(
    ("service", "owner"),
    [
        (None, None),
        (NotificationService(name="a"), None),
        (NotificationService(name="a", tier="2"), "tier 2"),
        (NotificationService(name="a", owner="b"), "b"),
    ],
)
def test_what_is_not_known_is_left_out(service: NotificationService | None, owner: str | None) -> None:
    bare = content(service, ())
    assert dict(facts(bare)).get("Owner") == owner
    assert (service_text(bare), change_lines(bare), links(bare)) == ("", (), ())
    for text in (json.dumps(slack_body(bare, DELIVERY)), mail_text(bare), json.dumps(pagerduty_body(bare, "k" * 32))):
        assert "Changes" not in text
        assert '"changes"' not in text


def test_an_address_of_the_rule_and_of_the_catalog_is_one_link_with_the_rules_name() -> None:
    notification = replace(content(), labels={"playbook": "https://wiki.example/pay"})
    assert [name for name, _ in links(notification)] == ["playbook", "dashboard", "deployment of payment-service 1.4.2"]


def test_every_channel_names_owner_runbook_and_change() -> None:
    notification = content()
    slack = slack_body(notification, DELIVERY)
    assert schema_problems("slack", slack) == []
    text = json.dumps(slack)
    assert "<https://wiki.example/pay|runbook>" in text
    assert "<https://ci.example/7|deployment of payment-service 1.4.2>" in text
    assert "Owner: team-pay, tier 1" in text
    assert "Changes before it fired:\\n" + "\\n".join(LINES) in text
    pagerduty: Any = pagerduty_body(notification, "k" * 32)
    assert schema_problems("pagerduty", pagerduty) == []
    assert {"href": "https://wiki.example/pay", "text": "runbook"} in pagerduty["links"]
    details = pagerduty["payload"]["custom_details"]
    assert (details["owner"], details["service"]) == ("team-pay, tier 1", "payment-service: Takes payments.")
    assert details["changes"] == list(LINES)
    mail = mail_text(notification)
    for part in ("Owner: team-pay, tier 1", "runbook: https://wiki.example/pay", *LINES, "Takes payments."):
        assert part in mail
    alert = json.loads(webhook_body(notification, DELIVERY))["alert"]
    assert alert["service"] == {
        "name": "payment-service",
        "owner": "team-pay",
        "tier": "1",
        "description": "Takes payments.",
        "links": dict(SERVICE.links),
    }
    assert alert["recentChanges"][0] == {
        "time": "2026-03-01T11:55:00.000+00:00",
        "service": "payment-service",
        "kind": "DEPLOYMENT",
        "version": "1.4.2",
        "actor": "ci",
        "link": "https://ci.example/7",
    }


def test_what_the_catalog_and_changes_say_is_hostile_text_too() -> None:
    service = NotificationService(
        name=EVIL, owner=EVIL, tier=EVIL, description=EVIL * 500, links={EVIL: "https://a.example", "b": "javascript:x"}
    )
    change = NotificationChange(time=NOW, service=EVIL, kind="OTHER", version=EVIL * 50, actor=EVIL, link="data:x")
    notification = content(service, (change,) * 10)
    slack: Any = slack_body(notification, DELIVERY)
    assert schema_problems("slack", slack) == []
    marked = [block["text"]["text"] for block in slack["blocks"] if block.get("text", {}).get("type") == "mrkdwn"]
    (shown,) = [text for text in marked if not text.startswith("```")]
    assert shown.startswith("<https://a.example|")
    assert shown.count("<") == 1
    assert "javascript:" not in json.dumps(slack)
    pagerduty: Any = pagerduty_body(notification, "k" * 32)
    assert schema_problems("pagerduty", pagerduty) == []
    assert [each["href"] for each in pagerduty["links"]] == ["https://a.example"]
    assert "\x1b" not in mail_text(notification)


def test_a_record_says_both() -> None:
    record = notification_record(alert="2f1b7a86-6d36-4a34-9d5f-0a3f6c1f7d10")
    assert decode_notification(record.SerializeToString()).service is None
    record.alert.service_info.CopyFrom(ServiceInfo(name="a", owner="b", tier="c", description="d", links={"e": "f"}))
    change = ServiceChange(service="g", kind=ServiceChange.DEPLOYMENT, version="1", actor="h", link="i")
    record.alert.recent_changes.append(RelatedChange(change=change, distance=1))
    # Of a later release.
    record.alert.recent_changes.append(RelatedChange(change=ServiceChange(service="g", kind=99)))  # type: ignore[arg-type]
    found = decode_notification(record.SerializeToString())
    assert found.service == NotificationService(name="a", owner="b", tier="c", description="d", links={"e": "f"})
    assert [(each.service, each.kind, each.version, each.actor, each.link) for each in found.changes] == [
        ("g", "DEPLOYMENT", "1", "h", "i"),
        ("g", "OTHER", "", "", ""),
    ]
