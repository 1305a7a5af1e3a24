"""Keys and the audit log on real servers: who is let in, for how long, and what is written of it."""

import asyncio
from dataclasses import replace
from typing import Any

import grpc
import pytest

from services.chassis.grpc_client import channel
from services.chassis.settings import load_settings
from services.contract.audit_records import decode_audit_record, encode_audit_record
from services.ingest.app import app as ingest_app
from services.ingest.settings import PREFIX as INGEST_PREFIX
from services.ingest.settings import Settings as IngestSettings
from services.manager import bootstrap
from services.manager.settings import Settings
from stack.first_key import FirstKey, KeyRefusedError, create_first_key
from stack.ports import free_port
from tests.fakes.access import an_audit_record
from tests.fakes.kafka_topic import written
from tests.integration.manager.conftest import Run, World, again, until
from tocsin.access.v1 import access_service_pb2 as pb
from tocsin.access.v1.access_pb2 import Access
from tocsin.access.v1.access_service_pb2_grpc import AccessServiceStub
from tocsin.access.v1.api_key_pb2 import ApiKey
from tocsin.access.v1.audit_record_pb2 import AuditRecord
from tocsin.alerts.v1.alert_service_pb2 import ListAlertsRequest
from tocsin.changes.v1.change_service_pb2 import ListChangesRequest, RecordChangeRequest
from tocsin.changes.v1.service_change_pb2 import ServiceChange
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestRequest
from tocsin.logs.v1.log_ingest_service_pb2_grpc import LogIngestServiceStub

pytestmark = pytest.mark.integration

CHANGE = RecordChangeRequest(change=ServiceChange(service="pay", kind=ServiceChange.DEPLOYMENT, actor="mallory"))


