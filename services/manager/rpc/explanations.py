"""ExplanationService: why people were notified of an alert or an incident, or were not."""

from collections.abc import Collection, Sequence
from typing import Any

from services.chassis.grpc_server import Mount
from services.contract.timestamps import datetime_of, timestamp_of
from services.manager.core.alert import Alert, AlertHistoryEntry
from services.manager.core.explanation import (
    MAX_EXPLAINED_ALERTS,
    ExplainedAlert,
    ExplainedIncident,
    ExplainedWindow,
    Explanation,
    ExplanationRecord,
    ExplanationStep,
)
from services.manager.core.explanation_steps import (
    explain_alert,
    explain_incident,
    inhibiting_ids_of,
    merged_ids_of,
    silence_ids_of,
    split_of,
)
from services.manager.core.incident import Incident, IncidentHistoryEntry
from services.manager.core.silence import Silence
from services.manager.ports.readers import AlertReader, ExplanationReader, IncidentReader, SilenceReader
from services.manager.rpc.failures import AlertNotFound, IncidentNotFound
from services.manager.rpc.requests import check_fields
from tocsin.alerts.v1 import alert_pb2
from tocsin.explanations.v1 import explanation_pb2 as messages
from tocsin.explanations.v1 import explanation_service_pb2 as pb
from tocsin.explanations.v1.explanation_service_pb2_grpc import (
    ExplanationServiceServicer,
    add_ExplanationServiceServicer_to_server,
)

_MAX_ALERTS = 1000
_MAX_DELIVERIES = 1000
_MAX_SILENCES = 20
_MAX_MERGED = 20
_MAX_INHIBITING = 50
_NUMBERS = ("count", "total", "sum", "avg", "min", "max")


# ruff: noqa: N802  (rpcs are named, and described, by the contract)
class ExplanationRpc(ExplanationServiceServicer):
    """Explains from the record, which it reads and never writes."""

    def __init__(
        self, alerts: AlertReader, incidents: IncidentReader, silences: SilenceReader, reader: ExplanationReader
    ) -> None:
        self._alerts = alerts
        self._incidents = incidents
        self._silences = silences
        self._reader = reader

    def mount(self) -> Mount:
        """Return the service for a server."""
        return Mount(
            pb.DESCRIPTOR.services_by_name["ExplanationService"].full_name,
            lambda server: add_ExplanationServiceServicer_to_server(self, server),
        )

    async def ExplainAlert(self, request: pb.ExplainAlertRequest, _context: Any) -> pb.ExplainAlertResponse:
        check_fields(request, "id")
        found = await self._alerts.get(request.id)
        if found is None:
            raise AlertNotFound("there is no alert with this id", alert_id=request.id)
        alert, history = found
        names = await self._reader.incident_ids(alert.id)
        incidents = [await self._incidents.get(name) for name in names]
        own = await self._reader.own_history(alert.id, names)
        explained = [_with_own(each[0], each[1], own) for each in incidents if each is not None]
        explained += [former for each in explained for former in await self._before_split(each, names)]
        record = await self._record([alert], {alert.id: history}, explained)
        return pb.ExplainAlertResponse(explanation=_message(explain_alert(record)))

    async def ExplainIncident(self, request: pb.ExplainIncidentRequest, _context: Any) -> pb.ExplainIncidentResponse:
        check_fields(request, "id")
        found = await self._incidents.get(request.id)
        if found is None:
            raise IncidentNotFound("there is no incident with this id", incident_id=request.id)
        incident, history = found
        first = list(dict.fromkeys((incident.cause, *incident.alerts)))[:MAX_EXPLAINED_ALERTS]
        stored = {alert.id: alert for alert in await self._alerts.list_by_id(first)}
        alerts = [stored[name] for name in first if name in stored]
        explained = ExplainedIncident(incident=incident, history=history)
        merged = [await self._incidents.get(name) for name in merged_ids_of(explained)[:_MAX_MERGED]]
        others = [ExplainedIncident(incident=each[0], history=each[1]) for each in merged if each is not None]
        record = await self._record(alerts, {}, [explained, *others])
        return pb.ExplainIncidentResponse(explanation=_message(explain_incident(record)))

    async def _before_split(self, explained: ExplainedIncident, known: Sequence[str]) -> list[ExplainedIncident]:
        """Return the incident in which alerts were before they were split off, with its history until then."""
        split = split_of(explained)
        if split is None or split.decided_by in known:
            return []
        found = await self._incidents.get(split.decided_by)
        if found is None:
            return []
        history = [entry for entry in found[1] if entry.create_time < split.create_time]
        return [ExplainedIncident(incident=found[0], history=history)]

    async def _record(
        self,
        alerts: Sequence[Alert],
        histories: dict[str, Sequence[AlertHistoryEntry]],
        incidents: Sequence[ExplainedIncident],
    ) -> ExplanationRecord:
        """Return what is recorded of some alerts and of the incidents that they are in."""
        own = [entry for each in histories.values() for entry in each]
        whole = [entry for each in incidents for entry in each.history]
        revisions = await self._reader.revisions(alerts)
        rules = await self._reader.rules({number for each in revisions.values() for number in each})
        # Not those of an incident in which none of these is any more: what it tells since is of others.
        named = {alert.id for alert in alerts}
        members = (name for each in incidents if named & each.incident.alerts.keys() for name in each.incident.alerts)
        ids = list(dict.fromkeys((*(alert.id for alert in alerts), *members)))[:_MAX_ALERTS]
        return ExplanationRecord(
            alerts=[
                ExplainedAlert(
                    alert=alert,
                    history=histories.get(alert.id, ()),
                    revisions=tuple(revisions[alert.id]),
                    rules=rules,
                    window=_window_of(alert),
                )
                for alert in alerts
            ],
            incidents=incidents,
            deliveries=await self._reader.deliveries(ids, _MAX_DELIVERIES),
            silences=await self._named_silences(silence_ids_of(own, whole)),
            inhibiting=await self._alerts.list_by_id(inhibiting_ids_of(whole)[:_MAX_INHIBITING]),
        )

    async def _named_silences(self, silence_ids: Collection[str]) -> dict[str, Silence]:
        found = [await self._silences.get(name) for name in list(silence_ids)[:_MAX_SILENCES]]
        return {silence.id: silence for silence in found if silence is not None}


