"""Publish what was decided: first to `alerts`, then to `window-state`, in the order of each group."""

from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import NamedTuple

import structlog
from opentelemetry.trace import SpanKind

from services.chassis.backoff import Backoff, failure_reason, retrying
from services.chassis.failures import Failure
from services.chassis.telemetry import context_of, in_trace_of, links_of, trace_headers, tracer
from services.domain.trace_context import headers_of, traceparent_of
from services.evaluator.core.records import Group, Transition
from services.evaluator.metrics import Metrics
from services.evaluator.ports import StateStore, TransitionSink

log = structlog.get_logger()

# How many transitions are sent at once; the size of one of them is bounded.
MAX_TRANSITIONS = 500


class PendingTransition(NamedTuple):
    """A transition, its partition of `window-partials`, and the traceparent of the flush that caused it."""

    partition: int
    transition: Transition
    flush: str = ""


class Backlog:
    """Transitions that are not published yet: rules take turns, the transitions of each group stay in order."""

    def __init__(self) -> None:
        self._by_rule: dict[str, deque[PendingTransition]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_rule.values()))

    def add(self, transitions: Iterable[PendingTransition]) -> None:
        """Append transitions."""
        for pending in transitions:
            self._by_rule.setdefault(pending.transition.rule_id, deque()).append(pending)

    def discard(self, partitions: Collection[int]) -> None:
        """Drop the transitions of these partitions: who resumes a partition decides them again."""
        kept = {
            rule_id: deque(pending for pending in queue if pending.partition not in partitions)
            for rule_id, queue in self._by_rule.items()
        }
        self._by_rule = {rule_id: queue for rule_id, queue in kept.items() if queue}

    def partitions(self) -> set[int]:
        """Return the partitions of all transitions."""
        return {pending.partition for queue in self._by_rule.values() for pending in queue}

    def next_batch(self, limit: int = MAX_TRANSITIONS) -> list[PendingTransition]:
        """Take out the next transitions, one of each rule and group: a failure cannot change their order."""
        batch: list[PendingTransition] = []
        groups: set[tuple[str, Group]] = set()
        turns = deque(self._by_rule.items())
        while turns and len(batch) < limit:
            rule_id, queue = turns.popleft()
            group = rule_id, queue[0].transition.group
            if group in groups:
                continue
            groups.add(group)
            batch.append(queue.popleft())
            if queue:
                turns.append((rule_id, queue))
            else:
                del self._by_rule[rule_id]
        # Rules that had no turn are first in the next batch.
        self._by_rule = dict(turns) | self._by_rule
        return batch


class TransitionPublisher:
    """Publishes transitions batch by batch, however long it takes: nothing may be committed before."""

    def __init__(
        self,
        *,
        alerts: TransitionSink,
        states: StateStore,
        metrics: Metrics,
        is_stopping: Callable[[], bool],
        backoff: Backoff = Backoff(),
    ) -> None:
        self._alerts = alerts
        self._states = states
        self._metrics = metrics
        self._is_stopping = is_stopping
        self._backoff = backoff
        self.backlog = Backlog()

    async def publish(self) -> None:
        """Publish one batch. If the service stops before Kafka has it, it stays in the backlog."""
        batch = [_trace(pending) for pending in self.backlog.next_batch()]
        if batch and not await self._deliver(batch):
            self.backlog.add(batch)

    async def _deliver(self, batch: list[PendingTransition]) -> bool:
        async def send() -> None:
            await self._alerts.send([pending.transition for pending in batch])
            # Only now: a state that is ahead of `alerts` would hide an alert from a replay.
            await self._states.save([(pending.partition, pending.transition) for pending in batch])

        if self._is_stopping():
            return False
        try:
            await retrying(
                send,
                log_event="transitions_delayed",
                backoff=self._backoff,
                retry_reason=failure_reason,
                is_stopping=self._is_stopping,
                transitions=len(batch),
            )
        except Failure:
            return False
        for _, transition, _ in batch:
            self._metrics.transition(transition)
            _log_published(transition)
        return True


def _log_published(transition: Transition) -> None:
    with in_trace_of(headers_of(transition.traceparent)):
        log.info(
            "transition_published",
            state=transition.state.name,
            transition=transition.id,
            rule_id=transition.rule_id,
            rule=transition.rule_name,
            resource=transition.resource,
            reason=transition.reason.value,
            count=transition.window.count,
        )


def _trace(pending: PendingTransition) -> PendingTransition:
    """Give the transition a span: it continues the trace of the deciding record, and links to the flush between."""
    transition = pending.transition
    parent = context_of(headers_of(transition.traceparent))
    links = links_of([headers_of(pending.flush)])
    attributes = {"tocsin.rule": transition.rule_name, "tocsin.transition": transition.id}
    with tracer(__name__).start_as_current_span(
        "judge", context=parent, links=links, kind=SpanKind.CONSUMER, attributes=attributes
    ):
        traced = replace(transition, traceparent=traceparent_of(trace_headers()))
    return pending._replace(transition=traced)
