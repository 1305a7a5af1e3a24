"""Where ingest is put together; what is opened is closed in reverse order."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from services.access.audit import TopicAuditSink
from services.access.guarding import guarding
from services.access.key_snapshot import KeySnapshots, ManagerKeySource
from services.chassis.admin_server import admin_server
from services.chassis.clock import SystemClock
from services.chassis.grpc_client import channel
from services.chassis.grpc_server import grpc_server
from services.chassis.health import Health
from services.chassis.kafka import producer
from services.chassis.lifecycle import serving
from services.chassis.receive_limiter import ReceiveLimiter
from services.contract.public_services import PUBLIC_SERVICES
from services.domain.tenants import TenantLimits
from services.ingest.adapters.wire import ProtobufWire
from services.ingest.core.event_checker import EventChecker
from services.ingest.core.event_rates import EventRates
from services.ingest.core.redaction import Redact, redact_nothing
from services.ingest.metrics import Metrics
from services.ingest.ports import EventProducer
from services.ingest.rpc.batch_handler import BatchHandler
from services.ingest.rpc.columns_handler import ColumnsHandler
from services.ingest.rpc.log_ingest import LogIngest
from services.ingest.rpc.rate_limiter import RateLimiter
from services.ingest.settings import Settings
from services.ingest.worker.batch_joiner import BatchJoiner
from services.ingest.worker.batcher import Batcher
from services.ingest.worker.event_pipeline import EventPipeline
from services.ingest.worker.event_redactor import EventRedactor
from services.ingest.worker.publisher import InFlightBytes, Publisher
from services.redaction.settings import read_patterns
from tocsin.logs.v1.log_event_pb2 import EventColumns


@asynccontextmanager
async def app(settings: Settings) -> AsyncIterator[None]:
    """Accept log events until the end of the block."""
    redact = chosen_redact(settings)
    health = Health("ingest")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(admin_server(settings.process, health))
        kafka = await stack.enter_async_context(
            producer(
                settings.kafka,
                f"ingest-{settings.process.instance}",
                dependency=health.dependency("kafka"),
                max_bytes=settings.max_inflight_bytes,
                # The events in a record are compressed already.
                compression_type="none",
                # Events have waited for others before they became a record.
                linger_ms=0,
            )
        )
        rpc = _rpc(settings, kafka, redact)
        mesh = await stack.enter_async_context(channel(settings.manager_target, settings.process.tls))
        keys, sink = KeySnapshots(ManagerKeySource(mesh)), TopicAuditSink(kafka)
        guard = await stack.enter_async_context(guarding(settings.process, keys, sink, SystemClock(), health))
        await stack.enter_async_context(
            grpc_server(settings.process, [rpc.mount()], health, guard, PUBLIC_SERVICES, settings.gateway_socket)
        )
        await stack.enter_async_context(serving(health, settings.process.shutdown_delay))
        yield


def chosen_redact(settings: Settings) -> Redact:
    """Return what masks secrets; load and compile only what the settings name."""
    if not settings.redact and not settings.redact_patterns_file:
        return redact_nothing
    # Hyperscan and RE2 take 20 MB and a tenth of a second.
    from services.ingest.core.redactor import Redactor  # noqa: PLC0415

    patterns = read_patterns(settings.redact_patterns_file)
    return Redactor(settings.redact, patterns, max_message_bytes=settings.max_message_bytes).redact


def _rpc(settings: Settings, kafka: EventProducer, redact: Redact) -> LogIngest:
    clock = SystemClock()
    in_flight, receive_limiter = InFlightBytes(settings.max_inflight_bytes), ReceiveLimiter(settings.max_receiving)
    metrics = Metrics(in_flight=lambda: in_flight.reserved, receiving=lambda: receive_limiter.receiving)
    rates = EventRates(TenantLimits.parse(settings.tenant_events_per_second))
    pipeline = EventPipeline(
        wire=ProtobufWire(EventColumns.Compression.Value(settings.compression.upper())),
        redactor=EventRedactor(metrics, redact),
        checker=EventChecker(settings.limits),
        clock=clock,
        publisher=Publisher(kafka, in_flight, clock, metrics, rates),
        metrics=metrics,
    )
    batches = BatchHandler(pipeline, BatchJoiner(pipeline, settings.join_policy))
    return LogIngest(
        pipeline=pipeline,
        rate_limiter=RateLimiter(rates, clock),
        receive_limiter=receive_limiter,
        batcher=Batcher(pipeline, settings.batch_policy),
        batches=batches,
        columns=ColumnsHandler(
            batches=batches,
            publisher=pipeline.publisher,
            limits=settings.limits,
            max_stream_bytes=settings.max_stream_bytes,
        ),
    )
