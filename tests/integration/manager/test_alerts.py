"""Alerts, from the evaluator's transition to the notification and the API."""

import asyncio
import uuid

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.contract.paging import encode_page_token
from services.domain.severity import Severity
from tests.integration.manager.conftest import TRACEPARENT, World, transition, until
from tests.integration.manager.refusals import refusal
from tocsin.alerts.v1 import alert_service_pb2 as pb
from tocsin.alerts.v1.alert_pb2 import Alert, AlertTransition
from tocsin.notifications.v1.notification_pb2 import Notification, NotificationResult
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

pytestmark = pytest.mark.integration


async def fired(world: World, sent: AlertTransition) -> Alert:
    await world.publish(sent)

    async def found() -> list[Alert]:
        return [alert for alert in await world.listed() if alert.fingerprint == sent.fingerprint]

    return (await until(found))[0]


async def test_a_firing_becomes_an_alert_with_its_evidence_and_one_notification(world: World) -> None:
    sent = transition()
    await world.publish(sent, traceparent=TRACEPARENT)
    await world.processed(1)
    (alert,) = await world.listed()
    assert alert.state == Alert.FIRING
    assert (alert.resource, alert.rule_id, alert.severity) == ("payment-service", "rule-1", AlertRule.CRITICAL)
    assert alert.group == {"service": "payment-service"}
    assert alert.labels == {"team": "payments"}
    assert alert.window == sent.window
    assert list(alert.samples) == list(sent.samples)
    assert alert.fire_time == sent.create_time
    ((notification, headers),) = await world.notifications(1)
    assert notification.kind == Notification.FIRING
    assert notification.alert == alert
    assert headers["traceparent"].decode().split("-")[1] == TRACEPARENT.split("-")[1]
    assert await world.history(alert.id) == ["FIRED"]


async def test_what_is_delivered_twice_is_notified_once(world: World) -> None:
    await world.publish(transition(), transition(), transition("RESOLVED", window=1))
    await world.publish(transition(), transition("RESOLVED", window=1), transition(episode=9, resource="other"))
    await world.processed(3)
    kinds = [
        (notification.alert.resource, Notification.Kind.Name(notification.kind))
        for notification, _ in await world.notifications(3)
    ]
    assert sorted(kinds) == [("other", "FIRING"), ("payment-service", "FIRING"), ("payment-service", "RESOLVED")]


async def test_firing_again_while_open_is_counted_and_not_notified(world: World) -> None:
    await world.publish(transition(), transition(window=1), transition(window=2))
    await world.processed(3)
    (alert,) = await world.listed()
    assert alert.repeat_count == 2
    assert await world.history(alert.id) == ["FIRED", "REPEATED", "REPEATED"]
    assert len(await world.notifications(1)) == 1


async def test_an_alert_lives_from_firing_over_acknowledged_to_resolved(world: World) -> None:
    alert = await fired(world, transition())
    taken = (
        await world.alerts.AcknowledgeAlert(
            pb.AcknowledgeAlertRequest(id=alert.id, actor="ana", comment="looking", etag=alert.etag)
        )
    ).alert
    assert (taken.state, taken.acknowledged_by) == (Alert.ACKNOWLEDGED, "ana")
    assert taken.etag != alert.etag
    again = (await world.alerts.AcknowledgeAlert(pb.AcknowledgeAlertRequest(id=alert.id, actor="bob"))).alert
    assert again == taken
    await world.publish(transition("RESOLVED", window=1))
    await world.processed(2)
    read = await world.alerts.GetAlert(pb.GetAlertRequest(id=alert.id))
    assert read.alert.state == Alert.RESOLVED
    assert read.alert.resolved_by == ""
    assert [(entry.actor, entry.comment) for entry in read.history] == [("", ""), ("ana", "looking"), ("", "")]
    assert [Notification.Kind.Name(notification.kind) for notification, _ in await world.notifications(3)] == [
        "FIRING",
        "ACKNOWLEDGED",
        "RESOLVED",
    ]


async def test_commands_are_refused_with_reasons(world: World) -> None:
    alert = await fired(world, transition())
    with pytest.raises(grpc.aio.AioRpcError) as stale:
        await world.alerts.ResolveAlert(pb.ResolveAlertRequest(id=alert.id, etag="another"))
    assert stale.value.code() is grpc.StatusCode.ABORTED
    with pytest.raises(grpc.aio.AioRpcError) as missing:
        await world.alerts.ResolveAlert(pb.ResolveAlertRequest(id="no such\0"))
    assert missing.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await world.alerts.GetAlert(pb.GetAlertRequest(id="no such"))
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    first = await world.alerts.ResolveAlert(pb.ResolveAlertRequest(id=alert.id, actor="ana"))
    second = await world.alerts.ResolveAlert(pb.ResolveAlertRequest(id=alert.id, actor="bob"))
    assert (first.alert, first.unchanged, second.unchanged) == (second.alert, False, True)
    with pytest.raises(grpc.aio.AioRpcError) as over:
        await world.alerts.AcknowledgeAlert(pb.AcknowledgeAlertRequest(id=alert.id))
    assert over.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_repeated_action_changes_nothing(world: World) -> None:
    alert = await fired(world, transition())
    request = pb.AcknowledgeAlertRequest(id=alert.id, actor="ana", request_id=str(uuid.uuid4()))
    first, second = await asyncio.gather(*(world.alerts.AcknowledgeAlert(request) for _ in range(2)))
    assert first == second
    await world.alerts.ResolveAlert(pb.ResolveAlertRequest(id=alert.id))
    assert await world.alerts.AcknowledgeAlert(request) == first
    reused = pb.ResolveAlertRequest(id=alert.id, request_id=request.request_id)
    assert (await refusal(world.alerts.ResolveAlert(reused))).reason == "REQUEST_ID_REUSED"
    assert await world.history(alert.id) == ["FIRED", "ACKNOWLEDGED", "RESOLVED"]


