"""Where the evaluator is put together, and what is opened is closed in reverse."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import grpc

from services.access.audit import TopicAuditSink
from services.access.guarding import guarding
from services.access.key_snapshot import KeySnapshots, ManagerKeySource
from services.chassis.admin_server import admin_server
from services.chassis.clock import SystemClock
from services.chassis.grpc_client import channel
from services.chassis.grpc_server import grpc_server
from services.chassis.health import Health
from services.chassis.kafka import Consumer, DeadLetterPublisher, Producer, partition_count, producer
from services.chassis.lifecycle import serving
from services.chassis.loops import Loop, background, looping
from services.contract.dead_letters import encode_dead_letter
from services.contract.public_services import PUBLIC_SERVICES
from services.contract.topics import LOG_EVENTS, LOG_EVENTS_DEAD_LETTER, MATCH_GROUP, WINDOW_GROUP, WINDOW_PARTIALS
from services.domain.tenants import TenantLimits
from services.evaluator.adapters.alerts import KafkaTransitionSink
from services.evaluator.adapters.log_events import KafkaLogSource
from services.evaluator.adapters.rule_client import RuleCache, RuleClient, RuleReportClient
from services.evaluator.adapters.trace_reports import TraceReportClient
from services.evaluator.adapters.window_partials_sink import KafkaPartialSink
from services.evaluator.adapters.window_partials_source import KafkaPartialSource, partials_start
from services.evaluator.adapters.window_snapshots import KafkaSnapshotStore
from services.evaluator.adapters.window_state import KafkaStateStore
from services.evaluator.core.match.rule_load import Budget
from services.evaluator.core.match.traces import SampledTraces
from services.evaluator.core.rules import RuleSet
from services.evaluator.metrics import Metrics
from services.evaluator.rpc import MOUNTS
from services.evaluator.settings import Settings
from services.evaluator.worker.match import MatchLimits, MatchWorker
from services.evaluator.worker.rule_reporter import RuleReporter
from services.evaluator.worker.rule_supervisor import RuleSupervisor
from services.evaluator.worker.stage_worker import StageWorker
from services.evaluator.worker.window import WindowWorker

# A failed flush is repeated from the start of its blocks, so a slow broker is waited for, as long as a member of a
# group may take between two fetches.
_MESSAGE_TIMEOUT_MS = 120_000
_REPORT_INTERVAL = timedelta(seconds=10)
_TRACE_REPORT_INTERVAL = timedelta(seconds=5)
_LAST_REPORT_TIMEOUT = timedelta(seconds=2)


@asynccontextmanager
async def app(settings: Settings) -> AsyncIterator[None]:
    """Evaluate rules until the end of the block."""
    health = Health("evaluator")
    process = settings.process
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(admin_server(process, health))
        kafka = await stack.enter_async_context(
            producer(
                settings.kafka,
                f"evaluator-{process.instance}",
                dependency=health.dependency("kafka"),
                message_timeout_ms=_MESSAGE_TIMEOUT_MS,
            )
        )
        metrics = Metrics()
        mesh = await stack.enter_async_context(channel(settings.manager_target, process.tls))
        rules = await stack.enter_async_context(_rules(settings, mesh, health, metrics))
        reporter = RuleReporter(
            RuleReportClient(mesh, process.instance),
            metrics.rule_counts,
            lambda: supervisor.problems,
            lambda: str(uuid4()),
        )
        # With a last report at the end, of what the stages counted until they ended.
        reports = Loop(reporter.turn, name="report rules", every=_REPORT_INTERVAL)
        supervisor = _supervisor(settings, metrics, reports.wake)
        keys, sink = KeySnapshots(ManagerKeySource(mesh)), TopicAuditSink(kafka)
        guard = await stack.enter_async_context(guarding(process, keys, sink, SystemClock(), health))
        await stack.enter_async_context(grpc_server(process, MOUNTS, health, guard, PUBLIC_SERVICES))
        await stack.enter_async_context(looping(reports, stop_timeout=_LAST_REPORT_TIMEOUT))
        traces = SampledTraces(settings.trace_sampling)
        trace_reports = TraceReportClient(mesh)
        report_traces = Loop(
            lambda: trace_reports.send(traces.take()), name="report traces", every=_TRACE_REPORT_INTERVAL
        )
        await stack.enter_async_context(looping(report_traces))
        parts = _Parts(settings, kafka, rules, metrics, health, supervisor)
        await stack.enter_async_context(parts.window_stage())
        await stack.enter_async_context(parts.match_stage(traces))
        await stack.enter_async_context(serving(health, process.shutdown_delay))
        yield


def _supervisor(settings: Settings, metrics: Metrics, on_change: Callable[[], None]) -> RuleSupervisor:
    budget = Budget(
        rule_share=settings.rule_cpu_share,
        rules_share=settings.rules_cpu_share,
        period=settings.rule_budget_period,
    )
    return RuleSupervisor(
        clock=SystemClock(), cpu_clock=time.thread_time, metrics=metrics, budget=budget, on_change=on_change
    )


class _Parts:
    """The two stages, each a consumer and its worker."""

    def __init__(
        self,
        settings: Settings,
        kafka: Producer,
        rules: RuleClient,
        metrics: Metrics,
        health: Health,
        supervisor: RuleSupervisor,
    ) -> None:
        self._settings = settings
        self._kafka = kafka
        self._rules = rules
        self._metrics = metrics
        self._health = health
        self._supervisor = supervisor
        self._clock = SystemClock()

    @asynccontextmanager
    async def match_stage(self, traces: SampledTraces) -> AsyncIterator[None]:
        """Match log events, and sample their traces; on the way out flush what was matched."""
        settings = self._settings
        outputs = await partition_count(settings.kafka, WINDOW_PARTIALS)
        async with self._consumer(LOG_EVENTS, MATCH_GROUP).joined() as consumer:
            worker = MatchWorker(
                source=KafkaLogSource(consumer),
                sink=KafkaPartialSink(self._kafka, outputs),
                dead_letters=DeadLetterPublisher(
                    producer=self._kafka, encode=encode_dead_letter, clock=self._clock, topic=LOG_EVENTS_DEAD_LETTER
                ),
                rules=self._rules,
                metrics=self._metrics,
                clock=self._clock,
                limits=MatchLimits(fetch_records=settings.fetch_records, flush=settings.flush, idle=settings.idle),
                supervisor=self._supervisor,
                traces=traces,
                cpu_clock=time.process_time,
            )
            async with self._running(worker, "match"):
                yield

    @asynccontextmanager
    async def window_stage(self) -> AsyncIterator[None]:
        """Judge windows; on the way out commit what was published."""
        settings = self._settings
        async with self._consumer(WINDOW_PARTIALS, WINDOW_GROUP, start_of=partials_start).joined() as consumer:
            worker = WindowWorker(
                source=KafkaPartialSource(consumer),
                states=KafkaStateStore(settings.kafka, self._kafka),
                snapshots=KafkaSnapshotStore(settings.kafka, self._kafka),
                alerts=KafkaTransitionSink(self._kafka),
                rules=self._rules,
                metrics=self._metrics,
                clock=self._clock,
                commit=settings.commit,
                idle=settings.idle,
                max_groups=settings.max_groups,
                tenant_groups=TenantLimits.parse(settings.tenant_groups),
            )
            async with self._running(worker, "window"):
                yield

    def _consumer(self, topic: str, group: str, **further: Any) -> Consumer:
        return Consumer(
            self._settings.kafka,
            topic=topic,
            group=group,
            instance=self._settings.process.instance,
            is_cooperative=True,
            dependency=self._health.dependency("kafka"),
            **further,
        )

    def _running(self, worker: StageWorker, name: str) -> AbstractAsyncContextManager[None]:
        # Each of the two stages may take half of the time in which the service must end.
        return background(worker.run(), name=name, stop=worker.stop, stop_timeout=self._settings.process.drain / 2)


@asynccontextmanager
async def _rules(
    settings: Settings, mesh: grpc.aio.Channel, health: Health, metrics: Metrics
) -> AsyncIterator[RuleClient]:
    """Load the rules: from the cache at once, from the manager as soon as it answers."""
    loaded = health.dependency("rules")

    def on_change(rules: RuleSet) -> None:
        loaded.up()
        metrics.rules(rules)

    client = RuleClient(RuleCache(settings.cache_dir), on_change)
    await client.load_cache()
    manager = health.dependency("manager", required=False)
    async with background(client.watch(mesh, manager), name="watch rules"):
        yield client