def bearer(text: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {text}"),)


def secure(settings: Settings) -> Settings:
    return replace(settings, process=replace(settings.process, authentication="required"))


def first_key(settings: Settings, **options: str) -> FirstKey:
    variables = {"MANAGER_DATABASE_URL": settings.postgres.database_url.reveal()}
    return create_first_key(variables, **{"name": "root"} | options)


async def code_of(call: Any) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def audit(access: Any, key: str, **filters: Any) -> list[AuditRecord]:
    response = await access.ListAuditRecords(pb.ListAuditRecordsRequest(**filters), metadata=bearer(key))
    return list(response.records)


async def test_who_has_a_key_is_let_in_until_it_is_revoked_and_all_of_it_is_recorded(
    settings: Settings, running: Run
) -> None:
    root = await asyncio.to_thread(first_key, settings)
    async with running(secure(settings)) as world, channel(settings.process.listen) as calls:
        access = AccessServiceStub(calls)
        key = ApiKey(name="deployer", role=Access.RESPONDER)
        created = await access.CreateKey(pb.CreateKeyRequest(key=key), metadata=bearer(root.text))
        mine = bearer(created.text)

        # Nobody without a key, and nobody beyond his role.
        assert await code_of(world.alerts.ListAlerts(ListAlertsRequest())) is grpc.StatusCode.UNAUTHENTICATED
        wrong = bearer(created.text[:-1] + ("A" if created.text[-1] != "A" else "E"))
        assert await code_of(world.alerts.ListAlerts(ListAlertsRequest(), metadata=wrong)) is (
            grpc.StatusCode.UNAUTHENTICATED
        )
        assert await code_of(world.alerts.ListAlerts(ListAlertsRequest(), metadata=mine)) is grpc.StatusCode.OK
        assert await code_of(access.ListKeys(pb.ListKeysRequest(), metadata=mine)) is grpc.StatusCode.PERMISSION_DENIED
        assert await code_of(access.GetKeySnapshot(pb.GetKeySnapshotRequest(), metadata=bearer(root.text))) is (
            grpc.StatusCode.PERMISSION_DENIED
        )

        # A command is done in the name of the key, and its entry is there before the answer.
        recorded = await world.changes.RecordChange(CHANGE, metadata=mine)
        assert recorded.change.actor == "deployer"
        (entry,) = await audit(access, root.text, method="RecordChange")
        assert (entry.actor, entry.actor_kind, entry.actor_id) == ("deployer", "key", created.key.id)
        assert entry.resource == recorded.change.id
        assert (entry.outcome, entry.role, entry.peer_address) == (AuditRecord.DONE, Access.RESPONDER, "127.0.0.1")
        bad = RecordChangeRequest(change=ServiceChange(service=""))
        assert await code_of(world.changes.RecordChange(bad, metadata=mine)) is grpc.StatusCode.INVALID_ARGUMENT
        (failed,) = await audit(access, root.text, outcomes=[AuditRecord.FAILED])
        assert (failed.code, failed.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")

        # Refusals are written in a moment; reads never are.
        async def refusals() -> list[AuditRecord]:
            found = await audit(access, root.text, outcomes=[AuditRecord.REFUSED])
            return found if len(found) == 3 else []

        refused = await until(refusals)
        assert {(each.method.rpartition("/")[2], each.actor) for each in refused} == {
            ("ListAlerts", ""),
            ("ListKeys", "deployer"),
            ("GetKeySnapshot", "root"),
        }
        everything = await audit(access, root.text)
        assert [each.actor for each in everything if each.method.endswith("CreateKey")] == ["root", "bootstrap"]
        assert not any(text in repr(everything) for text in (root.text[20:], created.text[20:]))

        # It comes to the topic as well, and what others publish comes into the table, each once.
        await world.relayed()
        other = an_audit_record(id="from ingest", service="ingest")
        for _ in range(2):
            await world.stream.send("audit-log", encode_audit_record(other), b"default")
        await world.stream.send("audit-log", b"\xff", b"default")

        async def stored() -> bool:
            return bool(await world.value("select count(*) = 1 from audit_log where service = 'ingest'"))

        await until(stored)
        await until(world.dead_letters)
        topic = f"{settings.kafka.topic_prefix}audit-log"
        values = [message.value() for message in await asyncio.to_thread(written, settings.kafka.brokers, topic)]
        ids = [decode_audit_record(value).id for value in values if value and value != b"\xff"]
        assert {each.id for each in everything} <= set(ids)

        # A revoked key lets nobody in any more, here at once and at another instance in a moment.
        async with running(again(secure(settings))) as second:
            listed = ListChangesRequest()
            assert await code_of(second.changes.ListChanges(listed, metadata=mine)) is grpc.StatusCode.OK
            await access.RevokeKey(pb.RevokeKeyRequest(id=created.key.id), metadata=bearer(root.text))
            assert await code_of(world.changes.ListChanges(listed, metadata=mine)) is grpc.StatusCode.UNAUTHENTICATED

            async def is_refused() -> bool:
                return await code_of(second.changes.ListChanges(listed, metadata=mine)) is (
                    grpc.StatusCode.UNAUTHENTICATED
                )

            await until(is_refused, within=5)


async def test_without_authentication_commands_are_recorded_as_those_of_an_anonymous_caller(world: World) -> None:
    response = await world.changes.RecordChange(CHANGE)
    assert response.change.actor == "mallory"
    row = await world.value(
        "select (actor, actor_kind, role, outcome)::text from audit_log where method like '%Change'"
    )
    assert row == '("",anonymous,admin,DONE)'


@pytest.mark.parametrize(
    ("url", "name", "code", "said"),
    [
        ("", "two words", 2, "name: expected 1 to 128 letters"),
        ("mysql://x", "root", 2, "MANAGER_DATABASE_URL"),
    ],
)
def test_a_first_key_that_is_not_allowed_is_refused_with_the_field(
    database: str, capsys: pytest.CaptureFixture[str], url: str, name: str, code: int, said: str
) -> None:
    assert bootstrap.run([f"--name={name}"], {"MANAGER_DATABASE_URL": url or database}) == code
    assert said in capsys.readouterr().err


def test_the_program_says_what_a_first_key_is_refused_for() -> None:
    with pytest.raises(KeyRefusedError, match="usage"):
        create_first_key({}, name="root", role="king")


async def test_ingest_learns_of_keys_and_of_their_end_from_the_manager(world: World) -> None:
    listen = f"127.0.0.1:{free_port()}"
    environ = {
        "INGEST_LISTEN": listen,
        "INGEST_ADMIN_LISTEN": f"127.0.0.1:{free_port()}",
        "INGEST_BROKERS": world.settings.kafka.brokers,
        "INGEST_TOPIC_PREFIX": world.settings.kafka.topic_prefix,
        "INGEST_AUTHENTICATION": "required",
        "INGEST_MANAGER_TARGET": world.settings.process.listen,
        "INGEST_SHUTDOWN_DELAY": "0s",
    }
    async with (
        ingest_app(load_settings(IngestSettings, INGEST_PREFIX, environ)),
        channel(world.settings.process.listen) as manager,
        channel(listen) as ingest,
    ):
        access, events = AccessServiceStub(manager), LogIngestServiceStub(ingest)

        async def make(role: Access.Role.ValueType, *services: str) -> pb.CreateKeyResponse:
            key = ApiKey(name="ci", role=role, services=services)
            response: pb.CreateKeyResponse = await access.CreateKey(pb.CreateKeyRequest(key=key))
            return response

        async def sent(text: str, service: str = "pay") -> grpc.StatusCode:
            event = LogEvent(service=service, level=LogEvent.INFO, message="paid")
            return await code_of(events.Ingest(IngestRequest(event=event), metadata=bearer(text)))

        # In this order, so that whoever knows the key knows the viewer too.
        viewer, key = await make(Access.VIEWER), await make(Access.INGEST, "pay")

        async def is_known() -> bool:
            return await sent(key.text) is grpc.StatusCode.OK

        await until(is_known, within=10)

        # It is shown when the key was used last, and that the other one was not.
        async def uses() -> dict[str, bool]:
            listed = await access.ListKeys(pb.ListKeysRequest(name="ci"))
            return {each.id: each.HasField("last_use_time") for each in listed.keys}

        async def is_shown() -> bool:
            return (await uses())[key.key.id]

        await until(is_shown, within=15)
        assert await uses() == {key.key.id: True, viewer.key.id: False}
        assert await sent(key.text, "bank") is grpc.StatusCode.INVALID_ARGUMENT
        assert await sent(viewer.text) is grpc.StatusCode.PERMISSION_DENIED
        await access.RevokeKey(pb.RevokeKeyRequest(id=key.key.id))

        async def is_refused() -> bool:
            return await sent(key.text) is grpc.StatusCode.UNAUTHENTICATED

        await until(is_refused, within=5)

        # What ingest refused stands in the manager's table.
        async def refusals() -> bool:
            count = "select count(*) from audit_log where service = 'ingest' and code = 'PERMISSION_DENIED'"
            return bool(await world.value(f"{count} and actor_id = $1", viewer.key.id) == 1)

        await until(refusals)
