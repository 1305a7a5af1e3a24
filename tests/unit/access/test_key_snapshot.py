"""The keys in memory: how they come there, and what holds while nobody answers."""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import grpc
import pytest

from services.access.key_snapshot import KeySnapshot, KeySnapshots, ManagerKeySource, key_snapshot_message
from services.access.keys import KeyRecord
from services.chassis.callers import KeysUnavailable
from services.chassis.grpc_client import channel
from services.contract.timestamps import timestamp_of
from services.domain.roles import Role
from tests.fakes.transitions import NOW
from tocsin.access.v1.access_service_pb2 import (
    GetKeySnapshotRequest,
    GetKeySnapshotResponse,
    KeyUse,
    ReportKeyUsesRequest,
    ReportKeyUsesResponse,
)
from tocsin.access.v1.access_service_pb2_grpc import AccessServiceServicer, add_AccessServiceServicer_to_server
from tocsin.access.v1.api_key_pb2 import KeyVerifier

KEY = KeyRecord(
    id="aaaaaaaaaaaa",
    secret_hash=b"h" * 32,
    name="ci",
    role=Role.INGEST,
    tenant="shop",
    services=frozenset({"a", "b"}),
    expire_time=NOW + timedelta(days=1),
)
OTHER = KeyRecord(id="bbbbbbbbbbbb", secret_hash=b"i" * 32, name="ann", role=Role.ADMIN)


class Source:
    """Has a snapshot, or fails."""

    def __init__(self) -> None:
        self.snapshot: KeySnapshot | None = None
        self.asked: list[str] = []
        self.reported: list[Mapping[str, datetime]] = []
        self.is_away = False

    async def read(self, etag: str) -> KeySnapshot | None:
        self.asked.append(etag)
        if self.snapshot is None:
            raise KeysUnavailable("away")
        return None if self.snapshot.etag == etag else self.snapshot

    async def report(self, uses: Mapping[str, datetime]) -> None:
        if self.is_away:
            raise KeysUnavailable("away")
        self.reported.append(uses)


async def test_before_the_first_snapshot_there_are_no_keys_and_the_last_one_holds() -> None:
    source = Source()
    snapshots = KeySnapshots(source)

    with pytest.raises(KeysUnavailable):
        await snapshots.refresh()
    assert snapshots.keys() is None
    source.snapshot = first = KeySnapshot(etag="1", keys={KEY.id: KEY})
    await snapshots.refresh()
    await snapshots.refresh()
    assert snapshots.current is first
    source.snapshot = None
    with pytest.raises(KeysUnavailable):
        await snapshots.refresh()
    assert snapshots.keys() == {KEY.id: KEY}
    assert source.asked == ["", "", "1", "1"]


def test_a_snapshot_does_not_show_its_keys() -> None:
    assert repr(KeySnapshot(etag="1", keys={KEY.id: KEY})) == "KeySnapshot(etag='1')"


class Manager(AccessServiceServicer):
    """Answers with one response."""

    def __init__(self) -> None:
        self.response = key_snapshot_message("7", [KEY, OTHER])
        self.reported: list[ReportKeyUsesRequest] = []
        self.refuses_with: grpc.StatusCode | None = None

    async def GetKeySnapshot(  # noqa: N802 - the rpc's name
        self, request: GetKeySnapshotRequest, _context: object
    ) -> GetKeySnapshotResponse:
        unchanged = GetKeySnapshotResponse(etag=request.etag, unchanged=True)
        return unchanged if request.etag == self.response.etag else self.response

    async def ReportKeyUses(  # noqa: N802 - the rpc's name
        self, request: ReportKeyUsesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> ReportKeyUsesResponse:
        if self.refuses_with is not None:
            await context.abort(self.refuses_with)
        self.reported.append(request)
        return ReportKeyUsesResponse()

    CreateKey = ListKeys = RevokeKey = ListAuditRecords = None  # type: ignore[assignment]  # nobody calls them


@pytest.fixture
async def manager() -> AsyncIterator[tuple[Manager, ManagerKeySource]]:
    servicer, server = Manager(), grpc.aio.server()
    add_AccessServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with channel(f"127.0.0.1:{port}") as mesh:
        yield servicer, ManagerKeySource(mesh)
    await server.stop(None)


async def test_the_manager_is_asked_with_the_last_etag(manager: tuple[Manager, ManagerKeySource]) -> None:
    _, source = manager

    assert await source.read("") == KeySnapshot(etag="7", keys={KEY.id: KEY, OTHER.id: OTHER})
    assert await source.read("7") is None


async def test_a_key_with_a_role_that_is_not_known_lets_nobody_in(manager: tuple[Manager, ManagerKeySource]) -> None:
    servicer, source = manager
    servicer.response.keys.append(KeyVerifier(id="cccccccccccc", role=99))  # type: ignore[arg-type]  # of another release

    snapshot = await source.read("")
    assert snapshot is not None
    assert set(snapshot.keys) == {KEY.id, OTHER.id}


async def test_a_manager_that_is_away_is_a_failure_that_passes() -> None:
    async with channel("127.0.0.1:1") as mesh:
        with pytest.raises(KeysUnavailable):
            await ManagerKeySource(mesh).read("")


async def test_uses_are_reported_once_and_again_after_a_failure() -> None:
    source = Source()
    snapshots = KeySnapshots(source)
    await snapshots.report_uses(NOW)
    snapshots.note_use(KEY.id, NOW)

    source.is_away = True
    with pytest.raises(KeysUnavailable):
        await snapshots.report_uses(NOW)
    source.is_away = False
    await snapshots.report_uses(NOW)
    await snapshots.report_uses(NOW)
    assert source.reported == [{KEY.id: NOW}]


async def test_the_manager_is_told_of_uses(manager: tuple[Manager, ManagerKeySource]) -> None:
    servicer, source = manager
    await source.report({KEY.id: NOW})
    assert servicer.reported == [ReportKeyUsesRequest(uses=[KeyUse(id=KEY.id, time=timestamp_of(NOW))])]

    # One of a former release does not know the rpc.
    servicer.refuses_with = grpc.StatusCode.UNIMPLEMENTED
    await source.report({KEY.id: NOW})
    servicer.refuses_with = grpc.StatusCode.UNAVAILABLE
    with pytest.raises(KeysUnavailable):
        await source.report({KEY.id: NOW})
