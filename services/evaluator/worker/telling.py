"""Telling the world what was decided: first `alerts`, then `window-state`, in the order of each group."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import structlog
from opentelemetry.trace import SpanKind

from services.chassis.backoff import Backoff
from services.chassis.failures import Failure
from services.chassis.telemetry import carrier, context_of, continuing, links_of, tracer
from services.evaluator.core.transition import Transition
from services.evaluator.metrics import Metrics
from services.evaluator.ports import StateStore, TransitionSink

log = structlog.get_logger()

# A transition, and the partition of `window-partials` that it comes from.
Decided = tuple[int, Transition]


class Teller:
    """Delivers transitions, however long it takes: nothing may be committed before."""

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

    async def tell(self, decided: Iterable[Decided]) -> bool:
        """Deliver all; False when the service stops before Kafka has them."""
        for wave in waves(decided):
            if not await self._tell_wave(wave):
                return False
        return True

    async def _tell_wave(self, wave: list[Decided]) -> bool:
        attempt = 0
        while not self._is_stopping():
            try:
                await self._alerts.send([transition for _, transition in wave])
                # Only now: a state that says more than `alerts` would hide an alert from a replay.
                await self._states.save(wave)
            except Failure as failure:
                log.warning("transitions_delayed", reason=failure.reason, transitions=len(wave))
                await asyncio.sleep(self._retry.delay(attempt).total_seconds())
                attempt += 1
            else:
                self._note(wave)
                return True
        return False

    def _note(self, wave: list[Decided]) -> None:
        for _, transition in wave:
            self._metrics.transition(transition.reason)
            with continuing([("traceparent", transition.traceparent)]):
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


def waves(decided: Iterable[Decided]) -> Iterator[list[Decided]]:
    """Cut transitions into runs in which each rule's group occurs once, so a failure cannot change their order."""
    wave: list[Decided] = []
    seen: set[object] = set()
    for partition, transition in decided:
        name = transition.rule_id, transition.group
        if name in seen:
            yield wave
            wave, seen = [], set()
        wave.append((partition, transition))
        seen.add(name)
    if wave:
        yield wave


def traced(transition: Transition, flush: str) -> Transition:
    """Give the step a span: it continues the trace of the record that decided, and links to the flush between."""
    parent = context_of([("traceparent", transition.traceparent)])
    links = links_of([[("traceparent", flush)]])
    attributes = {"tocsin.rule": transition.rule_name, "tocsin.transition": transition.id}
    with tracer(__name__).start_as_current_span(
        "judge", context=parent, links=links, kind=SpanKind.CONSUMER, attributes=attributes
    ):
        return replace(transition, traceparent=carrier().get("traceparent", ""))
