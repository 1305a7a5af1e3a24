"""Change the catalog of services: what a call changes, and its response, in one transaction."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from typing import TypeVar

from services.chassis.clock import Clock
from services.chassis.failures import Violation
from services.contract.timestamps import timestamp_of
from services.manager.core.catalog import (
    MAX_SERVICES,
    AppliedEntry,
    CatalogChangeKind,
    CatalogChanges,
    ServiceEntry,
    StoredService,
    apply_entries,
    catalog_warnings,
    entry_problems,
)
from services.manager.ports.feeds import CatalogFeed
from services.manager.ports.tables import Store, Transaction
from services.manager.rpc.failures import ServiceNotFound, TooManyServices
from services.manager.rpc.requests import act_once, check_etag, check_fields, fields_with_nul, refuse_if_any
from tocsin.catalog.v1 import catalog_service_pb2 as pb
from tocsin.catalog.v1.service_entry_pb2 import ServiceEntry as EntryMessage

_MAX_APPLIED = 1000

_Request = pb.ReplaceServiceRequest | pb.ApplyServicesRequest
_Response = TypeVar("_Response", pb.ReplaceServiceResponse, pb.ApplyServicesResponse)
_Act = Callable[[Transaction], Awaitable[_Response]]


class CatalogCommands:
    """Changes services; a repeated call with a request_id changes them once, one that validates only not at all."""

    def __init__(self, store: Store, clock: Clock, feed: CatalogFeed) -> None:
        self._store = store
        self._clock = clock
        self._feed = feed

    async def replace(self, request: pb.ReplaceServiceRequest) -> pb.ReplaceServiceResponse:
        """Create or replace one service."""
        check_fields(request, "name")
        if request.service.name not in {"", request.name}:
            refuse_if_any(Violation("name", f'is "{request.service.name}", but the path has "{request.name}"'))
        message = EntryMessage()
        message.CopyFrom(request.service)
        message.name = request.name
        refuse_if_any(*_violations(message))

        async def act(transaction: Transaction) -> pb.ReplaceServiceResponse:
            (applied,) = await _apply(transaction, [message], self._clock.now())
            service = service_message(applied.stored)
            if request.validate_only:
                for field in ("etag", "create_time", "update_time"):
                    service.ClearField(field)
            return pb.ReplaceServiceResponse(service=service, warnings=await self._warnings([applied]))

        return await self._run(request, pb.ReplaceServiceResponse, act)

    async def apply(self, request: pb.ApplyServicesRequest) -> pb.ApplyServicesResponse:
        """Create or replace several services, all of them or none."""
        # What is wrong in an entry is named with its place, below.
        if not request.services:
            refuse_if_any(Violation("services", "is required"))
        if len(request.services) > _MAX_APPLIED:
            refuse_if_any(
                Violation("services", f"has {len(request.services)} entries, at most {_MAX_APPLIED} in a call")
            )
        refuse_if_any(
            *(
                Violation(f"services[{index}].{each.field}", each.description)
                for index, message in enumerate(request.services)
                for each in _violations(message)
            ),
            *_repeated_names(request.services),
        )

        async def act(transaction: Transaction) -> pb.ApplyServicesResponse:
            applied = await _apply(transaction, request.services, self._clock.now())
            results = [_result(each, is_stored=not request.validate_only) for each in applied]
            return pb.ApplyServicesResponse(results=results, warnings=await self._warnings(applied))

        return await self._run(request, pb.ApplyServicesResponse, act)

    async def delete(self, request: pb.DeleteServiceRequest) -> pb.DeleteServiceResponse:
        check_fields(request, "name")
        async with self._store.transaction() as transaction:
            revision = await transaction.catalog.lock()
            stored = (await transaction.catalog.load([request.name])).get(request.name)
            if stored is None:
                raise ServiceNotFound("the catalog has no service of this name", service=request.name)
            check_etag(request.etag, stored.etag)
            await transaction.catalog.delete(request.name, revision)
        return pb.DeleteServiceResponse()

    async def _run(self, request: _Request, response_type: type[_Response], act: "_Act[_Response]") -> _Response:
        # Before the transaction, which must not wait for another connection.
        await self._feed.refresh()
        return await act_once(self._store, request, response_type, act, now=self._clock.now())

    async def _warnings(self, applied: Sequence[AppliedEntry]) -> list[pb.CatalogWarning]:
        """Return what is odd about these services in the catalog that they make; in a thread, since it may be large."""
        written = CatalogChanges(revision=0, services=tuple(each.stored for each in applied))
        catalog = self._feed.current.apply(written)
        found = await asyncio.to_thread(catalog_warnings, catalog, [each.stored.entry.name for each in applied])
        return [
            pb.CatalogWarning(service=each.service, field=each.field, description=each.description) for each in found
        ]


def service_message(stored: StoredService) -> EntryMessage:
    """Return a service as clients see it."""
    entry = stored.entry
    return EntryMessage(
        name=entry.name,
        owner=entry.owner,
        tier=entry.tier,
        description=entry.description,
        links=entry.links,
        labels=entry.labels,
        depends_on=entry.depends_on,
        etag=stored.etag,
        create_time=timestamp_of(stored.create_time),
        update_time=timestamp_of(stored.update_time),
    )


async def _apply(transaction: Transaction, messages: Sequence[EntryMessage], now: datetime) -> list[AppliedEntry]:
    revision = await transaction.catalog.lock()
    before = await transaction.catalog.load([message.name for message in messages])
    for message in messages:
        stored = before.get(message.name)
        check_etag(message.etag, "" if stored is None else stored.etag)
    applied = apply_entries(before, [_entry_of(message) for message in messages], revision, now=now)
    await transaction.catalog.upsert([each.stored for each in applied if each.kind is not CatalogChangeKind.UNCHANGED])
    if await transaction.catalog.count() > MAX_SERVICES:
        raise TooManyServices(f"the catalog may have {MAX_SERVICES} services; delete some first")
    return applied


def _entry_of(message: EntryMessage) -> ServiceEntry:
    return ServiceEntry(
        name=message.name,
        owner=message.owner,
        tier=message.tier,
        description=message.description,
        links=dict(message.links),
        labels=dict(message.labels),
        depends_on=tuple(sorted(set(message.depends_on))),
    )


def _violations(message: EntryMessage) -> list[Violation]:
    """Return all that is not allowed; the places of dependencies are those in the message."""
    entry = _entry_of(message)
    places = {name: index for index, name in reversed(list(enumerate(message.depends_on)))}
    found = entry_problems(entry, places)
    named = {field for field, _ in found}
    nul = [(field, "must not contain the character NUL") for field in fields_with_nul(message) if field not in named]
    return [Violation(field, description) for field, description in (*found, *nul)]


def _repeated_names(messages: Sequence[EntryMessage]) -> Iterator[Violation]:
    first: dict[str, int] = {}
    for index, message in enumerate(messages):
        earlier = first.setdefault(message.name, index)
        if earlier != index and message.name:
            yield Violation(f"services[{index}].name", f'"{message.name}" is the name of services[{earlier}] too')


def _result(applied: AppliedEntry, *, is_stored: bool) -> pb.AppliedService:
    return pb.AppliedService(
        name=applied.stored.entry.name,
        change=pb.AppliedService.Change.Value(applied.kind.value),
        etag=applied.stored.etag if is_stored else "",
    )
