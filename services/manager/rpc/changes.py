"""ChangeService: record and list changes of services."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from services.chassis.clock import Clock
from services.chassis.failures import Violation
from services.chassis.grpc_server import Mount
from services.chassis.request_ids import request_id_of
from services.contract.paging import encode_page_token, filters_of, shown_rows
from services.manager.core.service_changes import (
    MAX_CHANGES,
    ChangeFilter,
    ServiceChange,
    ServiceChangeKind,
    change_problems,
)
from services.manager.messages.alerts import change_message
from services.manager.ports.readers import ChangeReader
from services.manager.ports.tables import Store, Transaction
from services.manager.rpc.failures import TooManyChanges
from services.manager.rpc.pages import page_by_time
from services.manager.rpc.requests import (
    act_once,
    actor_of,
    check_choices,
    check_fields,
    optional_time,
    refuse_if_any,
    unknown_choice,
)
from tocsin.changes.v1 import change_service_pb2 as pb
from tocsin.changes.v1.change_service_pb2_grpc import ChangeServiceServicer, add_ChangeServiceServicer_to_server
from tocsin.changes.v1.service_change_pb2 import ServiceChange as ChangeMessage


# ruff: noqa: N802  (rpcs are named, and described, by the contract)
class ChangeRpc(ChangeServiceServicer):
    """Stores changes; a repeated call with a request_id stores one."""

    def __init__(self, store: Store, reader: ChangeReader, clock: Clock, new_id: Callable[[], str]) -> None:
        self._store = store
        self._reader = reader
        self._clock = clock
        self._new_id = new_id

    def mount(self) -> Mount:
        """Return the service for a server."""
        return Mount(
            pb.DESCRIPTOR.services_by_name["ChangeService"].full_name,
            lambda server: add_ChangeServiceServicer_to_server(self, server),
        )

    async def RecordChange(self, request: pb.RecordChangeRequest, _context: Any) -> pb.RecordChangeResponse:
        check_fields(request)
        request_id_of(request)
        now = self._clock.now()
        change = _change_of(request.change, self._new_id(), now)
        if request.validate_only:
            message = change_message(change)
            message.ClearField("id")
            message.ClearField("create_time")
            return pb.RecordChangeResponse(change=message)

        async def act(transaction: Transaction) -> pb.RecordChangeResponse:
            if await transaction.changes.count(MAX_CHANGES) >= MAX_CHANGES:
                raise TooManyChanges(f"there are {MAX_CHANGES} changes already, which is the maximum")
            await transaction.changes.insert(change)
            return pb.RecordChangeResponse(change=change_message(change))

        return await act_once(self._store, request, pb.RecordChangeResponse, act, now=now)

    async def ListChanges(self, request: pb.ListChangesRequest, _context: Any) -> pb.ListChangesResponse:
        check_fields(request)
        check_choices("kinds", request.kinds, ChangeMessage.Kind.items()[1:])
        filters = filters_of(request)
        page = page_by_time(request.page_size, request.page_token, filters=filters)
        wanted = ChangeFilter(
            service=request.service,
            kinds=tuple(ServiceChangeKind(ChangeMessage.Kind.Name(value)) for value in request.kinds),
            after=optional_time(request, "changed_after"),
            before=optional_time(request, "changed_before"),
        )
        rows = await self._reader.list_page(wanted, page)
        shown, last = shown_rows(rows, page.size, lambda change: (change.time.isoformat(), change.id))
        return pb.ListChangesResponse(
            changes=map(change_message, shown), next_page_token=encode_page_token(last, filters=filters)
        )


def _change_of(message: ChangeMessage, change_id: str, now: datetime) -> ServiceChange:
    """Return the change to store; InvalidRequest names each field that is not allowed."""
    kinds = _kinds()
    unknown = [] if message.kind in kinds else [unknown_choice("kind", message.kind, kinds.values())]
    change = ServiceChange(
        id=change_id,
        service=message.service,
        kind=ServiceChangeKind(kinds.get(message.kind, "OTHER")),
        version=message.version,
        actor=actor_of(message.actor),
        link=message.link,
        time=optional_time(message, "time") or now,
        create_time=now,
    )
    refuse_if_any(*unknown, *(Violation(field, why) for field, why in change_problems(change, now=now)))
    return change


def _kinds() -> dict[int, str]:
    return {each.number: each.name for each in ChangeMessage.Kind.DESCRIPTOR.values if each.number}
