"""Single events, gathered for a few milliseconds so that they go to Kafka together."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from opentelemetry import trace

from services.chassis import telemetry
from services.chassis.clock import Clock
from services.chassis.failures import Failure, InvalidRequest, MalformedMessage, Violation
from services.ingest.core.adjusting import Change
from services.ingest.core.checks import Field
from services.ingest.core.gathering import Gathering, Step
from services.ingest.core.limits import Limits
from services.ingest.core.verdict import Findings, Judge, Verdict, reason
from services.ingest.handover import Handover, Hold
from services.ingest.metrics import Metrics
from services.ingest.ports import UnreadableError, Wire

_NOTHING_FOUND: Mapping[Field, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """One caller: a batch of one event, and where the answer goes."""

    batch: bytes
    hold: Hold
    span: trace.Span
    answer: asyncio.Future[frozenset[Change]]
    changes: frozenset[Change]
    found: Mapping[Field, str]


class Gatherer:
    """Gathers, judges together, hands over together, and answers each caller for its own event."""

    def __init__(
        self,
        *,
        wire: Wire,
        judge: Judge,
        limits: Limits,
        handover: Handover,
        policy: Gathering,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._wire = wire
        self._judge = judge
        self._limits = limits
        self._handover = handover
        self._policy = policy
        self._clock = clock
        self._metrics = metrics
        self._waiting: list[_Waiting] = []
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None

    async def take(
        self,
        batch: bytes,
        hold: Hold,
        *,
        changes: frozenset[Change] = frozenset(),
        found: Mapping[Field, str] = _NOTHING_FOUND,
    ) -> frozenset[Change]:
        """Return when Kafka has the one event of the batch; raise InvalidRequest or the stream's failure.

        `changes` were made, and `found` was seen, when the batch was made. Returned is all that was put right.
        """
        answer: asyncio.Future[frozenset[Change]] = asyncio.get_running_loop().create_future()
        span = trace.get_current_span()
        self._add(_Waiting(batch=batch, hold=hold, span=span, answer=answer, changes=changes, found=found))
        return await answer

    def _add(self, one: _Waiting) -> None:
        step = self._step(one)
        if step is Step.MAKE_ROOM:
            self._send()
            step = self._step(one)
        self._waiting.append(one)
        self._size += len(one.batch)
        if step is Step.SEND:
            self._send()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._policy.wait.total_seconds(), self._send)

    def _step(self, one: _Waiting) -> Step:
        return self._policy.step(events=len(self._waiting), size=self._size, incoming=len(one.batch))

    def _send(self) -> None:
        # Who gave up meanwhile was promised nothing.
        together = [each for each in self._waiting if not each.answer.done()]
        if self._timer is not None:
            self._timer.cancel()
        self._waiting, self._size, self._timer = [], 0, None
        if together:
            self._metrics.gathered(len(together))
            self._hand_over(together)

    def _hand_over(self, together: Sequence[_Waiting]) -> None:
        """Never raises: whatever goes wrong is the answer to those whose events these are."""
        try:
            accepted = self._accepted(together)
            if accepted:
                self._append(accepted)
        except UnreadableError:
            self._hand_over_apart(together)
        except Exception as error:  # noqa: BLE001  (a caller that waits must get it; the interceptor knows what to do)
            _fail(together, error)

    def _hand_over_apart(self, together: Sequence[_Waiting]) -> None:
        """One caller's bytes that a reader refuses must not be the others' failure."""
        if len(together) == 1:
            _fail(together, MalformedMessage("the event cannot be read"))
            return
        for each in together:
            self._hand_over([each])

    def _accepted(self, together: Sequence[_Waiting]) -> Sequence[_Waiting]:
        """Answer those whose events are not allowed, and return the others, put right where their values are odd."""
        events = self._wire.events(b"".join([each.batch for each in together]))
        verdict = self._judge.judge(events, self._clock.now())
        put_right = {index: self._adjusted(together[index]) for index in verdict.to_adjust}
        together = [put_right.get(index, each) for index, each in enumerate(together)]
        verdict = self._judge.weigh(verdict, np.array([len(each.batch) for each in together], dtype=np.int64))
        findings = {(index, field): text for index, each in enumerate(together) for field, text in each.found.items()}
        for index, failure in _refusals(verdict, findings).items():
            _fail([together[index]], failure)
        for fault in verdict.first_faults():
            self._metrics.refused(fault.field)
        return [each for each, refused in zip(together, verdict.refused.tolist(), strict=True) if not refused]

    def _adjusted(self, one: _Waiting) -> _Waiting:
        event: Any = self._wire.frames(one.batch)[0].as_py()
        event, changes = self._wire.adjusted(event, self._limits.max_attributes)
        return replace(one, batch=self._wire.batch(event), changes=one.changes | changes)

    def _append(self, accepted: Sequence[_Waiting]) -> None:
        # A call whose trace is not recorded would take the others' traces with it.
        recorded = next((each.span for each in accepted if each.span.is_recording()), accepted[0].span)
        parent = trace.set_span_in_context(recorded)
        links = [trace.Link(each.span.get_span_context()) for each in accepted]
        span = telemetry.tracer(__name__).start_span("log-events gather", parent, trace.SpanKind.PRODUCER, links=links)
        headers = telemetry.trace_headers(trace.set_span_in_context(span))
        try:
            written = self._handover.append(b"".join([each.batch for each in accepted]), headers)
        except Failure as failure:
            _end(span, failure)
            raise
        for each in accepted:
            each.hold.keep_until(written)

        def settled(outcome: asyncio.Future[None]) -> None:
            failure = outcome.exception()
            _end(span, failure)
            if failure is not None:
                _fail(accepted, failure)
                return
            self._metrics.accepted(len(accepted))
            for each in accepted:
                for change in each.changes:
                    self._metrics.adjusted(change, 1)
                if not each.answer.done():
                    each.answer.set_result(each.changes)

        written.add_done_callback(settled)


def _end(span: trace.Span, failure: BaseException | None) -> None:
    if failure is not None:
        span.set_status(trace.StatusCode.ERROR, getattr(failure, "reason", type(failure).__name__))
    span.end()


def _fail(callers: Sequence[_Waiting], failure: BaseException) -> None:
    for each in callers:
        if not each.answer.done():
            each.answer.set_exception(failure)


def _refusals(verdict: Verdict, findings: Findings) -> dict[int, Failure]:
    violations: dict[int, list[Violation]] = {}
    for fault in verdict.faults():
        violations.setdefault(fault.index, []).append(Violation(fault.field.value, reason(fault, findings)))
    return {index: InvalidRequest("the event is not allowed", violations=found) for index, found in violations.items()}
