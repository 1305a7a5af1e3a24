"""Tenants share what the notifier takes from Kafka."""

from dataclasses import replace

import pytest

from services.chassis.kafka import producer
from services.notifier.settings import Settings
from stack.sinks import Sinks
from tests.fakes.notifications import notification
from tests.integration.notifier.conftest import run_notifier

pytestmark = pytest.mark.integration


async def test_a_tenants_backlog_delays_another_ones_notification_by_a_part_of_a_batch(
    settings: Settings, sinks: Sinks
) -> None:
    async with producer(settings.kafka, "test") as stream:
        for tenant, count in (("flood", 100), ("steady", 1)):
            for number in range(count):
                sent = notification(alert=f"{tenant}-{number}")
                sent.tenant = tenant
                await stream.send("notifications", sent.SerializeToString(), partition=0)
        async with run_notifier(replace(settings, max_batch=10), sinks) as world:
            await world.until("SELECT 1 FROM notifications HAVING count(*) = 101")
            ((later,),) = await world.rows(
                "SELECT count(*) FROM notifications AS other JOIN notifications AS mine ON mine.tenant = 'steady' "
                "WHERE other.created_at > mine.created_at"
            )
    # Without that none is later.
    assert later > 10