def _with_own(
    incident: Incident, history: Sequence[IncidentHistoryEntry], own: Sequence[IncidentHistoryEntry]
) -> ExplainedIncident:
    """Add what is about one alert, which a history of very many entries does not show any more."""
    known = {entry.id for entry in history}
    missing = [entry for entry in own if entry.incident_id == incident.id and entry.id not in known]
    return ExplainedIncident(incident=incident, history=[*missing, *history])


def _window_of(alert: Alert) -> ExplainedWindow | None:
    """Return the numbers of the window that an alert shows; None where it has none that can be read."""
    window = alert_pb2.Alert.FromString(alert.subject.evidence).window
    try:
        start, end = datetime_of(window.start_time), datetime_of(window.end_time)
    except ValueError:
        return None
    if not window.HasField("start_time"):
        return None
    optional = {field.name for field, _ in window.ListFields()} | {"count", "total", "sum"}
    return ExplainedWindow(
        start=start,
        end=end,
        condition=window.condition,
        threshold=window.threshold,
        numbers={name: getattr(window, name) for name in _NUMBERS if name in optional},
    )


def _message(explanation: Explanation) -> messages.Explanation:
    return messages.Explanation(summary=explanation.summary, steps=map(_step_message, explanation.steps))


def _step_message(step: ExplanationStep) -> messages.ExplanationStep:
    return messages.ExplanationStep(
        time=timestamp_of(step.time),
        kind=messages.ExplanationStep.Kind.Value(step.kind.value),
        text=step.text,
        decided_by=step.decided_by,
        channel=step.channel,
        references=(
            messages.Reference(kind=messages.Reference.Kind.Value(each.kind.value), id=each.id)
            for each in step.references
        ),
    )
