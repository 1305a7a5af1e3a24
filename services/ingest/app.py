"""Where ingest is put together, and what is opened is closed in reverse."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from grpc_health.v1 import health_pb2

from services.chassis.clock import SystemClock
from services.chassis.grpc_server import grpc_server
from services.chassis.health import Health, admin_server
from services.chassis.kafka import producer
from services.chassis.lifecycle import serving
from services.ingest.adapters.kafka import KafkaStream
from services.ingest.adapters.wire import ProtobufWire
from services.ingest.batch import Batches
from services.ingest.core.budget import Budget
from services.ingest.core.verdict import Judge
from services.ingest.handover import Handover
from services.ingest.metrics import Metrics
from services.ingest.ports import Stream
from services.ingest.reception import Reception
from services.ingest.rpc import IngestRpc
from services.ingest.settings import Settings
from services.ingest.worker import Gatherer
from tocsin.alerts.v1 import alert_service_pb2
from tocsin.logs.v1 import log_ingest_service_pb2
from tocsin.notifications.v1 import notification_service_pb2
from tocsin.rules.v1 import alert_rule_service_pb2

# What the edge's reflection lists: the public services of the whole mesh.
_PUBLIC = tuple(
    service.full_name
    for file in (
        log_ingest_service_pb2,
        alert_rule_service_pb2,
        alert_service_pb2,
        notification_service_pb2,
        health_pb2,
    )
    for service in file.DESCRIPTOR.services_by_name.values()
)


@asynccontextmanager
async def app(settings: Settings) -> AsyncIterator[None]:
    """Take log events in until the end of the block."""
    health = Health("ingest")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(admin_server(settings.process.admin_listen, health))
        kafka = await stack.enter_async_context(
            producer(
                settings.kafka,
                f"ingest-{settings.process.instance}",
                dependency=health.dependency("kafka"),
                max_bytes=settings.max_inflight_bytes,
            )
        )
        rpc = _rpc(settings, KafkaStream(kafka))
        await stack.enter_async_context(grpc_server(settings.process, [rpc.mount()], health, edge_services=_PUBLIC))
        await stack.enter_async_context(serving(health, settings.process.shutdown_delay))
        yield


def _rpc(settings: Settings, stream: Stream) -> IngestRpc:
    budget, clock, wire, judge = (
        Budget(settings.max_inflight_bytes),
        SystemClock(),
        ProtobufWire(),
        Judge(settings.limits),
    )
    reception = Reception(settings.max_receiving)
    metrics = Metrics(in_flight=lambda: budget.taken, receiving=lambda: reception.count)
    handover = Handover(stream, budget, clock, metrics)
    gatherer = Gatherer(
        wire=wire,
        judge=judge,
        limits=settings.limits,
        handover=handover,
        policy=settings.gathering,
        clock=clock,
        metrics=metrics,
    )
    batches = Batches(wire=wire, judge=judge, limits=settings.limits, handover=handover, clock=clock, metrics=metrics)
    return IngestRpc(
        wire=wire,
        limits=settings.limits,
        reception=reception,
        handover=handover,
        gatherer=gatherer,
        batches=batches,
    )
