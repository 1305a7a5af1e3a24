"""The valid keys, in memory: calls are checked against them without a call or a query of their own.

The manager reads them from its table when they have changed, and looks every two seconds; the other services ask the
manager every two seconds. So a revoked key is refused everywhere within five seconds. While nobody answers, the last
snapshot holds: that of a service which has never had one is None, and its guard refuses calls as UNAVAILABLE.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import grpc
import structlog

from services.access.key_uses import KeyUses
from services.access.keys import KeyRecord
from services.chassis.backoff import Backoff
from services.chassis.callers import KeysUnavailable
from services.contract.audit_records import read_role, role_message
from services.contract.timestamps import datetime_of, timestamp_of
from tocsin.access.v1.access_service_pb2 import (
    GetKeySnapshotRequest,
    GetKeySnapshotResponse,
    KeyUse,
    ReportKeyUsesRequest,
)
from tocsin.access.v1.access_service_pb2_grpc import AccessServiceStub
from tocsin.access.v1.api_key_pb2 import KeyVerifier

log = structlog.get_logger()

KEY_REFRESH_INTERVAL = timedelta(seconds=2)
KEY_REFRESH_BACKOFF = Backoff(max_delay=KEY_REFRESH_INTERVAL)
_TIMEOUT_S = 2.0
# What a manager, or an Envoy, of a former release answers an rpc that it does not know with.
_UNKNOWN = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.PERMISSION_DENIED)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySnapshot:
    """The valid keys of one moment, by id."""

    etag: str
    keys: Mapping[str, KeyRecord] = field(repr=False)


class KeySource(Protocol):
    """Where the keys are read from, and where their uses are reported."""

    async def read(self, etag: str) -> KeySnapshot | None:
        """Return the valid keys; None while they are those of this etag. Raises Failure."""

    async def report(self, uses: Mapping[str, datetime]) -> None:
        """Report when keys were last used, by their ids. Raises Failure."""


class KeySnapshots:
    """Holds the last snapshot, and which of its keys are used; call `refresh` and `report_uses` in loops."""

    def __init__(self, source: KeySource) -> None:
        self._source = source
        self._uses = KeyUses()
        self._current: KeySnapshot | None = None
        self._refreshing = asyncio.Lock()

    @property
    def current(self) -> KeySnapshot | None:
        """Return the last snapshot; None before the first one."""
        return self._current

    def keys(self) -> Mapping[str, KeyRecord] | None:
        """Return its keys, as a guard needs them."""
        return None if self._current is None else self._current.keys

    def note_use(self, key_id: str, at: datetime) -> None:
        """Remember that a key was used."""
        self._uses.note(key_id, at)

    async def report_uses(self, now: datetime) -> None:
        """Report which keys were used, each once a minute at most. Raises Failure; the next turn reports them then."""
        uses = self._uses.take_due(now)
        try:
            if uses:
                await self._source.report(uses)
        except BaseException:
            self._uses.put_back(uses)
            raise

    async def refresh(self) -> None:
        """Make the snapshot at least as new as this moment. Raises Failure."""
        async with self._refreshing:
            snapshot = await self._source.read(self._current.etag if self._current else "")
            if snapshot is not None:
                self._current = snapshot
                log.info("keys_loaded", etag=snapshot.etag, keys=len(snapshot.keys))


class ManagerKeySource:
    """Asks the manager, through the mesh."""

    def __init__(self, mesh: grpc.aio.Channel) -> None:
        self._stub = AccessServiceStub(mesh)

    async def read(self, etag: str) -> KeySnapshot | None:
        """See KeySource."""
        try:
            response = await self._stub.GetKeySnapshot(GetKeySnapshotRequest(etag=etag), timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise KeysUnavailable("the manager does not answer") from error
        return None if response.unchanged else read_key_snapshot(response)

    async def report(self, uses: Mapping[str, datetime]) -> None:
        """See KeySource."""
        request = ReportKeyUsesRequest(uses=[KeyUse(id=key, time=timestamp_of(time)) for key, time in uses.items()])
        try:
            await self._stub.ReportKeyUses(request, timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() in _UNKNOWN:
                log.debug("key_uses_not_taken", code=error.code().name)
                return
            raise KeysUnavailable("the manager does not answer") from error


def key_snapshot_message(etag: str, keys: Sequence[KeyRecord]) -> GetKeySnapshotResponse:
    """Return the response that has these keys."""
    verifiers = [
        KeyVerifier(
            id=key.id,
            secret_hash=key.secret_hash,
            name=key.name,
            role=role_message(key.role),
            tenant=key.tenant,
            services=sorted(key.services),
            expire_time=timestamp_of(key.expire_time),
        )
        for key in keys
    ]
    return GetKeySnapshotResponse(etag=etag, keys=verifiers)


def read_key_snapshot(response: GetKeySnapshotResponse) -> KeySnapshot:
    """Return the keys of a response, without those whose role this release does not know: they let nobody in."""
    keys = {}
    for verifier in response.keys:
        role = read_role(verifier.role)
        if role is None:
            log.warning("key_left_out", key=verifier.id, reason="its role is not known to this release")
            continue
        keys[verifier.id] = KeyRecord(
            id=verifier.id,
            secret_hash=verifier.secret_hash,
            name=verifier.name,
            role=role,
            tenant=verifier.tenant,
            services=frozenset(verifier.services),
            expire_time=datetime_of(verifier.expire_time) if verifier.HasField("expire_time") else None,
        )
    return KeySnapshot(etag=response.etag, keys=keys)
