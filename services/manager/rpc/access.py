"""AccessService: make, show and revoke API keys, show the audit log, and tell services the keys."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from services.access.key_snapshot import KeySnapshots, key_snapshot_message
from services.access.keys import KEY_CHANCE, make_key
from services.chassis.callers import DEFAULT_TENANT, KeysUnavailable, PermissionDenied, current_caller
from services.chassis.clock import Clock
from services.chassis.failures import Failure, Violation
from services.chassis.grpc_server import Mount
from services.contract.audit_records import audit_message, read_outcome, read_role, role_message
from services.contract.paging import encode_page_token, filters_of, shown_rows
from services.contract.timestamps import timestamp_of
from services.domain.audit_record import AuditOutcome, AuditRecord
from services.domain.roles import Role
from services.manager.core.api_keys import MAX_KEYS, ApiKey, ApiKeyFilter, ApiKeyState, key_problems, revoke_key
from services.manager.core.audit_filter import AuditFilter
from services.manager.ports.access import ApiKeyReader, AuditReader
from services.manager.ports.tables import Store, Transaction
from services.manager.rpc.failures import KeyNotFound, TooManyKeys
from services.manager.rpc.pages import TimeKey, page_by_time
from services.manager.rpc.requests import (
    act_once,
    actor_of,
    check_choices,
    check_fields,
    optional_time,
    refuse_if_any,
    unknown_choice,
)
from tocsin.access.v1 import access_service_pb2 as pb
from tocsin.access.v1.access_service_pb2_grpc import AccessServiceServicer, add_AccessServiceServicer_to_server
from tocsin.access.v1.api_key_pb2 import ApiKey as ApiKeyMessage
from tocsin.access.v1.audit_record_pb2 import AuditRecord as AuditMessage

_STORED_FIELDS = ("id", "create_time", "state")


# ruff: noqa: N802  (rpcs are named, and described, by the contract)
class AccessRpc(AccessServiceServicer):
    """Serves AccessService; `chance` returns so many bytes that nobody can guess."""

    def __init__(
        self,
        store: Store,
        keys: ApiKeyReader,
        audit: AuditReader,
        snapshots: KeySnapshots,
        clock: Clock,
        chance: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._keys = keys
        self._audit = audit
        self._snapshots = snapshots
        self._clock = clock
        self._chance = chance

    def mount(self) -> Mount:
        """Return the service for a server."""
        return Mount(
            pb.DESCRIPTOR.services_by_name["AccessService"].full_name,
            lambda server: add_AccessServiceServicer_to_server(self, server),
        )

    async def CreateKey(self, request: pb.CreateKeyRequest, _context: Any) -> pb.CreateKeyResponse:
        check_fields(request)
        now = self._clock.now()
        text, key_id, secret_hash = make_key(self._chance(KEY_CHANCE))
        key = _read_key(request.key, key_id, secret_hash, now)
        made: list[str] = []

        async def act(transaction: Transaction) -> pb.CreateKeyResponse:
            await transaction.api_keys.lock()
            if await transaction.api_keys.count(now) >= MAX_KEYS:
                raise TooManyKeys(f"there are {MAX_KEYS} valid keys already, which is the maximum")
            await transaction.api_keys.upsert(key)
            made.append(text)
            return pb.CreateKeyResponse(key=key_message(key, now))

        # What is remembered for a repeated call has no text.
        response = await act_once(self._store, request, pb.CreateKeyResponse, act, now=now)
        if request.validate_only:
            for field in _STORED_FIELDS:
                response.key.ClearField(field)  # type: ignore[arg-type]  # they are fields of the message
            return response
        await self._take_effect()
        response.text = "".join(made)
        return response

    async def RevokeKey(self, request: pb.RevokeKeyRequest, _context: Any) -> pb.RevokeKeyResponse:
        check_fields(request, "id")
        tenant, now = permitted_tenant(request.tenant), self._clock.now()

        async def act(transaction: Transaction) -> pb.RevokeKeyResponse:
            await transaction.api_keys.lock()
            key = await transaction.api_keys.get_for_update(tenant, request.id)
            if key is None:
                raise KeyNotFound("there is no API key with this id", key_id=request.id)
            if key.state(now) is ApiKeyState.REVOKED:
                return pb.RevokeKeyResponse(key=key_message(key, now), unchanged=True)
            key = revoke_key(key, revoker=actor_of(""), now=now)
            await transaction.api_keys.upsert(key)
            return pb.RevokeKeyResponse(key=key_message(key, now))

        response = await act_once(self._store, request, pb.RevokeKeyResponse, act, now=now)
        await self._take_effect()
        return response

    async def ListKeys(self, request: pb.ListKeysRequest, _context: Any) -> pb.ListKeysResponse:
        check_fields(request)
        filters, now = filters_of(request), self._clock.now()
        page = page_by_time(request.page_size, request.page_token, filters=filters)
        wanted = ApiKeyFilter(tenant=permitted_tenant(request.tenant), states=_states(request), name=request.name)
        rows = await self._keys.list_page(wanted, page, now)
        shown, last = shown_rows(rows, page.size, _page_key)
        return pb.ListKeysResponse(
            keys=[key_message(key, now) for key in shown], next_page_token=encode_page_token(last, filters=filters)
        )

    async def ListAuditRecords(self, request: pb.ListAuditRecordsRequest, _context: Any) -> pb.ListAuditRecordsResponse:
        check_fields(request)
        filters = filters_of(request)
        page = page_by_time(request.page_size, request.page_token, filters=filters)
        wanted = AuditFilter(
            tenant=permitted_tenant(request.tenant),
            actor=request.actor,
            method=request.method,
            resource=request.resource,
            outcomes=_outcomes(request),
            after=optional_time(request, "created_after"),
            before=optional_time(request, "created_before"),
        )
        rows = await self._audit.list_page(wanted, page)
        shown, last = shown_rows(rows, page.size, _page_key)
        return pb.ListAuditRecordsResponse(
            records=map(audit_message, shown), next_page_token=encode_page_token(last, filters=filters)
        )

    async def GetKeySnapshot(self, request: pb.GetKeySnapshotRequest, _context: Any) -> pb.GetKeySnapshotResponse:
        await self._take_effect()
        current = self._snapshots.current
        if current is None:
            raise KeysUnavailable("the API keys are not known yet")
        if request.etag == current.etag:
            return pb.GetKeySnapshotResponse(etag=current.etag, unchanged=True)
        return key_snapshot_message(current.etag, list(current.keys.values()))

    async def ReportKeyUses(self, request: pb.ReportKeyUsesRequest, _context: Any) -> pb.ReportKeyUsesResponse:
        check_fields(request)
        if len(request.uses) > MAX_KEYS:
            refuse_if_any(Violation("uses", f"has {len(request.uses)} uses, at most {MAX_KEYS} are allowed"))
        uses, now = dict[str, datetime](), self._clock.now()
        for n, use in enumerate(request.uses):
            time = optional_time(use, "time")
            if time is None:
                refuse_if_any(Violation(f"uses[{n}].time", "is required"))
            else:
                uses[use.id] = max(uses.get(use.id, time), min(time, now))
        async with self._store.transaction() as transaction:
            await transaction.api_keys.write_uses(uses)
        return pb.ReportKeyUsesResponse()

    async def _take_effect(self) -> None:
        """Have this instance know what is stored now, if the database answers; the others learn of it in a moment."""
        with suppress(Failure):
            await self._snapshots.refresh()


def permitted_tenant(requested: str) -> str:
    """Return the tenant that a request is about: the caller's, unless one of the tenant `default` names another."""
    own = current_caller().tenant
    if requested in {"", own}:
        return own
    if own != DEFAULT_TENANT:
        raise PermissionDenied(f"only callers of the tenant {DEFAULT_TENANT} may name another tenant", tenant=requested)
    return requested


