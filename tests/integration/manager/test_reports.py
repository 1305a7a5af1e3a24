"""Reports of what real managers have stored."""

from datetime import UTC, datetime, timedelta

import grpc
import pytest

from tests.integration.manager.conftest import World, transition, until
from tests.integration.manager.refusals import refusal
from tocsin.alerts.v1 import alert_service_pb2 as alerts_pb
from tocsin.notifications.v1.notification_pb2 import Notification, NotificationResult
from tocsin.reports.v1 import report_service_pb2 as pb

pytestmark = pytest.mark.integration


async def test_what_happened_is_reported(world: World) -> None:
    fired = datetime.now(UTC) - timedelta(minutes=1)
    firing = [transition(resource=name) for name in ("shop", "search")]
    for one in firing:
        one.create_time.FromDatetime(fired)
    await world.publish(*firing)
    await world.processed(2)
    taken = (await world.listed())[0]
    await world.alerts.AcknowledgeAlert(alerts_pb.AcknowledgeAlertRequest(id=taken.id, actor="ann"))
    result = NotificationResult(
        delivery_id="d",
        alert_id=taken.id,
        channel="slack",
        outcome=NotificationResult.DELIVERED,
        kind=Notification.FIRING,
    )
    result.create_time.FromDatetime(fired)
    await world.report(result, trace="4bf92f3577b34da6a3ce929d0e0e4736")

    async def reported() -> bool:
        incidents = await world.reports.GetIncidentReport(pb.GetIncidentReportRequest())
        notifications = await world.reports.GetNotificationReport(pb.GetNotificationReportRequest())
        return bool(incidents.total.count == 2 and notifications.total.delivered_count == 1)

    await until(reported)
    alerts = await world.reports.GetAlertReport(pb.GetAlertReportRequest(days=2, time_zone="Asia/Kathmandu"))
    assert (alerts.total.count, alerts.total.acknowledged_count, len(alerts.days)) == (2, 1, 2)
    assert [row.service for row in alerts.services] == ["search", "shop"]
    assert 60 <= alerts.total.time_to_acknowledge.median.seconds < 120


async def test_a_wrong_period_is_refused(world: World) -> None:
    refused = await refusal(world.reports.GetAlertReport(pb.GetAlertReportRequest(days=100, time_zone="Mars/Base")))
    assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("days", "timeZone"))
