"""Consumes the evaluator's transitions: what changed, its history and what to tell, committed together."""

from collections import Counter
from collections.abc import Collection, Sequence

import structlog
from google.protobuf.message import DecodeError
from opentelemetry import trace

from services.chassis.clock import Clock
from services.chassis.failures import StoreConflict
from services.chassis.kafka import Record, UnreadableRecordError
from services.chassis.telemetry import context_of, in_trace_of, links_of, trace_headers, tracer
from services.domain.alert import Fired, Reason
from services.manager.core.commands.change import Change
from services.manager.core.commands.transitions import Outcome, Transition, decide
from services.manager.metrics import Metrics
from services.manager.ports.commands import Claims, Headers, OpenAlertExistsError, Store
from services.manager.wire.alerts import UnusableRecordError, transition
from tocsin.alerts.v1.alert_pb2 import AlertTransition

log = structlog.get_logger()

# What a guessed "there is no open alert" is good for; anything else must have looked.
_PLAIN = frozenset({Reason.FIRED, Reason.DELIVERED_AGAIN})


class TransitionWorker:
    """Handles batches of the topic `alerts`; doing one twice changes nothing."""

    def __init__(self, store: Store, claims: Claims, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._claims = claims
        self._clock = clock
        self._metrics = metrics

    async def handle(self, records: Sequence[Record]) -> None:
        """Do a batch. Raises UnreadableRecordError for what is no transition, StoreUnavailable and StoreConflict."""
        transitions = [_decoded(record) for record in records]
        with tracer(__name__).start_as_current_span(
            "alerts process", links=links_of(record.headers for record in records), kind=trace.SpanKind.CONSUMER
        ):
            new = await self._claims.claim(_claimable(transitions))
            outcomes = await self._record(transitions, records, new)
            await self._claims.release(_over(outcomes))
        self._report(outcomes, records)

    async def _record(
        self, transitions: Sequence[Transition], records: Sequence[Record], guess: Collection[str]
    ) -> list[Outcome]:
        if guess:
            try:
                outcomes = await self._record_once(transitions, records, guess)
            except OpenAlertExistsError:
                self._metrics.guessed(is_right=False)
            else:
                self._metrics.guessed(is_right=True)
                return outcomes
        try:
            return await self._record_once(transitions, records, ())
        except OpenAlertExistsError as error:
            raise StoreConflict("another instance has the same alerts; try again") from error

    async def _record_once(
        self, transitions: Sequence[Transition], records: Sequence[Record], guess: Collection[str]
    ) -> list[Outcome]:
        async with self._store.writing() as writing:
            book = await writing.alerts.book(transitions, expected_new=guess)
            _, outcomes = decide(book, transitions, self._clock.now())
            if any(each.transition.open_key in guess and each.reason not in _PLAIN for each in outcomes):
                raise OpenAlertExistsError
            await writing.alerts.save(_traced(outcomes, records))
        return outcomes

    def _report(self, outcomes: Sequence[Outcome], records: Sequence[Record]) -> None:
        now = self._clock.now()
        for outcome, record in zip(outcomes, records, strict=True):
            seconds = (now - outcome.transition.verdict.time).total_seconds()
            self._metrics.transition(outcome.reason, seconds)
            with in_trace_of(record.headers):
                log.info(
                    "transition_recorded",
                    reason=outcome.reason.value,
                    transition=outcome.transition.id,
                    rule_id=outcome.transition.subject.rule_id,
                    alert_id=outcome.change.alert.id if outcome.change else None,
                )


def _decoded(record: Record) -> Transition:
    try:
        return transition(AlertTransition.FromString(record.value))
    except DecodeError:
        raise UnreadableRecordError(record, "UNREADABLE_TRANSITION") from None
    except UnusableRecordError as error:
        log.warning("transition_unusable", problem=str(error), partition=record.partition, offset=record.offset)
        raise UnreadableRecordError(record, "UNUSABLE_TRANSITION") from None


def _claimable(transitions: Sequence[Transition]) -> list[str]:
    """Open keys of which one firing alone is in the batch: only there is a guess worth something."""
    times = Counter(each.open_key for each in transitions)
    return [each.open_key for each in transitions if isinstance(each.word, Fired) and times[each.open_key] == 1]


def _over(outcomes: Sequence[Outcome]) -> list[str]:
    """Open keys whose alert has ended with this batch."""
    last = {each.transition.open_key: each.change for each in outcomes if each.change is not None}
    return [key for key, change in last.items() if not change.alert.life.is_open]


def _traced(outcomes: Sequence[Outcome], records: Sequence[Record]) -> list[tuple[Change, Headers]]:
    """Each change with a span that goes on where its record's trace stands."""
    found: list[tuple[Change, Headers]] = []
    for outcome, record in zip(outcomes, records, strict=True):
        if outcome.change is None:
            continue
        with tracer(__name__).start_as_current_span(
            f"alert {outcome.reason.value}",
            context=context_of(record.headers),
            links=links_of([trace_headers()]),
            attributes={
                "tocsin.alert.id": outcome.change.alert.id,
                "tocsin.rule.id": outcome.transition.subject.rule_id,
            },
        ):
            found += [(change, trace_headers()) for change in outcome.changes]
    return found
