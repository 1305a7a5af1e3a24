"""The composition root of the manager: opens everything in order, and closes it in reverse.

`parts` are what rpcs and loops share, `rpcs` and `loops` are made of these.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from services.access.audit import AuditLog, auditing
from services.access.guarding import guarding
from services.access.methods import rpc_finder
from services.chassis.admin_server import admin_server
from services.chassis.grpc_client import channel
from services.chassis.grpc_server import grpc_server
from services.chassis.health import Health
from services.chassis.kafka import DeadLetterPublisher, consuming, producer
from services.chassis.lifecycle import serving
from services.chassis.loops import Loop, looping
from services.chassis.migrations import OwnersWork, prepare_schema
from services.chassis.outbox import relaying
from services.chassis.postgres import connect
from services.chassis.redis import redis_client
from services.contract.dead_letters import encode_dead_letter
from services.contract.public_services import PUBLIC_SERVICES
from services.contract.record_tenants import tenant_reader
from services.contract.topics import (
    ALERTS,
    AUDIT_GROUP,
    AUDIT_LOG,
    LOG_EVENTS_DEAD_LETTER,
    NOTIFICATION_RESULTS,
    RESULT_GROUP,
    TRANSITION_GROUP,
)
from services.manager.adapters.postgres.audit import set_audit_retention
from services.manager.app.loops import canary_loop, running_loops
from services.manager.app.parts import ManagerParts, new_id
from services.manager.app.rpcs import mounts_of
from services.manager.rpc.gateway_refusals import GatewayRefusalRpc
from services.manager.settings import AuditSettings, Settings
from tocsin.alerts.v1.alert_pb2 import AlertTransition
from tocsin.notifications.v1.notification_pb2 import NotificationResult

SCHEMA = "manager"
MIGRATIONS = Path(__file__).parents[1] / "migrations"


def set_retention(audit: AuditSettings) -> OwnersWork:
    """Return what the owner of the tables does after each migration."""
    return partial(set_audit_retention, schema=SCHEMA, retention=audit.audit_retention)


@asynccontextmanager
async def app(settings: Settings) -> AsyncIterator[None]:
    """Manage rules and alerts until the end of the block."""
    health = Health("manager")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(admin_server(settings.process, health))
        await prepare_schema(
            settings.postgres, schema=SCHEMA, scripts=MIGRATIONS, afterwards=set_retention(settings.audit)
        )
        database = await stack.enter_async_context(
            connect(settings.postgres, schema=SCHEMA, dependency=health.dependency("postgres"))
        )
        redis = await stack.enter_async_context(
            redis_client(settings.redis, health.dependency("redis", required=False))
        )
        kafka = await stack.enter_async_context(
            producer(
                settings.kafka,
                f"manager-{settings.process.instance}",
                dependency=health.dependency("kafka", required=False),
            )
        )
        await stack.enter_async_context(relaying(database, kafka, health))
        mesh = await stack.enter_async_context(channel(settings.notifier_target, settings.process.tls))
        parts = ManagerParts(settings, database, redis, mesh, health)
        stack.callback(parts.checker.close)
        await Loop(parts.begin, name="begin", health=health).until_success()
        guard = await stack.enter_async_context(
            guarding(settings.process, parts.keys, parts.audit_sink, database.clock, health)
        )
        mounts = mounts_of(parts)
        if settings.process.authentication == "required":
            refused = AuditLog(parts.audit_sink, "gateway", database.clock, new_id)
            await stack.enter_async_context(auditing(refused, health))
            mounts.append(GatewayRefusalRpc(refused.refuse, database.clock, new_id, rpc_finder()).mount())
        await stack.enter_async_context(grpc_server(settings.process, mounts, health, guard, PUBLIC_SERVICES))
        # After the server, so that streams end before it stops.
        await stack.enter_async_context(running_loops(parts))
        for topic, group, handle, tenant_of in (
            (ALERTS, TRANSITION_GROUP, parts.transitions.handle, tenant_reader(AlertTransition)),
            (NOTIFICATION_RESULTS, RESULT_GROUP, parts.results.handle, tenant_reader(NotificationResult)),
            (AUDIT_LOG, AUDIT_GROUP, parts.audit.handle, None),
        ):
            await stack.enter_async_context(
                consuming(
                    settings.kafka,
                    topic=topic,
                    group=group,
                    handle=handle,
                    dependency=health.dependency("kafka", required=False),
                    health=health,
                    instance=settings.process.instance,
                    dead_letters=DeadLetterPublisher(
                        producer=kafka, encode=encode_dead_letter, clock=database.clock, topic=LOG_EVENTS_DEAD_LETTER
                    ),
                    max_batch=settings.max_batch,
                    tenant_of=tenant_of,
                )
            )
        if settings.canary_interval:
            ingest = await stack.enter_async_context(channel(settings.ingest_target, settings.process.tls))
            await stack.enter_async_context(looping(canary_loop(parts, ingest)))
        await stack.enter_async_context(serving(health, settings.process.shutdown_delay))
        yield
