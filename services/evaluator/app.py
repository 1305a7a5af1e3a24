"""Puts the evaluator together."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial

from services.chassis.clock import SystemClock
from services.chassis.grpc_client import channel
from services.chassis.grpc_server import grpc_server
from services.chassis.health import Health, admin_server
from services.chassis.kafka import producer
from services.chassis.lifecycle import serving
from services.chassis.loops import Loop, background, looping
from services.contract.topics import LOG_EVENTS, MATCH_GROUP, WINDOW_GROUP, WINDOW_PARTIALS
from services.evaluator.adapters.kafka import (
    KafkaDeadLetters,
    KafkaLogSource,
    KafkaPartialSink,
    KafkaPartialSource,
    KafkaTransitionSink,
)
from services.evaluator.adapters.member import Member
from services.evaluator.adapters.rule_client import RuleBook, RuleCopy, follow
from services.evaluator.adapters.state_store import KafkaStateStore
from services.evaluator.adapters.topic import partitions_of
from services.evaluator.core.rules import RuleSet
from services.evaluator.metrics import Metrics
from services.evaluator.rpc import MOUNTS
from services.evaluator.settings import Settings
from services.evaluator.worker.match import MatchWorker, Pace
from services.evaluator.worker.window import WindowWorker

# A flush that fails is done again from the start of its blocks, so a broker that is slow is waited for, as long as a
# member of a group may take between two fetches.
_PATIENCE_MS = 120_000
_LAG_EVERY = timedelta(seconds=1)


@asynccontextmanager
async def app(settings: Settings) -> AsyncIterator[None]:
    """Open everything in order; close it in reverse."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        process, kafka = settings.process, settings.kafka
        health = Health("evaluator")
        await enter(admin_server(process.admin_listen, health))
        await enter(grpc_server(process, MOUNTS, health))
        metrics, clock = Metrics(), SystemClock()
        book = await enter(_rules(settings, health, metrics))
        stream = await enter(
            producer(
                kafka,
                f"evaluator@{process.instance}",
                dependency=health.dependency("kafka"),
                message_timeout_ms=_PATIENCE_MS,
            )
        )
        outputs = await partitions_of(kafka, WINDOW_PARTIALS)
        states = KafkaStateStore(kafka, stream)
        windows = await enter(
            Member(kafka, topic=WINDOW_PARTIALS, group=WINDOW_GROUP, instance=process.instance).joined()
        )
        events = await enter(Member(kafka, topic=LOG_EVENTS, group=MATCH_GROUP, instance=process.instance).joined())
        window = WindowWorker(
            source=KafkaPartialSource(windows),
            states=states,
            alerts=KafkaTransitionSink(stream),
            rules=book,
            metrics=metrics,
            clock=clock,
            commit=settings.commit,
            idle=settings.idle,
        )
        match = MatchWorker(
            source=KafkaLogSource(events),
            sink=KafkaPartialSink(stream, outputs),
            dead_letters=KafkaDeadLetters(stream, clock.now),
            rules=book,
            metrics=metrics,
            clock=clock,
            pace=Pace(fetch_records=settings.fetch_records, flush=settings.flush, idle=settings.idle),
        )
        within = process.drain / 2
        await enter(background(window.run(), name="window", stop=window.stop, stop_timeout=within))
        await enter(background(match.run(), name="match", stop=match.stop, stop_timeout=within))
        lags = partial(_report_lags, {"match": events, "window": windows}, metrics)
        await enter(looping(Loop(lags, name="lags", every=_LAG_EVERY)))
        await enter(serving(health, process.shutdown_delay))
        yield


@asynccontextmanager
async def _rules(settings: Settings, health: Health, metrics: Metrics) -> AsyncIterator[RuleBook]:
    """Know the rules: from the copy at once, from the manager as soon as it answers."""
    known = health.dependency("rules")

    def changed(rules: RuleSet) -> None:
        known.up()
        metrics.rules(len(rules.rules), len(rules.refused))

    book = RuleBook(RuleCopy(settings.cache_dir), changed)
    await book.open_copy()
    async with channel(settings.manager_target) as mesh:
        manager = health.dependency("manager", required=False)
        async with background(follow(mesh, book, manager), name="follow rules"):
            yield book


async def _report_lags(members: Mapping[str, Member], metrics: Metrics) -> None:
    for stage, member in members.items():
        metrics.lags(stage, await member.lags())