def key_message(key: ApiKey, now: datetime) -> ApiKeyMessage:
    """Return a key as clients see it now."""
    return ApiKeyMessage(
        id=key.id,
        state=ApiKeyMessage.State.Value(key.state(now).value),
        name=key.name,
        role=role_message(key.role),
        tenant=key.tenant,
        services=key.services,
        creator=key.creator,
        create_time=timestamp_of(key.create_time),
        expire_time=timestamp_of(key.expire_time),
        revoke_time=timestamp_of(key.revoke_time),
        revoker=key.revoker,
        last_use_time=timestamp_of(key.last_use_time),
    )


def _read_key(message: ApiKeyMessage, key_id: str, secret_hash: bytes, now: datetime) -> ApiKey:
    """Return the key to store; InvalidRequest names each field that is not allowed."""
    role = read_role(message.role)
    missing = [] if role else [unknown_choice("role", message.role, map(str.upper, _key_roles()))]
    key = ApiKey(
        id=key_id,
        tenant=permitted_tenant(message.tenant),
        name=message.name.strip(),
        role=role or Role.INGEST,
        services=tuple(dict.fromkeys(message.services)),
        secret_hash=secret_hash,
        creator=actor_of(""),
        create_time=now,
        expire_time=optional_time(message, "expire_time"),
    )
    refuse_if_any(*missing, *(Violation(field, why) for field, why in key_problems(key, now=now)))
    return key


def _key_roles() -> list[str]:
    return [role.value for role in Role if role is not Role.SERVICE]


def _states(request: pb.ListKeysRequest) -> frozenset[ApiKeyState]:
    check_choices("states", request.states, ApiKeyMessage.State.items()[1:])
    return frozenset(ApiKeyState(ApiKeyMessage.State.Name(value)) for value in request.states)


def _outcomes(request: pb.ListAuditRecordsRequest) -> frozenset[AuditOutcome]:
    check_choices("outcomes", request.outcomes, AuditMessage.Outcome.items()[1:])
    return frozenset(filter(None, map(read_outcome, request.outcomes)))


def _page_key(row: ApiKey | AuditRecord) -> TimeKey:
    return row.create_time.isoformat(), row.id
