"""What a bundle of held notifications says, and how the notifier puts it and its notices as notifications."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from services.domain.severity import Severity
from services.notifier.adapters.limit_messages import encode_bundle, encode_notice, reason_of_limit
from services.notifier.core.bundle import bundle_of, bundle_subject, is_bundle, is_notice, notice_subject
from services.notifier.core.channels.pagerduty import pagerduty_body
from services.notifier.core.channels.wording import alert_lines, headline
from services.notifier.core.notification import NotificationContent, NotificationKind, NotificationService
from services.notifier.messages import decode_notification
from tests.fakes.notifier import NOW, incident_content, notification_content

ID = UUID(int=7)


def held(alert: str, severity: Severity = Severity.LOW, minutes: int = 0) -> NotificationContent:
    return replace(
        notification_content(alert=alert, severity=severity, resource=alert),
        fire_time=NOW + timedelta(minutes=minutes),
        tenant="acme",
    )


def test_the_most_severe_come_first_then_the_oldest_and_what_has_ended_last() -> None:
    ended = replace(held("a", Severity.HIGH), kind=NotificationKind.RESOLVED)
    bundle = bundle_of([held("b", minutes=2), held("c", minutes=1), ended, held("d", Severity.HIGH)])
    assert [(each.alert_id, each.state) for each in bundle.alerts] == [
        ("d", "FIRING"),
        ("c", "FIRING"),
        ("b", "FIRING"),
        ("a", "RESOLVED"),
    ]
    assert (bundle.leading.alert_id, bundle.subject_count, bundle.open_count) == ("d", 4, 3)
    assert bundle.title == "4 alerts were held back by the limit of notifications"


def test_of_one_subject_the_last_one_counts() -> None:
    first = incident_content()
    last = replace(first, sequence=9, kind=NotificationKind.ACKNOWLEDGED)
    bundle = bundle_of([last, first])
    (alert,) = bundle.alerts
    assert (alert.state, alert.rule) == ("ACKNOWLEDGED", "Database Down on orders-db, and 13 others")
    assert bundle.title == "1 alert was held back by the limit of notifications"
    assert bundle_of([replace(first, incident=None)]).alerts[0].rule == "High Error Rate"


def test_services_are_those_of_the_catalog_or_of_the_group() -> None:
    known = replace(held("a"), service=NotificationService(name="web"))
    grouped = replace(held("b"), group={"service": "shop"})
    bundle = bundle_of([known, grouped, held("c"), replace(held("d"), service=NotificationService(name="web"))])
    assert bundle.services == ("web", "shop")


def test_a_bundle_is_shown_like_an_incident_and_counts_what_it_leaves_out() -> None:
    bundle = bundle_of([held(f"a{number}") for number in range(30)])
    assert len(bundle.alerts) == 20
    content = decode_notification(encode_bundle(ID, bundle, channel="slack", now=NOW))
    assert headline(content) == "[LOW] FIRING: 30 alerts were held back by the limit of notifications"
    assert alert_lines(content)[-1] == "and 20 more"
    assert (content.tenant, content.receivers, content.subject_id) == ("acme", ("slack",), f"bundle/{ID}")
    assert pagerduty_body(content, "key")["dedup_key"] == bundle_subject(ID)
    incident = decode_notification(encode_bundle(ID, bundle_of([incident_content()]), channel="slack", now=NOW))
    assert incident.incident is not None
    assert incident.incident.id == "5d2f6c1e-8f0e-4f43-9d55-2f7f1d7c9a11"
    assert is_bundle(content.subject_id)
    assert not is_notice(content.subject_id)


def test_a_notice_begins_and_ends_one_thing() -> None:
    begin, end = (
        decode_notification(encode_notice(ID, "acme", 3, kind, NOW))
        for kind in (NotificationKind.FIRING, NotificationKind.RESOLVED)
    )
    assert headline(begin) == "[HIGH] FIRING: limit of notifications on tenant acme"
    assert headline(end) == "[HIGH] RESOLVED: limit of notifications on tenant acme"
    assert begin.subject_id == end.subject_id == notice_subject("acme", 3)
    assert begin.sequence < end.sequence
    assert is_notice(begin.subject_id)
    assert not is_bundle(begin.subject_id)


def test_the_reason_names_the_tenant_and_its_limit() -> None:
    assert reason_of_limit("acme", 60) == "held: the tenant acme may have 60 notifications an hour"
