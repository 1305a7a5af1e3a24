"""Telling the world what was decided: first `alerts`, then `window-state`, in the order of each group."""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import NamedTuple

import structlog
from opentelemetry.trace import SpanKind

from services.chassis.backoff import Backoff
from services.chassis.failures import Failure
from services.chassis.telemetry import context_of, in_trace_of, links_of, trace_headers, tracer
from services.domain.trace_context import headers_of, traceparent_of
from services.evaluator.core.records import Transition
from services.evaluator.metrics import Metrics
from services.evaluator.ports import StateStore, TransitionSink

log = structlog.get_logger()

# How many transitions are sent at once; what one of them may hold is bounded.
MAX_TRANSITIONS = 500


class PendingTransition(NamedTuple):
    """A transition, the partition of `window-partials` that it comes from, and the flush that made it so."""

    partition: int
    transition: Transition
    flush: str = ""


class Backlog:
    """What was decided and is not told yet: rules take turns, each group's transitions stay in order."""

    def __init__(self) -> None:
        self._by_rule: dict[str, deque[PendingTransition]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_rule.values()))

    def add(self, decided: Iterable[PendingTransition]) -> None:
        """Put transitions behind those that are there."""
        for each in decided:
            self._by_rule.setdefault(each.transition.rule_id, deque()).append(each)

    def discard(self, partitions: Collection[int]) -> None:
        """Let go of these partitions' transitions: who takes a partition up decides them again."""
        kept = {rule_id: deque(d for d in queue if d.partition not in partitions) for rule_id, queue in self._all()}
        self._by_rule = {rule_id: queue for rule_id, queue in kept.items() if queue}

    def partitions(self) -> set[int]:
        """Say which partitions have something here."""
        return {each.partition for _, queue in self._all() for each in queue}

    def next_batch(self, most: int = MAX_TRANSITIONS) -> list[PendingTransition]:
        """Take out what is told next, in which each rule's group occurs once: a failure cannot change their order."""
        wave: list[PendingTransition] = []
        seen: set[object] = set()
        turns = deque(self._all())
        while turns and len(wave) < most:
            rule_id, queue = turns.popleft()
            name = rule_id, queue[0].transition.group
            if name in seen:
                continue
            seen.add(name)
            wave.append(queue.popleft())
            if queue:
                turns.append((rule_id, queue))
            else:
                del self._by_rule[rule_id]
        # Who had no turn in this wave is first in the next.
        self._by_rule = dict(turns) | self._by_rule
        return wave

    def _all(self) -> Iterable[tuple[str, deque[PendingTransition]]]:
        return self._by_rule.items()


class TransitionPublisher:
    """Delivers transitions wave by wave, however long it takes: nothing may be committed before."""

    def __init__(
        self,
        *,
        alerts: TransitionSink,
        states: StateStore,
        metrics: Metrics,
        is_stopping: Callable[[], bool],
        retry: Backoff = Backoff(),
    ) -> None:
        self._alerts = alerts
        self._states = states
        self._metrics = metrics
        self._is_stopping = is_stopping
        self._retry = retry
        self.backlog = Backlog()

    async def publish(self) -> None:
        """Deliver one wave. When the service stops before Kafka has it, the wave stays in the backlog."""
        wave = [_traced(each) for each in self.backlog.next_batch()]
        if wave and not await self._deliver(wave):
            self.backlog.add(wave)

    async def _deliver(self, wave: list[PendingTransition]) -> bool:
        attempt = 0
        while not self._is_stopping():
            try:
                await self._alerts.send([each.transition for each in wave])
                # Only now: a state that says more than `alerts` would hide an alert from a replay.
                await self._states.save([(each.partition, each.transition) for each in wave])
            except Failure as failure:
                log.warning("transitions_delayed", reason=failure.reason, transitions=len(wave))
                await asyncio.sleep(self._retry.delay(attempt).total_seconds())
                attempt += 1
            else:
                self._note(wave)
                return True
        return False

    def _note(self, wave: list[PendingTransition]) -> None:
        for _, transition, _ in wave:
            self._metrics.transition(transition.reason)
            with in_trace_of(headers_of(transition.traceparent)):
                log.info(
                    "group_moved",
                    state=transition.state.name,
                    transition=transition.id,
                    rule_id=transition.rule_id,
                    rule=transition.rule_name,
                    resource=transition.resource,
                    reason=transition.reason.value,
                    count=transition.window.count,
                )


def _traced(decided: PendingTransition) -> PendingTransition:
    """Give the step a span: it continues the trace of the record that decided, and links to the flush between."""
    transition = decided.transition
    parent = context_of(headers_of(transition.traceparent))
    links = links_of([headers_of(decided.flush)])
    attributes = {"tocsin.rule": transition.rule_name, "tocsin.transition": transition.id}
    with tracer(__name__).start_as_current_span(
        "judge", context=parent, links=links, kind=SpanKind.CONSUMER, attributes=attributes
    ):
        traced = replace(transition, traceparent=traceparent_of(trace_headers()))
    return decided._replace(transition=traced)