async def test_resolved_by_hand_stays_silent_for_the_episode_and_fires_in_the_next(world: World) -> None:
    alert = await fired(world, transition())
    await world.alerts.ResolveAlert(pb.ResolveAlertRequest(id=alert.id, actor="ana"))
    await world.publish(transition(window=1), transition("RESOLVED", window=2))
    await world.processed(3)
    assert [each.id for each in await world.listed()] == [alert.id]
    await world.publish(transition(episode=5))
    await world.processed(4)
    newest, oldest = await world.listed()
    assert (newest.state, oldest.id) == (Alert.FIRING, alert.id)


async def test_a_raised_severity_is_notified_once_in_another_alert_and_a_lowered_one_is_not(world: World) -> None:
    low = await fired(world, transition(severity=Severity.LOW))
    raised = transition(severity=Severity.HIGH, revision=2)
    await world.publish(raised, raised, transition(severity=Severity.LOW))
    high = await fired(world, raised)
    read = await world.alerts.GetAlert(pb.GetAlertRequest(id=low.id))
    assert (read.alert.state, read.alert.superseded_by) == (Alert.RESOLVED, high.id)
    assert await world.history(low.id) == ["FIRED", "SUPERSEDED"]
    await world.alerts.AcknowledgeAlert(pb.AcknowledgeAlertRequest(id=high.id, actor="ana"))
    await world.publish(transition(severity=Severity.MEDIUM, revision=3))
    await world.processed(3)
    (now,) = await world.listed(states=["FIRING", "ACKNOWLEDGED"])
    assert (now.id, now.severity, now.acknowledged_by) == (high.id, AlertRule.MEDIUM, "ana")
    await world.publish(transition("RESOLVED", window=1, severity=Severity.MEDIUM, revision=3))
    await world.processed(4)
    assert await world.history(high.id) == ["FIRED", "ACKNOWLEDGED", "UPDATED", "RESOLVED"]
    # Both are alerts of one incident, whose severity rises.
    notifications = [note for note, _ in await world.notifications(4)]
    assert [(note.alert.id, Notification.Kind.Name(note.kind)) for note in notifications] == [
        (low.id, "FIRING"),
        (high.id, "UPDATED"),
        (high.id, "ACKNOWLEDGED"),
        (high.id, "RESOLVED"),
    ]
    assert len({note.subject_id for note in notifications}) == 1
    assert [note.sequence for note in notifications] == [1, 2, 3, 4]


async def test_the_results_of_deliveries_are_in_the_history_once(world: World) -> None:
    alert = await fired(world, transition())
    failed = NotificationResult(
        delivery_id="d1",
        alert_id=alert.id,
        kind=Notification.FIRING,
        channel="slack",
        outcome=NotificationResult.FAILED,
        reason="HTTP 500",
    )
    fallback = NotificationResult(
        delivery_id="d2",
        alert_id=alert.id,
        kind=Notification.FIRING,
        channel="mail",
        outcome=NotificationResult.DELIVERED,
        fallback_for="slack",
    )
    unknown = NotificationResult(
        delivery_id="d3", alert_id="nobody", channel="mail", outcome=NotificationResult.DELIVERED
    )
    await world.alerts.GetAlert(pb.GetAlertRequest(id=alert.id))
    await world.report(failed, failed, fallback, unknown, failed, trace="4b" * 16)

    async def recorded() -> bool:
        return len(await world.history(alert.id)) == 3

    await until(recorded)
    read = await world.alerts.GetAlert(pb.GetAlertRequest(id=alert.id))
    assert [(entry.channel, entry.comment) for entry in read.history[1:]] == [
        ("slack", "FIRING; HTTP 500"),
        ("mail", "FIRING; in place of slack"),
    ]
    assert [entry.trace_id for entry in read.history[1:]] == ["4b" * 16] * 2


async def test_a_record_that_is_no_transition_is_dead_lettered_and_the_rest_is_processed(world: World) -> None:
    await world.stream.send("alerts", b"\xff\xff", b"x", None, [])
    await world.stream.send("alerts", AlertTransition(id="half").SerializeToString(), b"x", None, [])
    alert = await fired(world, transition(resource="nul\0inside"))
    assert alert.resource == "nul\N{REPLACEMENT CHARACTER}inside"


