"""Keys and the audit log by calls: what is refused, and what is shown to whom."""

import hashlib
import uuid
from datetime import timedelta
from typing import Any

import pytest

from services.access.key_snapshot import KeySnapshots, read_key_snapshot
from services.access.keys import KEY_CHANCE, read_key
from services.chassis.callers import Caller, KeysUnavailable, PermissionDenied, as_caller
from services.chassis.failures import InvalidRequest
from services.contract.timestamps import timestamp_of
from services.domain.audit_record import AuditOutcome
from services.domain.roles import Role
from services.manager.adapters.key_source import StoredKeySource
from services.manager.core import api_keys
from services.manager.core.api_keys import ApiKey
from services.manager.rpc import access
from services.manager.rpc.access import AccessRpc
from services.manager.rpc.failures import KeyNotFound, TooManyKeys
from services.manager.rpc.requests import actor_of, author_of
from tests.fakes.access import MemoryApiKeyReader, MemoryAuditReader, a_key, an_audit_record
from tests.fakes.clock import FakeClock
from tests.fakes.manager import MemoryStore
from tests.fakes.transitions import NOW
from tocsin.access.v1 import access_service_pb2 as pb
from tocsin.access.v1.access_pb2 import Access
from tocsin.access.v1.api_key_pb2 import ApiKey as ApiKeyMessage
from tocsin.access.v1.audit_record_pb2 import AuditRecord

HOUR = timedelta(hours=1)
ANN = Caller(name="ann", role="admin", kind="certificate", id="spiffe://tocsin/client/default/admin/ann")
OF_SHOP = Caller(name="sue", role="admin", tenant="shop", kind="key", id="cccccccccccc")


class World:
    """The service on a store in memory."""

    def __init__(self) -> None:
        self.store, self.clock = MemoryStore(), FakeClock(NOW)
        self.reader = MemoryApiKeyReader(self.store)
        self.snapshots = KeySnapshots(StoredKeySource(self.store, self.reader, self.clock))
        self._made = 0
        self.rpc = AccessRpc(
            self.store, self.reader, MemoryAuditReader(self.store), self.snapshots, self.clock, self._chance
        )

    def _chance(self, size: int) -> bytes:
        self._made += 1
        return self._made.to_bytes(size, "big")[::-1]

    async def create(self, request_id: str = "", **fields: Any) -> pb.CreateKeyResponse:
        values: dict[str, Any] = {"name": "ci", "role": Access.EDITOR}
        key = ApiKeyMessage(**values | fields)
        return await self.rpc.CreateKey(pb.CreateKeyRequest(key=key, request_id=request_id), None)

    async def refused(self, **fields: Any) -> dict[str, str]:
        with pytest.raises(InvalidRequest) as refusal:
            await self.create(**fields)
        return {each.field: each.description for each in refusal.value.violations}

    async def names(self, **filters: Any) -> list[str]:
        response = await self.rpc.ListKeys(pb.ListKeysRequest(**filters), None)
        return [key.name for key in response.keys]

    def put(self, *keys: ApiKey) -> None:
        self.store.tables.access.keys |= {key.id: key for key in keys}
        self.store.tables.access.revision += 1


@pytest.fixture
def world() -> World:
    return World()


async def test_a_key_is_made_with_its_text_which_is_stored_nowhere(world: World) -> None:
    expire_time = timestamp_of(NOW + HOUR)
    with as_caller(ANN):
        response = await world.create(role=Access.INGEST, services=["a", "b", "a"], expire_time=expire_time)

    parts = read_key(response.text)
    assert parts is not None
    assert world.store.tables.access.keys == {
        parts[0]: a_key(
            id=parts[0],
            role=Role.INGEST,
            services=("a", "b"),
            secret_hash=parts[1],
            expire_time=NOW + HOUR,
        )
    }
    assert response.key == ApiKeyMessage(
        id=parts[0],
        state=ApiKeyMessage.ACTIVE,
        name="ci",
        role=Access.INGEST,
        tenant="default",
        services=["a", "b"],
        creator="ann",
        create_time=timestamp_of(NOW),
        expire_time=expire_time,
    )
    secret = response.text.rpartition("_")[2]
    assert secret not in repr(world.store.tables)


async def test_a_new_key_is_known_to_this_instance_before_it_is_answered(world: World) -> None:
    response = await world.create()
    assert world.snapshots.keys() is not None
    assert response.key.id in (world.snapshots.keys() or {})


async def test_a_repeated_call_makes_no_other_key_and_does_not_show_the_text_again(world: World) -> None:
    request_id = str(uuid.uuid4())
    first = await world.create(request_id)
    second = await world.create(request_id)

    assert first.text
    assert (second.text, second.key) == ("", first.key)
    assert len(world.store.tables.access.keys) == 1


