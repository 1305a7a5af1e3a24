"""What people do to incidents, and the response, in one transaction."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import structlog
from google.protobuf.message import Message

from services.chassis.clock import Clock
from services.chassis.failures import Violation
from services.chassis.telemetry import trace_headers
from services.manager.core.alert_changes import AlertCommand, apply_command
from services.manager.core.alert_lifecycle import AlertAction
from services.manager.core.incident import MAX_COMMENTS, Incident, summary_of
from services.manager.core.incident_batch import IncidentSettings
from services.manager.core.incident_changes import (
    IncidentChange,
    IncidentReason,
    acknowledge,
    add_comment,
    assign,
    resolve_incident,
    unacknowledge,
    with_cause,
)
from services.manager.core.incident_merges import merge_incidents, split_incident
from services.manager.messages.incidents import incident_message
from services.manager.ports.feeds import CatalogFeed, DedupCache
from services.manager.ports.tables import Store, Transaction
from services.manager.rpc.failures import IncidentNotFound, IncidentStateConflict, TooManyComments
from services.manager.rpc.requests import (
    act_once,
    actor_of,
    check_etag,
    check_fields,
    check_length,
    optional_time,
    refuse_if_any,
)
from tocsin.incidents.v1 import incident_pb2
from tocsin.incidents.v1 import incident_service_pb2 as pb

log = structlog.get_logger()

_MAX_SPLIT = 500

_Request = (
    pb.AcknowledgeIncidentRequest
    | pb.UnacknowledgeIncidentRequest
    | pb.AssignIncidentRequest
    | pb.CommentIncidentRequest
    | pb.ResolveIncidentRequest
    | pb.MergeIncidentsRequest
    | pb.SplitIncidentRequest
)
_Response = TypeVar("_Response", bound=Message)
_Incidents = Sequence[Incident]
_Decide = Callable[[_Incidents, str, datetime], Sequence[IncidentChange]]

_UNCHANGED = frozenset(
    {
        IncidentReason.ALREADY_ACKNOWLEDGED,
        IncidentReason.NOT_ACKNOWLEDGED,
        IncidentReason.ALREADY_ASSIGNED,
        IncidentReason.ALREADY_RESOLVED,
    }
)
_CONFLICTS = {
    IncidentReason.NOT_SPLITTABLE: (
        "the incident must be open, all alerts must be its own, one to move must be open, and one must stay"
    ),
}


class IncidentCommands:
    """Acts on incidents; the same action again changes nothing, whatever the etag."""

    def __init__(
        self, store: Store, catalog: CatalogFeed, dedup_cache: DedupCache, clock: Clock, settings: IncidentSettings
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._dedup_cache = dedup_cache
        self._clock = clock
        self._settings = settings

    async def acknowledge(self, request: pb.AcknowledgeIncidentRequest) -> pb.AcknowledgeIncidentResponse:
        """Acknowledge an incident, perhaps until some time."""
        until = _until(request, self._clock.now())

        def decide(incidents: _Incidents, actor: str, now: datetime) -> list[IncidentChange]:
            return [acknowledge(incidents[0], actor=actor, comment=request.comment, until=until, now=now)]

        def respond(changes: Sequence[IncidentChange]) -> pb.AcknowledgeIncidentResponse:
            if changes[0].reason is IncidentReason.ALREADY_RESOLVED:
                raise IncidentStateConflict("the incident is resolved", incident_id=request.id, state="RESOLVED")
            return pb.AcknowledgeIncidentResponse(incident=_message(changes[0]), unchanged=_is_unchanged(changes))

        return await self._run(request, decide, respond, pb.AcknowledgeIncidentResponse)

    async def unacknowledge(self, request: pb.UnacknowledgeIncidentRequest) -> pb.UnacknowledgeIncidentResponse:
        """Take an acknowledgement back."""

        def decide(incidents: _Incidents, actor: str, now: datetime) -> list[IncidentChange]:
            return [unacknowledge(incidents[0], actor=actor, comment=request.comment, now=now)]

        def respond(changes: Sequence[IncidentChange]) -> pb.UnacknowledgeIncidentResponse:
            return pb.UnacknowledgeIncidentResponse(incident=_message(changes[0]), unchanged=_is_unchanged(changes))

        return await self._run(request, decide, respond, pb.UnacknowledgeIncidentResponse)

    async def assign(self, request: pb.AssignIncidentRequest) -> pb.AssignIncidentResponse:
        """Assign an incident to somebody, or to nobody."""
        check_length(request, assignee=256)

        def decide(incidents: _Incidents, actor: str, now: datetime) -> list[IncidentChange]:
            assignee = request.assignee.strip()
            return [assign(incidents[0], assignee, actor=actor, comment=request.comment, now=now)]

        def respond(changes: Sequence[IncidentChange]) -> pb.AssignIncidentResponse:
            return pb.AssignIncidentResponse(incident=_message(changes[0]), unchanged=_is_unchanged(changes))

        return await self._run(request, decide, respond, pb.AssignIncidentResponse)

    async def comment(self, request: pb.CommentIncidentRequest) -> pb.CommentIncidentResponse:
        """Add a comment to the history."""
        check_fields(request, "comment")

        def decide(incidents: _Incidents, actor: str, now: datetime) -> list[IncidentChange]:
            return [add_comment(incidents[0], actor=actor, comment=request.comment, now=now)]

        def respond(changes: Sequence[IncidentChange]) -> pb.CommentIncidentResponse:
            return pb.CommentIncidentResponse(incident=_message(changes[0]))

        return await self._run(request, decide, respond, pb.CommentIncidentResponse)

    async def resolve(self, request: pb.ResolveIncidentRequest) -> pb.ResolveIncidentResponse:
        """Resolve an incident, and its open alerts."""

        def decide(incidents: _Incidents, actor: str, now: datetime) -> list[IncidentChange]:
            return [resolve_incident(incidents[0], actor=actor, comment=request.comment, now=now)]

        def respond(changes: Sequence[IncidentChange]) -> pb.ResolveIncidentResponse:
            return pb.ResolveIncidentResponse(incident=_message(changes[0]), unchanged=_is_unchanged(changes))

        return await self._run(request, decide, respond, pb.ResolveIncidentResponse)

    async def merge(self, request: pb.MergeIncidentsRequest) -> pb.MergeIncidentsResponse:
        """Move all alerts of another incident into one."""
        check_fields(request, "other_id")

        def decide(incidents: _Incidents, actor: str, now: datetime) -> list[IncidentChange]:
            first, last = incidents[0], incidents[-1]
            return list(merge_incidents(first, last, actor=actor, comment=request.comment, now=now))

        def respond(changes: Sequence[IncidentChange]) -> pb.MergeIncidentsResponse:
            return pb.MergeIncidentsResponse(incident=_message(changes[0]))

        return await self._run(request, decide, respond, pb.MergeIncidentsResponse)

    async def split(self, request: pb.SplitIncidentRequest) -> pb.SplitIncidentResponse:
        """Move some alerts of an incident into a new one."""
        check_fields(request, "alert_ids")
        if len(request.alert_ids) > _MAX_SPLIT:
            refuse_if_any(
                Violation("alertIds", f"has {len(request.alert_ids)} entries, at most {_MAX_SPLIT} in a call")
            )

        def decide(incidents: _Incidents, actor: str, now: datetime) -> list[IncidentChange]:
            left, new = split_incident(
                incidents[0],
                set(request.alert_ids),
                actor=actor,
                comment=request.comment,
                settle=self._settings.settle,
                now=now,
            )
            return [left] if new is None else [left, new]

        def respond(changes: Sequence[IncidentChange]) -> pb.SplitIncidentResponse:
            return pb.SplitIncidentResponse(incident=_message(changes[0]), new_incident=_message(changes[-1]))

        return await self._run(request, decide, respond, pb.SplitIncidentResponse)

    async def _run(
        self,
        request: _Request,
        decide: _Decide,
        respond: Callable[[Sequence[IncidentChange]], _Response],
        response_type: type[_Response],
    ) -> _Response:
        check_fields(request, "id")
        check_length(request, actor=256, comment=4096)
        now = self._clock.now()
        resolved: list[str] = []

        async def act(transaction: Transaction) -> _Response:
            revision = await transaction.incidents.lock()
            ids = [request.id, *([request.other_id] if isinstance(request, pb.MergeIncidentsRequest) else [])]
            before = await transaction.incidents.load(ids)
            for incident_id in ids:
                if incident_id not in before:
                    raise IncidentNotFound("there is no incident with this id", incident_id=incident_id)
            if isinstance(request, pb.CommentIncidentRequest):
                await _check_comments(transaction, request.id)
            actor = actor_of(request.actor)
            changes = self._with_causes(decide([before[each] for each in ids], actor, now), now)
            _check(request, before, changes)
            response = respond(changes)
            await transaction.incidents.save([change for change in changes if change.history], revision, before=before)
            if isinstance(request, pb.ResolveIncidentRequest) and not _is_unchanged(changes):
                resolved.extend(await _resolve_alerts(transaction, before[request.id], request, actor, now))
            for change in changes:
                log.info("incident_changed", incident_id=change.incident.id, reason=change.reason.value)
            return response

        response = await act_once(self._store, request, response_type, act, now=now)
        await self._dedup_cache.remove(resolved)
        return response

    def _with_causes(self, changes: Sequence[IncidentChange], now: datetime) -> list[IncidentChange]:
        graph, settings = self._catalog.current.graph, self._settings.correlation
        return [with_cause(change, graph, settings, now=now) if change.history else change for change in changes]


def _message(change: IncidentChange) -> incident_pb2.Incident:
    return incident_message(summary_of(change.incident))


def _is_unchanged(changes: Sequence[IncidentChange]) -> bool:
    return changes[0].reason in _UNCHANGED


def _check(request: _Request, before: Mapping[str, Incident], changes: Sequence[IncidentChange]) -> None:
    reason, incident = changes[0].reason, before[request.id]
    if reason is IncidentReason.NOT_MERGEABLE:
        closed = next((each for each in before.values() if not each.is_open), None)
        if closed is None:
            raise IncidentStateConflict(
                "an incident cannot be merged into itself", incident_id=incident.id, state=incident.state.value
            )
        raise IncidentStateConflict(
            f"incident {closed.id} is {closed.state.value}, but both must be open",
            incident_id=closed.id,
            state=closed.state.value,
        )
    if reason in _CONFLICTS:
        raise IncidentStateConflict(_CONFLICTS[reason], incident_id=incident.id, state=incident.state.value)
    if not _is_unchanged(changes):
        check_etag(request.etag, incident.etag)


async def _check_comments(transaction: Transaction, incident_id: str) -> None:
    if await transaction.incidents.count_comments(incident_id) >= MAX_COMMENTS:
        raise TooManyComments(
            f"the incident has {MAX_COMMENTS} comments already, which is the maximum", incident_id=incident_id
        )


def _until(request: pb.AcknowledgeIncidentRequest, now: datetime) -> datetime | None:
    until = optional_time(request, "until")
    if until is None:
        return None
    if until <= now:
        refuse_if_any(Violation("until", f"is {until.isoformat()}, must be in the future"))
    return until


async def _resolve_alerts(
    transaction: Transaction, incident: Incident, request: _Request, actor: str, now: datetime
) -> list[str]:
    """Resolve the open alerts of an incident by hand; return their open keys."""
    command = AlertCommand(action=AlertAction.RESOLVE, actor=actor, comment=request.comment)
    changes = []
    for member in incident.open_alerts:
        alert = await transaction.alerts.get_for_update(member.id)
        change = apply_command(alert, command, now=now)[0] if alert is not None and alert.is_open else None
        if change is not None:
            changes.append((change, trace_headers()))
    await transaction.alerts.save(changes)
    return [change.alert.subject.open_key for change, _ in changes]