async def test_a_resource_may_be_as_long_as_its_fields_make_it(world: World) -> None:
    # Characters that do not repeat: the database cannot make it short by compressing.
    resource = "service=a," + "".join(map(chr, range(0x4E00, 0x4E00 + 20_000)))
    alert = await fired(world, transition(resource=resource))
    assert await world.listed(resource=resource) == [alert]
    assert await world.listed(resource=resource[:-1]) == []


async def test_lists_are_filtered_and_paged_visiting_each_alert_once(world: World) -> None:
    for n in range(7):
        severity = Severity.CRITICAL if n % 2 else Severity.LOW
        await world.publish(transition(resource=f"service-{n}", episode=n // 2, severity=severity))
    await world.processed(7)
    everything = await world.listed()
    assert [alert.fire_time.seconds for alert in everything] == sorted(
        (alert.fire_time.seconds for alert in everything), reverse=True
    )
    seen, token = [], ""
    while True:
        page = await world.alerts.ListAlerts(pb.ListAlertsRequest(page_size=2, page_token=token))
        seen += list(page.alerts)
        if not (token := page.next_page_token):
            break
    assert seen == everything
    assert {each.resource for each in await world.listed(severities=["LOW"])} == {
        "service-0",
        "service-2",
        "service-4",
        "service-6",
    }
    assert len(await world.listed(resource="service-3", states=["FIRING"], rule_id="rule-1")) == 1
    assert await world.listed(states=["RESOLVED"]) == []
    after = everything[2].fire_time
    assert all(alert.fire_time.seconds >= after.seconds for alert in await world.listed(fired_after=after))
    assert all(alert.fire_time.seconds < after.seconds for alert in await world.listed(fired_before=after))


def forged(*after: str) -> str:
    return encode_page_token(after, filters="")


async def test_filters_and_tokens_at_the_limits_of_time_are_answered(world: World) -> None:
    alert = await fired(world, transition())
    first, last = Timestamp(seconds=-62135596800), Timestamp(seconds=253402300799, nanos=999_999_999)
    assert await world.listed(fired_after=first, fired_before=last) == [alert]
    assert await world.listed(page_token=forged("0001-01-01T00:00:00+00:00", "a")) == []
    assert await world.listed(page_token=forged("9999-12-31T23:59:59.999999+00:00", "a")) == [alert]


BAD_LISTS = [
    (pb.ListAlertsRequest(page_token="nonsense"), "pageToken"),
    (pb.ListAlertsRequest(page_token=forged("2026-01-01T00:00:00+00:00", "a\0")), "pageToken"),
    (pb.ListAlertsRequest(page_token=forged("0001-01-01T00:00:00+14:00", "a")), "pageToken"),
    (pb.ListAlertsRequest(resource="a\0"), "resource"),
    (pb.ListAlertsRequest(rule_id="a\0"), "ruleId"),
    (pb.ListAlertsRequest(fired_after=Timestamp(seconds=-(2**40))), "firedAfter"),
    (pb.ListAlertsRequest(fired_before=Timestamp(seconds=2**40)), "firedBefore"),
    (pb.ListAlertsRequest(page_size=-1), "pageSize"),
    (pb.ListAlertsRequest(states=[0]), "states[0]"),  # type: ignore[list-item]  # that is the mistake
    (pb.ListAlertsRequest(severities=[77]), "severities[0]"),  # type: ignore[list-item]  # that is the mistake
]


async def test_a_bad_list_request_names_its_field(world: World) -> None:
    for asked, field in BAD_LISTS:
        refused = await refusal(world.alerts.ListAlerts(asked))
        assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, (field,))


async def test_a_watch_sends_the_open_alerts_first_and_then_each_change(world: World) -> None:
    old = await fired(world, transition(resource="old"))
    over = await fired(world, transition(resource="over"))
    await world.alerts.ResolveAlert(pb.ResolveAlertRequest(id=over.id))
    calls = world.alerts.WatchAlerts(pb.WatchAlertsRequest(severities=[AlertRule.CRITICAL]))
    first = await calls.read()
    assert first.alert == old
    new = await fired(world, transition(resource="new"))
    assert (await calls.read()).alert.id == new.id
    await world.alerts.AcknowledgeAlert(pb.AcknowledgeAlertRequest(id=old.id))
    assert (await calls.read()).alert.state == Alert.ACKNOWLEDGED
    await world.alerts.ResolveAlert(pb.ResolveAlertRequest(id=new.id))
    changed = (await calls.read()).alert
    assert (changed.id, changed.state) == (new.id, Alert.RESOLVED)
    calls.cancel()


async def test_a_watch_is_answered_at_once_when_no_alert_is_open(world: World) -> None:
    calls = world.alerts.WatchAlerts(pb.WatchAlertsRequest(resource="nobody"))
    async with asyncio.timeout(10):
        await calls.initial_metadata()
    calls.cancel()