async def test_a_key_that_is_only_checked_is_not_stored(world: World) -> None:
    request = pb.CreateKeyRequest(key=ApiKeyMessage(name="ci", role=Access.VIEWER), validate_only=True)
    response = await world.rpc.CreateKey(request, None)

    assert (response.text, response.key.id, response.key.HasField("create_time"), response.key.state) == (
        "",
        "",
        False,
        0,
    )
    assert response.key.name == "ci"
    assert world.store.tables.access.keys == {}


async def test_what_is_not_allowed_in_a_key_is_named(world: World) -> None:
    assert "INGEST, VIEWER, RESPONDER, EDITOR, ADMIN" in (await world.refused(role=0))["role"]
    assert "no key has" in (await world.refused(role=Access.SERVICE))["role"]
    assert set(await world.refused(name="", role=0)) == {"name", "role"}
    assert set(await world.refused(expire_time=timestamp_of(NOW))) == {"expireTime"}
    assert set(await world.refused(name="a\0")) == {"name"}
    assert set(await world.refused(request_id="no uuid")) == {"requestId"}


async def test_there_are_only_so_many_valid_keys(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MAX_KEYS", 2)
    assert api_keys.MAX_KEYS == 10_000
    world.put(a_key(id="a"), a_key(id="b", expire_time=NOW))
    await world.create()
    with pytest.raises(TooManyKeys):
        await world.create()


async def test_a_revoked_key_is_valid_no_more(world: World) -> None:
    key_id = (await world.create()).key.id
    with as_caller(ANN):
        response = await world.rpc.RevokeKey(pb.RevokeKeyRequest(id=key_id), None)
        again = await world.rpc.RevokeKey(pb.RevokeKeyRequest(id=key_id), None)

    assert (response.key.state, response.key.revoker, response.unchanged) == (ApiKeyMessage.REVOKED, "ann", False)
    assert response.key.revoke_time == timestamp_of(NOW)
    assert (again.key, again.unchanged) == (response.key, True)
    assert world.snapshots.keys() == {}


async def test_a_repeated_revocation_gets_the_first_response(world: World) -> None:
    request = pb.RevokeKeyRequest(id=(await world.create()).key.id, request_id=str(uuid.uuid4()))
    assert await world.rpc.RevokeKey(request, None) == await world.rpc.RevokeKey(request, None)


async def test_keys_are_listed_by_page_state_and_name(world: World) -> None:
    world.put(
        *(a_key(id=str(n), name=f"n{n}", create_time=NOW + timedelta(seconds=n)) for n in range(3)),
        a_key(id="-", name="ended", expire_time=NOW),
    )

    assert await world.names() == ["n2", "n1", "n0", "ended"]
    assert await world.names(states=[ApiKeyMessage.EXPIRED]) == ["ended"]
    assert await world.names(name="n1") == ["n1"]
    page = await world.rpc.ListKeys(pb.ListKeysRequest(page_size=3), None)
    rest = await world.rpc.ListKeys(pb.ListKeysRequest(page_size=3, page_token=page.next_page_token), None)
    assert ([key.name for key in rest.keys], rest.next_page_token) == (["ended"], "")
    with pytest.raises(InvalidRequest):
        await world.names(states=[77])


async def test_keys_and_entries_of_another_tenant_are_only_for_those_of_the_tenant_default(world: World) -> None:
    world.put(a_key(id="a", name="own"), a_key(id="b", name="theirs", tenant="shop"))
    world.store.tables.access.audit["r"] = an_audit_record(tenant="shop")
    with as_caller(OF_SHOP):
        assert await world.names() == ["theirs"]
        assert (await world.create()).key.tenant == "shop"
        with pytest.raises(KeyNotFound):
            await world.rpc.RevokeKey(pb.RevokeKeyRequest(id="a"), None)
        for refused in (
            world.names(tenant="default"),
            world.create(tenant="default"),
            world.rpc.RevokeKey(pb.RevokeKeyRequest(id="a", tenant="default"), None),
            world.rpc.ListAuditRecords(pb.ListAuditRecordsRequest(tenant="default"), None),
        ):
            with pytest.raises(PermissionDenied):
                await refused
        shown = await world.rpc.ListAuditRecords(pb.ListAuditRecordsRequest(tenant="shop"), None)
        assert len(shown.records) == 1
    assert await world.names() == ["own"]
    assert sorted(await world.names(tenant="shop")) == ["ci", "theirs"]
    assert (await world.create(tenant="new")).key.tenant == "new"
    assert (await world.rpc.RevokeKey(pb.RevokeKeyRequest(id="b", tenant="shop"), None)).key.name == "theirs"


async def test_the_audit_log_is_listed_by_page_and_filter(world: World) -> None:
    world.store.tables.access.audit |= {
        str(n): an_audit_record(
            id=str(n),
            create_time=NOW + timedelta(seconds=n),
            actor="ab"[n % 2],
            outcome=list(AuditOutcome)[n % 3],
            resource=f"r{n}",
        )
        for n in range(6)
    }

    async def ids(**filters: Any) -> list[str]:
        response = await world.rpc.ListAuditRecords(pb.ListAuditRecordsRequest(**filters), None)
        return [record.id for record in response.records]

    assert await ids() == ["5", "4", "3", "2", "1", "0"]
    assert await ids(actor="a") == ["4", "2", "0"]
    assert await ids(outcomes=[AuditRecord.REFUSED, AuditRecord.FAILED]) == ["5", "4", "2", "1"]
    assert await ids(method="CREATE", resource="r3") == ["3"]
    second = timedelta(seconds=1)
    times = {"created_after": timestamp_of(NOW + 2 * second), "created_before": timestamp_of(NOW + 4 * second)}
    assert await ids(**times) == ["3", "2"]
    page = await world.rpc.ListAuditRecords(pb.ListAuditRecordsRequest(page_size=4), None)
    assert await ids(page_size=4, page_token=page.next_page_token) == ["1", "0"]
    with pytest.raises(InvalidRequest):
        await ids(outcomes=[77])


async def test_services_are_told_the_valid_keys_of_all_tenants_once(world: World) -> None:
    world.put(a_key(id="a"), a_key(id="b", tenant="shop"), a_key(id="c", expire_time=NOW))
    response = await world.rpc.GetKeySnapshot(pb.GetKeySnapshotRequest(), None)
    again = await world.rpc.GetKeySnapshot(pb.GetKeySnapshotRequest(etag=response.etag), None)

    snapshot = read_key_snapshot(response)
    assert set(snapshot.keys) == {"a", "b"}
    assert snapshot.keys["b"].tenant == "shop"
    assert snapshot.keys["a"].is_held_with(hashlib.sha256(b"secret").digest())
    assert again == pb.GetKeySnapshotResponse(etag=response.etag, unchanged=True)


async def test_while_the_database_is_away_the_last_keys_hold(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away() -> str:
        raise KeysUnavailable("away")

    world.put(a_key(id="a"))
    response = await world.rpc.GetKeySnapshot(pb.GetKeySnapshotRequest(), None)
    monkeypatch.setattr(world.reader, "version", away)
    assert await world.rpc.GetKeySnapshot(pb.GetKeySnapshotRequest(), None) == response
    fresh = World()
    monkeypatch.setattr(fresh.reader, "version", away)
    with pytest.raises(KeysUnavailable):
        await fresh.rpc.GetKeySnapshot(pb.GetKeySnapshotRequest(), None)


def test_who_acts_is_the_caller_whose_credentials_were_checked() -> None:
    assert (actor_of(" bob "), author_of("bob"), actor_of(""), author_of(" ")) == ("bob", "bob", "anonymous", "")
    with as_caller(ANN):
        assert (actor_of("bob"), author_of("")) == ("ann", "ann")
    with as_caller(Caller(name="", role="service", kind="service", id="spiffe://x")):
        assert actor_of("bob") == "spiffe://x"
    with as_caller(Caller(name="n" * 300, role="viewer", kind="token")):
        assert actor_of("bob") == "n" * 256
    with as_caller(Caller(name="", role="viewer", kind="anonymous")):
        assert actor_of("bob") == "bob"


def test_there_is_enough_chance_in_a_key() -> None:
    assert KEY_CHANCE == 40


async def test_the_last_use_of_a_key_is_shown(world: World) -> None:
    world.put(a_key(id="used"), a_key(id="never"))
    uses = [
        pb.KeyUse(id="used", time=timestamp_of(NOW - HOUR)),
        pb.KeyUse(id="used", time=timestamp_of(NOW + HOUR)),
        pb.KeyUse(id="used", time=timestamp_of(NOW - HOUR)),
        pb.KeyUse(id="unknown", time=timestamp_of(NOW)),
    ]
    await world.rpc.ReportKeyUses(pb.ReportKeyUsesRequest(uses=uses), None)

    response = await world.rpc.ListKeys(pb.ListKeysRequest(), None)
    shown = {key.id: key.last_use_time if key.HasField("last_use_time") else None for key in response.keys}
    # No clock of a service is ahead of the manager's.
    assert shown == {"used": timestamp_of(NOW), "never": None}


@pytest.mark.parametrize(
    ("uses", "field"),
    [
        ([pb.KeyUse(id="a")], "uses[0].time"),
        ([pb.KeyUse(id="a", time=timestamp_of(NOW)), pb.KeyUse(id="b")], "uses[1].time"),
        ([pb.KeyUse(id="a\0", time=timestamp_of(NOW))], "id"),
        ([pb.KeyUse()] * 10_001, "uses"),
    ],
)
async def test_uses_that_are_not_allowed_are_refused(world: World, uses: list[pb.KeyUse], field: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await world.rpc.ReportKeyUses(pb.ReportKeyUsesRequest(uses=uses), None)
    assert [each.field for each in refusal.value.violations] == [field]
