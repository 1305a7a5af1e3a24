"""The manager as a process of its own: health, metrics and a clean end."""

import asyncio
import signal

import pytest

from services.chassis.grpc_client import channel
from services.manager.settings import Settings
from tests.integration.manager.conftest import until
from tests.integration.manager.processes import admin_page, process, serving
from tocsin.rules.v1 import alert_rule_service_pb2 as pb
from tocsin.rules.v1.alert_rule_service_pb2_grpc import AlertRuleServiceStub

pytestmark = pytest.mark.integration


async def test_health_and_metrics_are_served_and_the_process_ends_cleanly(settings: Settings) -> None:
    async with process(settings) as running:
        await until(lambda: serving(settings), within=40)
        _, health = await admin_page(settings, "/health")
        assert '"service": "manager"' in health
        assert '"postgres": "UP"' in health

        async def counted() -> bool:
            return "tocsin_manager_rules 3.0" in (await admin_page(settings, "/metrics"))[1]

        await until(counted)
        _, metrics = await admin_page(settings, "/metrics")
        for line in ("alerts_processed_total 0.0", "alerts_deduplicated_total 0.0", "tocsin_manager_outbox_depth 0.0"):
            assert line in metrics
        running.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.wait(), 20) == 0


async def test_after_a_kill_the_rules_are_still_stored(settings: Settings) -> None:
    async with process(settings):
        await until(lambda: serving(settings), within=40)
    async with process(settings), channel(settings.process.listen) as calls:
        await until(lambda: serving(settings), within=40)
        answer = await AlertRuleServiceStub(calls).ListAlertRules(pb.ListAlertRulesRequest())
        assert len(answer.alert_rules) == 3
