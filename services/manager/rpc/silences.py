"""SilenceService: read silences and see what one would do; SilenceCommands changes them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from services.chassis.clock import Clock
from services.chassis.failures import Violation
from services.chassis.grpc_server import Mount
from services.contract.paging import encode_page_token, filters_of
from services.manager.core.silence import Silence, SilenceState
from services.manager.core.silence_index import SilenceIndex
from services.manager.messages.alerts import alert_message
from services.manager.ports.readers import AlertReader, MatchedAlertReader, Page, SilenceReader
from services.manager.rpc.pages import TimeKey, page_by_time, scan_page
from services.manager.rpc.requests import check_choices, check_fields, check_length, refuse_if_any
from services.manager.rpc.silence_commands import SilenceCommands, read_silence, silence_message, silence_not_found
from tocsin.silences.v1 import silence_service_pb2 as pb
from tocsin.silences.v1.silence_pb2 import Silence as SilenceMessage
from tocsin.silences.v1.silence_service_pb2_grpc import SilenceServiceServicer, add_SilenceServiceServicer_to_server

_MAX_ID = 36
_MAX_SHOWN = 100
_RECENT = timedelta(days=7)
_MAX_RECENT = 20_000


# ruff: noqa: N802  (rpcs are named, and described, by the contract)
class SilenceRpc(SilenceServiceServicer):
    """Serves SilenceService."""

    def __init__(
        self,
        commands: SilenceCommands,
        reader: SilenceReader,
        alerts: AlertReader,
        matched: MatchedAlertReader,
        clock: Clock,
    ) -> None:
        self._commands = commands
        self._reader = reader
        self._alerts = alerts
        self._matched = matched
        self._clock = clock

    def mount(self) -> Mount:
        """Return the service for a server."""
        return Mount(
            pb.DESCRIPTOR.services_by_name["SilenceService"].full_name,
            lambda server: add_SilenceServiceServicer_to_server(self, server),
        )

    async def CreateSilence(self, request: pb.CreateSilenceRequest, _context: Any) -> pb.CreateSilenceResponse:
        return await self._commands.create(request)

    async def ExpireSilence(self, request: pb.ExpireSilenceRequest, _context: Any) -> pb.ExpireSilenceResponse:
        return await self._commands.expire(request)

    async def GetSilence(self, request: pb.GetSilenceRequest, _context: Any) -> pb.GetSilenceResponse:
        check_fields(request, "id")
        silence = await self._reader.get(request.id)
        if silence is None:
            raise silence_not_found(request.id)
        return pb.GetSilenceResponse(silence=silence_message(silence, self._clock.now()))

    async def ListSilences(self, request: pb.ListSilencesRequest, _context: Any) -> pb.ListSilencesResponse:
        check_fields(request)
        check_length(request, id_prefix=_MAX_ID)
        filters, now = filters_of(request), self._clock.now()
        page = page_by_time(request.page_size, request.page_token, filters=filters)
        silences, last = await self._select(request, page, now)
        token = encode_page_token(last, filters=filters)
        return pb.ListSilencesResponse(
            silences=[silence_message(silence, now) for silence in silences], next_page_token=token
        )

    async def PreviewSilence(self, request: pb.PreviewSilenceRequest, _context: Any) -> pb.PreviewSilenceResponse:
        check_fields(request)
        now = self._clock.now()
        given = read_silence(request.silence, "", now)
        if not (given.matchers or given.alert_ids):
            refuse_if_any(Violation("matchers", "is required, or alertIds"))
        # As if it were active, whenever it is meant to be.
        silence = replace(given, id="preview", start_time=now, end_time=None, recurrence=None)
        index = SilenceIndex.of([silence], now=now)
        open_ids = [each.id for each in await self._matched.list_open() if index.silencing(each.id, each.labels)]
        recent = await self._matched.list_recent(now - _RECENT, _MAX_RECENT + 1)
        shown = {alert.id: alert for alert in await self._alerts.list_by_id(open_ids[:_MAX_SHOWN])}
        return pb.PreviewSilenceResponse(
            alerts=[alert_message(shown[alert_id]) for alert_id in open_ids[:_MAX_SHOWN] if alert_id in shown],
            open_alert_count=len(open_ids),
            recent_alert_count=sum(bool(index.silencing(each.id, each.labels)) for each in recent[:_MAX_RECENT]),
            recent_alerts_incomplete=len(recent) > _MAX_RECENT,
        )

    async def _select(
        self, request: pb.ListSilencesRequest, page: Page, now: datetime
    ) -> tuple[Sequence[Silence], TimeKey | None]:
        """Return the silences of a page, and the key of the last one that was looked at when there may be more.

        PENDING and ACTIVE are told apart here, so several of the store's pages may be read for one of the answer.
        """
        states = _states(request) or frozenset(SilenceState)
        expired = None
        if SilenceState.EXPIRED not in states or states == {SilenceState.EXPIRED}:
            expired = SilenceState.EXPIRED in states
        prefix = request.id_prefix.lower()
        return await scan_page(
            lambda scan: self._reader.list_page(scan, id_prefix=prefix, expired=expired, now=now),
            page,
            lambda silence: silence if silence.state(now) in states else None,
            _key,
            selects_all=states >= {SilenceState.PENDING, SilenceState.ACTIVE} or expired is True,
        )


def _states(request: pb.ListSilencesRequest) -> frozenset[SilenceState]:
    check_choices("states", request.states, SilenceMessage.State.items()[1:])
    return frozenset(SilenceState(SilenceMessage.State.Name(value)) for value in request.states)


def _key(silence: Silence) -> TimeKey:
    return silence.create_time.isoformat(), silence.id
