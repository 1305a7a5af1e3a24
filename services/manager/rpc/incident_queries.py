"""Which incidents a caller asks for, and one page of them."""

from collections.abc import Mapping, Sequence

from services.domain.matchers import MatchOperator, all_match
from services.manager.core.incident import IncidentFilter, IncidentState, IncidentSummary
from services.manager.core.incident_log import WatchedIncidents
from services.manager.messages.incidents import incident_message
from services.manager.ports.readers import IncidentReader, Page
from services.manager.rpc.pages import TimeKey, page_by_time, scan_page
from services.manager.rpc.requests import check_choices, check_length, read_matchers, read_severities
from tocsin.incidents.v1 import incident_pb2
from tocsin.incidents.v1 import incident_service_pb2 as pb

_MAX_ID = 36

# An incident of a list, and the labels of its alerts as far as matchers ask for them.
_Row = tuple[IncidentSummary, Sequence[Mapping[str, str]]]


async def select_incidents(
    reader: IncidentReader, request: pb.ListIncidentsRequest, *, filters: str
) -> tuple[list[IncidentSummary], TimeKey | None]:
    """Return the incidents of a page, and the key of the last one that was looked at when there may be more."""
    check_length(request, id_prefix=_MAX_ID)
    wanted, matchers = _filter(request), read_matchers("matchers", request.matchers)
    # What the store can evaluate of the matchers. A label that is missing equals the empty text.
    equal = {each.name: each.value for each in matchers if each.operator is MatchOperator.EQUAL and each.value}

    async def read(page: Page) -> Sequence[_Row]:
        rows = await reader.list_page(wanted, page)
        labels = await reader.list_labels([row.incident.id for row in rows], equal) if matchers else {}
        return [(row, labels.get(row.incident.id, ())) for row in rows]

    def select(row: _Row) -> IncidentSummary | None:
        summary, label_sets = row
        return summary if not matchers or any(all_match(matchers, labels) for labels in label_sets) else None

    page = page_by_time(request.page_size, request.page_token, filters=filters)
    return await scan_page(read, page, select, _page_key, selects_all=not matchers)


def watched_incidents(request: pb.WatchIncidentsRequest) -> WatchedIncidents:
    """Return which incidents a watcher asks for."""
    return WatchedIncidents(severities=read_severities(request.severities), service=request.service)


def watch_response(summary: IncidentSummary) -> bytes:
    """Return what watchers are sent of an incident, encoded."""
    return pb.WatchIncidentsResponse(incident=incident_message(summary)).SerializeToString()


def _filter(request: pb.ListIncidentsRequest) -> IncidentFilter:
    check_choices("states", request.states, incident_pb2.Incident.State.items()[1:])
    return IncidentFilter(
        states=tuple(IncidentState(incident_pb2.Incident.State.Name(value)) for value in request.states),
        severities=read_severities(request.severities),
        service=request.service,
        id_prefix=request.id_prefix.lower(),
        alert_id=request.alert_id,
    )


def _page_key(row: _Row) -> TimeKey:
    incident = row[0].incident
    return incident.create_time.isoformat(), incident.id
