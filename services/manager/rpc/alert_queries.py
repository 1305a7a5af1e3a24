"""Reading and following alerts."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.failures import Violation
from services.contract.paging import PageTokenError, encode_page_token, filters_of, key_time
from services.contract.timestamps import datetime_of
from services.domain.alert import State
from services.domain.fingerprint import digest
from services.domain.severity import Severity
from services.manager.core.alert import Alert
from services.manager.core.queries.filters import AlertFilter, Page
from services.manager.ports.queries import AlertFeed, AlertReader, Answers
from services.manager.rpc.failures import AlertNotFound
from services.manager.rpc.requests import check, page_of, refuse
from services.manager.wire import alerts as wire
from tocsin.alerts.v1 import alert_service_pb2 as pb

Asked = TypeVar("Asked", pb.ListAlertsRequest, pb.WatchAlertsRequest)


class AlertQueries:
    """What may be asked about alerts."""

    def __init__(self, reader: AlertReader, answers: Answers, feed: AlertFeed) -> None:
        self._reader = reader
        self._answers = answers
        self._feed = feed

    async def get(self, request: pb.GetAlertRequest) -> pb.GetAlertResponse:
        """One alert with its history, kept under its version, which the database is asked for each time."""
        check(request, "id")
        version = await self._reader.version(request.id)

        async def work_out() -> bytes:
            found = await self._reader.get(request.id) if version else None
            if found is None:
                raise AlertNotFound("there is no alert with this id", alert_id=request.id)
            alert, history = found
            return pb.GetAlertResponse(alert=wire.alert(alert), history=map(wire.entry, history)).SerializeToString()

        if version is None:
            return pb.GetAlertResponse.FromString(await work_out())
        key = f"alert:{version}:{digest(request.id)}"
        return pb.GetAlertResponse.FromString(await self._answers.get(key, work_out))

    async def page(self, request: pb.ListAlertsRequest) -> pb.ListAlertsResponse:
        """One page of alerts, the newest first."""
        check(request)
        wanted = AlertFilter(
            states=_states(request),
            severities=_severities(request),
            rule_id=request.rule_id,
            resource=request.resource,
            fired_after=_moment(request, "fired_after"),
            fired_before=_moment(request, "fired_before"),
        )
        filters = filters_of(request)
        page = _page(request, filters)
        rows = await self._reader.page(wanted, page)
        shown = rows[: page.size]
        token = encode_page_token(_key(shown[-1]), filters=filters) if len(rows) > page.size else ""
        return pb.ListAlertsResponse(alerts=map(wire.alert, shown), next_page_token=token)

    async def watch(self, request: pb.WatchAlertsRequest, begun: Callable[[], Awaitable[None]]) -> AsyncIterator[bytes]:
        """The open alerts, then each one that changes, as it is then: WatchAlertsResponses, encoded once for all.

        Calls `begun` when all is well: where nothing is open, the first alert may be long in coming.
        """
        check(request)
        wanted = AlertFilter(severities=_severities(request), rule_id=request.rule_id, resource=request.resource)
        async with self._feed.following(wanted) as following:
            await begun()
            while True:
                while (alert := following.take()) is not None:
                    yield alert
                await following.wait()


def _page(request: pb.ListAlertsRequest, filters: str) -> Page:
    page = page_of(request.page_size, request.page_token, filters=filters, width=2)
    if page.after:
        try:
            key_time(page.after[0])
        except PageTokenError as error:
            refuse(Violation("pageToken", str(error)))
    return page


def _key(alert: Alert) -> tuple[str, str]:
    return alert.fire_time.isoformat(), alert.id


def _states(request: pb.ListAlertsRequest) -> tuple[State, ...]:
    found: list[State] = []
    for n, value in enumerate(request.states):
        try:
            found.append(wire.state(value))
        except ValueError:
            refuse(Violation(f"states[{n}]", "is no state"))
    return tuple(found)


def _severities(request: Asked) -> tuple[Severity, ...]:
    known = set(Severity)
    refuse(
        *(
            Violation(f"severities[{n}]", "is no severity")
            for n, value in enumerate(request.severities)
            if value not in known
        )
    )
    return tuple(Severity(value) for value in request.severities)


def _moment(request: pb.ListAlertsRequest, field: str) -> datetime | None:
    if not request.HasField(field):  # type: ignore[arg-type]  # the callers name fields of the message
        return None
    given: Timestamp = getattr(request, field)
    try:
        return datetime_of(given)
    except ValueError as error:
        refuse(Violation(request.DESCRIPTOR.fields_by_name[field].json_name, str(error)))
        raise
