"""What the manager does when Redis or PostgreSQL is away or has lost entries, or the cache is wrong."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import grpc
import pytest
from redis.asyncio import Redis

from services.chassis.grpc_client import channel
from services.chassis.kafka import producer
from services.chassis.settings import PostgresSettings, RedisSettings, Secret
from services.domain.fingerprint import open_key
from services.manager.settings import Settings
from stack.ports import free_port
from stack.postgres import create_database, with_database
from stack.testing import Servers
from tests.integration.manager.conftest import Run, World, again, transition, until
from tests.integration.manager.processes import process, serving
from tests.integration.manager.refusals import refusal
from tocsin.alerts.v1 import alert_service_pb2 as alerts_pb
from tocsin.alerts.v1.alert_pb2 import Alert
from tocsin.rules.v1 import alert_rule_service_pb2 as pb

pytestmark = pytest.mark.integration


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    client = Redis.from_url(settings.redis.redis_url.reveal())
    yield client
    await client.aclose()


async def rule_names(world: World) -> list[str]:
    answer = await world.rules.ListAlertRules(pb.ListAlertRulesRequest())
    return [each.name for each in answer.alert_rules]


async def test_without_redis_the_results_are_the_same(settings: Settings, running: Run) -> None:
    nowhere = RedisSettings(redis_url=Secret(f"redis://127.0.0.1:{free_port()}/0"))
    async with running(replace(settings, redis=nowhere)) as world:
        await world.publish(transition(), transition(), transition(window=1), transition("RESOLVED", window=2))
        await world.processed(3)
        (alert,) = await world.listed()
        assert (alert.state, alert.repeat_count) == (Alert.RESOLVED, 1)
        assert len(await world.notifications(2)) == 2
        assert len(await rule_names(world)) == 3


async def test_a_stale_key_loses_no_alert_and_a_missing_one_duplicates_none(world: World, redis: Redis) -> None:
    sent = transition()
    key = f"{world.settings.redis.redis_prefix}manager:open:{open_key(rule_id=sent.rule_id, resource=sent.resource)}"
    # As after a crash between Redis and PostgreSQL: the key is set, and nothing is stored.
    await redis.set(key, b"1")
    await world.publish(sent)
    await world.processed(1)
    (alert,) = await world.listed()
    # As after a flush: the key is gone, and the alert is open.
    await redis.delete(key)
    await world.publish(transition(window=1))
    await world.processed(2)
    assert [each.id for each in await world.listed()] == [alert.id]
    await world.publish(transition("RESOLVED", window=2))
    await world.processed(3)

    async def removed() -> bool:
        return not await redis.exists(key)

    await until(removed)
    # As after a removal that was lost.
    await redis.set(key, b"1")
    await world.publish(transition(episode=5))
    await world.processed(4)
    assert len(await world.listed()) == 2
    assert len(await world.notifications(3)) == 3


async def test_without_postgres_calls_are_refused_with_a_hint_and_nothing_is_lost(
    settings: Settings, own_servers: Servers
) -> None:
    url = own_servers.address("postgres")
    await asyncio.to_thread(create_database, url, "away")
    own = replace(settings, postgres=PostgresSettings(database_url=Secret(with_database(url, "away"))))
    async with (
        process(own),
        producer(own.kafka, "test") as stream,
        channel(own.process.listen) as calls,
    ):
        await until(lambda: serving(own), within=40)
        world = World.on(own, stream, calls)
        watch = world.rules.WatchAlertRules(pb.WatchAlertRulesRequest())
        assert (await watch.read()).is_snapshot
        await world.publish(transition(resource="before"))
        await world.processed(1)
        # What is published when PostgreSQL dies, and not yet taken out of the outbox, is published again.
        await world.relayed()
        await asyncio.to_thread(own_servers.kill, "postgres")
        for call in (
            world.rules.ListAlertRules(pb.ListAlertRulesRequest()),
            world.rules.GetAlertRule(pb.GetAlertRuleRequest(id="any")),
            world.rules.EnableAlertRule(pb.EnableAlertRuleRequest(id="any")),
            world.alerts.ListAlerts(alerts_pb.ListAlertsRequest()),
            world.alerts.GetAlert(alerts_pb.GetAlertRequest(id="any")),
            world.alerts.ResolveAlert(alerts_pb.ResolveAlertRequest(id="any")),
        ):
            began = time.monotonic()
            refused = await refusal(call)
            assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
            assert refused.has_retry
            assert time.monotonic() - began < 5
        await world.publish(transition(resource="during"))
        # The streams of watchers go on.
        assert not (await watch.read()).is_snapshot
        await asyncio.to_thread(own_servers.start, "postgres")

        seen: list[str] = []

        async def both() -> bool:
            try:
                seen[:] = [alert.resource for alert in await world.listed()]
            except grpc.aio.AioRpcError as error:
                seen[:] = [str(error.details())]
            return sorted(seen) == ["before", "during"]

        await until(both, within=30)
        assert len(await world.notifications(2)) == 2
        watch.cancel()


async def test_two_instances_with_the_same_transitions_make_one_alert(settings: Settings, running: Run) -> None:
    async with running(settings) as world, running(again(settings)) as other:
        sent = [transition(resource=f"service-{n}") for n in range(40)]
        await asyncio.gather(world.publish(*sent), other.publish(*sent))
        await world.processed(40)
        assert len(await other.listed()) == 40
        assert len(await world.notifications(40, within=30)) == 40


async def test_a_restart_in_the_middle_loses_and_duplicates_nothing(settings: Settings, running: Run) -> None:
    sent = [transition(resource=f"service-{n}") for n in range(30)]
    async with running(settings) as world:
        await world.publish(*sent)
        await world.processed(1)
    async with running(settings) as world:
        await world.publish(*sent)
        await world.processed(30)
        assert len(await world.listed()) == 30
        assert len(await world.notifications(30, within=30)) == 30
