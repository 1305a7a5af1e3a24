"""Consume the evaluator's transitions: alerts, their incidents, histories and notifications, committed together."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import structlog
from google.protobuf.message import DecodeError
from opentelemetry import trace

from services.chassis.clock import Clock
from services.chassis.failures import StoreConflict
from services.chassis.kafka import Record, UnreadableRecordError
from services.chassis.telemetry import context_of, in_trace_of, links_of, trace_headers, tracer
from services.chassis.tenants import PerTenant, as_tenant, is_tenant_name
from services.contract.timestamps import datetime_of
from services.domain.fingerprint import open_key
from services.domain.severity import Severity
from services.domain.tenants import read_tenant
from services.domain.trace_context import TraceHeaders, traceparent_of
from services.manager.core.alert import AlertSubject
from services.manager.core.alert_changes import AlertChange
from services.manager.core.alert_lifecycle import AlertReason, Ended, Evaluation, Fired, Observation
from services.manager.core.transitions import ReceivedTransition, TransitionContext, TransitionOutcome, decide
from services.manager.messages.alerts import UnusableRecordError
from services.manager.metrics import Metrics
from services.manager.ports.feeds import DedupCache, SilenceFeed
from services.manager.ports.incidents import TracedAlert
from services.manager.ports.tables import OpenAlertExistsError, Store, Transaction
from services.manager.worker.canaries import forward_canaries, is_canary
from services.manager.worker.incidents import IncidentWorker
from services.manager.worker.labels import TransitionLabels
from tocsin.alerts.v1.alert_pb2 import Alert, AlertTransition

log = structlog.get_logger()

_SEVERITIES = frozenset(map(int, Severity))
# The outcomes that may be decided from a guess that no alert is open; any other must have looked.
_DECIDED_BY_GUESS = frozenset({AlertReason.FIRED, AlertReason.DUPLICATE})


class TransitionWorker:
    """Processes batches of the topic `alerts`; a batch that comes again changes nothing.

    The dedup cache guesses which firings open a new alert, so that their open alerts need not be read. The database
    finds out a wrong guess, and the batch is then processed without one.
    """

    def __init__(
        self,
        store: Store,
        dedup_cache: DedupCache,
        labels: TransitionLabels,
        silences: SilenceFeed,
        incidents: PerTenant[IncidentWorker],
        clock: Clock,
        *,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._dedup_cache = dedup_cache
        self._labels = labels
        self._silences = silences
        self._incidents = incidents
        self._clock = clock
        self._metrics = metrics

    async def handle(self, records: Sequence[Record]) -> None:
        """Process a batch.

        Raises UnreadableRecordError for a record that is no transition, StoreUnavailable and StoreConflict.
        """
        decoded = [(_decode(record), record) for record in records]
        canaries = [(message, traceparent_of(record.headers)) for message, record in decoded if is_canary(message)]
        await forward_canaries(self._store, canaries)
        of_tenants: dict[str, list[tuple[AlertTransition, Record]]] = {}
        for message, record in decoded:
            if not is_canary(message):
                of_tenants.setdefault(read_tenant(message.tenant), []).append((message, record))
        # Who has few does not wait for who has many.
        for tenant, own in sorted(of_tenants.items(), key=lambda each: len(each[1])):
            with as_tenant(tenant):
                await self._handle([message for message, _ in own], [record for _, record in own])

    async def _handle(self, messages: Sequence[AlertTransition], records: Sequence[Record]) -> None:
        """Process the records of one tenant."""
        await self._labels.refresh(messages)
        transitions = [self._transition(message, record) for message, record in zip(messages, records, strict=True)]
        with tracer(__name__).start_as_current_span(
            "alerts process", links=links_of(record.headers for record in records), kind=trace.SpanKind.CONSUMER
        ):
            new = await self._dedup_cache.add(_single_firings(transitions))
            outcomes = await self._record(transitions, records, new)
            await self._dedup_cache.remove(_resolved(outcomes))
        self._report(outcomes, records)

    def _transition(self, message: AlertTransition, record: Record) -> ReceivedTransition:
        try:
            return transition_of(message, self._labels.labels_of)
        except UnusableRecordError as error:
            log.warning("transition_unusable", problem=str(error), partition=record.partition, offset=record.offset)
            raise UnreadableRecordError(record, "UNUSABLE_TRANSITION") from None

    async def _record(
        self, transitions: Sequence[ReceivedTransition], records: Sequence[Record], expected_new: Collection[str]
    ) -> list[TransitionOutcome]:
        if expected_new:
            try:
                outcomes = await self._record_once(transitions, records, expected_new)
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
        self, transitions: Sequence[ReceivedTransition], records: Sequence[Record], expected_new: Collection[str]
    ) -> list[TransitionOutcome]:
        incidents = self._incidents.mine
        async with incidents.alone() as is_alone, self._store.transaction() as transaction:
            context = await transaction.alerts.load_for_update(transitions, expected_new=expected_new)
            processed = await transaction.transitions.insert(transitions)
            now = self._clock.now()
            silencing = self._silences.index(now).silencing
            # Read after the alerts are locked: an ending that is gone by now has resolved them.
            endings = await transaction.rule_endings.load(_ended_rules(transitions))
            context = replace(context, processed=processed, rule_endings=endings)
            _, outcomes = decide(context, transitions, now, silencing)
            if any(
                outcome.transition.open_key in expected_new and outcome.reason not in _DECIDED_BY_GUESS
                for outcome in outcomes
            ):
                raise OpenAlertExistsError
            changes = _traced_changes(outcomes, records)
            revision = await incidents.begin(transaction) if is_alone and changes else None
            await transaction.alerts.save(changes, is_correlated=revision is not None)
            if revision is not None:
                seen = await _seen(transaction, changes, context)
                await incidents.advance(transaction, revision, seen)
        return outcomes

    def _report(self, outcomes: Sequence[TransitionOutcome], records: Sequence[Record]) -> None:
        now = self._clock.now()
        delays: dict[AlertReason, list[float]] = {}
        bound = log.bind()
        for outcome, record in zip(outcomes, records, strict=True):
            seconds = (now - outcome.transition.evaluation.time).total_seconds()
            delays.setdefault(outcome.reason, []).append(seconds)
            with in_trace_of(record.headers):
                bound.info(
                    "transition_recorded",
                    reason=outcome.reason.value,
                    transition=outcome.transition.id,
                    rule_id=outcome.transition.subject.rule_id,
                    alert_id=outcome.change.alert.id if outcome.change else None,
                )
        self._metrics.transitions(delays)


def transition_of(
    message: AlertTransition, labels_of: Callable[[AlertTransition], Mapping[str, str]] = lambda _: {}
) -> ReceivedTransition:
    """Return a transition as a value. Raises UnusableRecordError, which names the first field that is missing."""
    for field in ("id", "fingerprint", "rule_id"):
        if not getattr(message, field):
            raise UnusableRecordError(f"{field} is missing")
        if "\0" in getattr(message, field):
            raise UnusableRecordError(f"{field} has the character NUL")
    if message.severity not in _SEVERITIES:
        raise UnusableRecordError("severity is missing")
    subject = AlertSubject(
        open_key=open_key(rule_id=message.rule_id, resource=message.resource),
        fingerprint=message.fingerprint,
        severity=Severity(message.severity),
        rule_id=message.rule_id,
        rule_name=message.rule_name,
        description=message.description,
        resource=message.resource,
        evidence=_evidence(message),
        labels=labels_of(message),
    )
    return ReceivedTransition(id=message.id, subject=subject, observation=_observation(message))


def _evidence(message: AlertTransition) -> bytes:
    alert = Alert(group=message.group, labels=message.labels, samples=message.samples)
    if message.HasField("window"):
        alert.window.CopyFrom(message.window)
    return alert.SerializeToString(deterministic=True)


def _observation(message: AlertTransition) -> Observation:
    if not message.HasField("first_window_time"):
        raise UnusableRecordError("first_window_time is missing")
    try:
        evaluation = Evaluation(
            episode=datetime_of(message.first_window_time),
            selection_revision=message.selection_revision,
            rule_revision=message.rule_revision,
            time=datetime_of(message.create_time),
            severity=Severity(message.severity),
        )
    except ValueError as error:
        raise UnusableRecordError("first_window_time or create_time is out of range") from error
    match message.state:
        case AlertTransition.FIRING:
            return Fired(evaluation)
        case AlertTransition.RESOLVED:
            return Ended(evaluation)
        case _:
            raise UnusableRecordError("state is missing")


def _decode(record: Record) -> AlertTransition:
    try:
        message = AlertTransition.FromString(record.value)
    except DecodeError:
        raise UnreadableRecordError(record, "UNREADABLE_TRANSITION") from None
    if not is_tenant_name(read_tenant(message.tenant)):
        raise UnreadableRecordError(record, "UNUSABLE_TRANSITION")
    return message


def _single_firings(transitions: Sequence[ReceivedTransition]) -> list[str]:
    """Return the open keys of which the batch has one firing alone: only there does a guess help."""
    counts = Counter(transition.open_key for transition in transitions)
    return [
        transition.open_key
        for transition in transitions
        if isinstance(transition.observation, Fired) and counts[transition.open_key] == 1
    ]


def _ended_rules(transitions: Sequence[ReceivedTransition]) -> set[str]:
    """Return the ids of the rules of which the batch has an end."""
    return {each.subject.rule_id for each in transitions if isinstance(each.observation, Ended)}


def _resolved(outcomes: Sequence[TransitionOutcome]) -> list[str]:
    """Return the open keys whose alert is resolved after this batch."""
    last = {outcome.transition.open_key: outcome.change for outcome in outcomes if outcome.change is not None}
    return [key for key, change in last.items() if not change.alert.is_open]


async def _seen(
    transaction: Transaction, changes: Sequence[tuple[AlertChange, TraceHeaders]], before: TransitionContext
) -> list[TracedAlert]:
    """Return the changed alerts as incidents see them, the first ones first; new ones are in no incident."""
    known = {alert.id for alert in before.open_alerts.values()}
    last = {change.alert.id: (change.alert, headers) for change, headers in changes}
    stored = await transaction.incidents.list_stored(known & last.keys())
    traced = [
        TracedAlert(alert=alert, headers=headers, is_stored=alert.id in stored) for alert, headers in last.values()
    ]
    return sorted(traced, key=lambda each: (each.alert.fire_time, each.alert.id))


def _traced_changes(
    outcomes: Sequence[TransitionOutcome], records: Sequence[Record]
) -> list[tuple[AlertChange, TraceHeaders]]:
    """Return each change with the headers of a span that continues its record's trace."""
    changes: list[tuple[AlertChange, TraceHeaders]] = []
    links = links_of([trace_headers()])
    for outcome, record in zip(outcomes, records, strict=True):
        if outcome.change is None:
            continue
        with tracer(__name__).start_as_current_span(
            f"alert {outcome.reason.value}",
            context=context_of(record.headers),
            links=links,
            attributes={
                "tocsin.alert.id": outcome.change.alert.id,
                "tocsin.rule.id": outcome.transition.subject.rule_id,
            },
        ):
            headers = trace_headers()
            changes += [(change, headers) for change in outcome.changes]
    return changes
