"""The match worker with everything around it."""

import json
from datetime import timedelta

from services.chassis.backoff import Backoff
from services.chassis.kafka import CommittedOffset, Rebalance, Record
from services.evaluator.adapters.log_events import LogDecoder
from services.evaluator.core.match.rule_load import Budget
from services.evaluator.core.match.traces import SampledTraces
from services.evaluator.core.rules import RuleSet
from services.evaluator.metrics import Metrics
from services.evaluator.ports import LogFetch
from services.evaluator.worker.match import MatchLimits, MatchWorker
from services.evaluator.worker.rule_supervisor import RuleSupervisor
from services.rule_language.rule import Rule
from tests.fakes.clock import FakeClock
from tests.fakes.evaluator import NOW, MemoryDeadLetters, MemoryLog, MemoryPartials, MemoryRules
from tests.unit.evaluator.pipeline import rule
from tocsin.logs.v1.log_event_pb2 import LogBatch, LogEvent

AT_ONCE = Backoff(first_delay=timedelta(), max_delay=timedelta())

GOOD = LogBatch(events=[LogEvent(service="a", level=LogEvent.ERROR, message="no")]).SerializeToString()

NEW = rule("new", "count > threshold", revision=2, selection_revision=2)


class Loop:
    """The worker with everything around it."""

    def __init__(self, *rules: Rule) -> None:
        self.log, self.partials, self.letters = MemoryLog(), MemoryPartials(), MemoryDeadLetters()
        self.rules = MemoryRules(RuleSet.of(1, rules or [rule("count", "count > threshold")]))
        self.clock, self.metrics = FakeClock(NOW), Metrics()
        self.metrics.rules(self.rules.current)
        self.traces = SampledTraces(1)
        # Seconds of CPU that the process has taken.
        self.cpu_s = 0.0
        self.worker = MatchWorker(
            source=self.log,
            sink=self.partials,
            dead_letters=self.letters,
            rules=self.rules,
            metrics=self.metrics,
            clock=self.clock,
            limits=MatchLimits(fetch_records=48, flush=timedelta(milliseconds=100), idle=timedelta(seconds=10)),
            supervisor=RuleSupervisor(
                clock=self.clock, cpu_clock=self.clock.monotonic, metrics=self.metrics, budget=Budget()
            ),
            traces=self.traces,
            cpu_clock=lambda: self.cpu_s,
            backoff=AT_ONCE,
        )

    async def bring(
        self,
        *values: bytes,
        first: int = 0,
        assigned: int | None = None,
        metadata: str = "",
        revoked: bool = False,
        seconds: float = 2,
    ) -> None:
        """One fetch, and the flush that follows it if it is time."""
        records = [
            Record("log-events", 0, first + number, None, value, (), int(NOW.timestamp() * 1000))
            for number, value in enumerate(values)
        ]
        events, unreadable = LogDecoder().decode(records)
        offsets = () if assigned is None else (CommittedOffset(partition=0, offset=assigned, metadata=metadata),)
        rebalance = Rebalance(revoked=(0,) if revoked else (), assigned=offsets)
        self.log.fetches.append(
            LogFetch(rebalance=rebalance, records=tuple(records), events=events, unreadable=unreadable)
        )
        self.clock.advance(timedelta(seconds=seconds))
        await self.worker.turn()

    def committed(self) -> list[tuple[int, int]]:
        """Return the offset of each commit, and up to which one its metadata say that rows were sent."""
        return [(each.offset, json.loads(each.metadata)["up_to"]) for each in self.log.commits]

    @property
    def now(self) -> float:
        return self.clock.now().timestamp()

    def flushed(self) -> list[tuple[int, int, int, int]]:
        """Return block, previous, up_to and how many rows each flush stands for."""
        return [
            (
                batch.blocks[0].progress.block,
                batch.blocks[0].progress.previous_up_to,
                batch.blocks[0].progress.up_to,
                int(batch.rows.sharers.sum()),
            )
            for _, batch in self.partials.written
        ]
