"""The guard of a service: whom it lets in, and what it has recorded."""

from datetime import datetime

import grpc
import pytest

from services.access.guard import CallRecord, RoleGuard, chosen_guard
from services.access.keys import KEY_CHANCE, KeyRecord, make_key
from services.access.methods import MethodAccess
from services.chassis.callers import ANONYMOUS_ADMIN, CallOutcome, KnownCall, PermissionDenied, Unauthenticated
from services.domain.roles import Role
from tests.fakes.clock import FakeClock

START = FakeClock().now()
READ, COMMAND = "/a.A/Read", "/a.A/Act"
METHODS = {
    READ: MethodAccess(role=Role.VIEWER),
    COMMAND: MethodAccess(role=Role.RESPONDER, is_command=True),
}
OK = CallOutcome(code=grpc.StatusCode.OK)


def incoming(method: str, role: str = "viewer") -> KnownCall:
    identity = f"spiffe://tocsin/client/default/{role}/ann" if role else ""
    return KnownCall(method=method, metadata={}, peer_identity=identity)


async def guard_and_records() -> tuple[RoleGuard, list[CallRecord]]:
    records: list[CallRecord] = []

    async def keep(record: CallRecord) -> None:
        records.append(record)

    return RoleGuard(methods=METHODS, keys=dict, clock=FakeClock(), audit=keep), records


async def test_a_caller_with_the_role_is_let_in() -> None:
    guard, _ = await guard_and_records()

    assert guard.admit(incoming(READ)).name == "ann"
    assert guard.admit(incoming(COMMAND, "editor")).role == "editor"


async def test_others_are_not() -> None:
    guard, _ = await guard_and_records()

    with pytest.raises(PermissionDenied):
        guard.admit(incoming(COMMAND))
    with pytest.raises(PermissionDenied):
        guard.admit(incoming("/a.A/Unknown", "admin"))
    with pytest.raises(Unauthenticated):
        guard.admit(incoming(READ, ""))


async def test_commands_and_refusals_are_recorded_and_reads_are_not() -> None:
    guard, records = await guard_and_records()
    denied = CallOutcome(code=grpc.StatusCode.PERMISSION_DENIED, reason="PERMISSION_DENIED")
    unknown = CallOutcome(code=grpc.StatusCode.UNAUTHENTICATED, reason="UNAUTHENTICATED")
    caller = guard.admit(incoming(READ))

    await guard.record(incoming(READ), caller, OK)
    await guard.record(incoming(READ), caller, denied)
    await guard.record(incoming("/a.A/Unknown"), None, unknown)
    await guard.record(incoming(COMMAND), caller, OK)
    await guard.record(incoming("/a.A/Unknown"), caller, OK)

    assert [(record.call.method, record.outcome) for record in records] == [
        (READ, denied),
        ("/a.A/Unknown", unknown),
        (COMMAND, OK),
    ]
    assert all(record.at == START for record in records)


async def test_who_was_refused_for_its_role_is_named() -> None:
    guard, records = await guard_and_records()
    denied = CallOutcome(code=grpc.StatusCode.PERMISSION_DENIED, reason="PERMISSION_DENIED")

    await guard.record(incoming(COMMAND), None, denied)
    # Its certificate has expired meanwhile, as it were.
    await guard.record(incoming(COMMAND, ""), None, denied)
    assert [record.caller.name if record.caller else None for record in records] == ["ann", None]


async def test_without_authentication_everybody_may_do_everything_and_commands_are_recorded() -> None:
    records: list[CallRecord] = []

    async def keep(record: CallRecord) -> None:
        records.append(record)

    guard = chosen_guard("off", lambda: None, FakeClock(), keep)
    assert guard.admit(incoming("/a.A/Unknown", "")) == ANONYMOUS_ADMIN
    await guard.record(incoming("/tocsin.alerts.v1.AlertService/ListAlerts"), ANONYMOUS_ADMIN, OK)
    await guard.record(incoming("/tocsin.alerts.v1.AlertService/ResolveAlert"), ANONYMOUS_ADMIN, OK)
    assert [record.call.method for record in records] == ["/tocsin.alerts.v1.AlertService/ResolveAlert"]


def test_with_authentication_the_contracts_say_who_may() -> None:
    guard = chosen_guard("required", lambda: None, FakeClock())

    assert guard.admit(incoming("/tocsin.alerts.v1.AlertService/ListAlerts")).name == "ann"
    with pytest.raises(PermissionDenied):
        guard.admit(incoming("/tocsin.alerts.v1.AlertService/ResolveAlert"))


def test_the_use_of_a_key_is_noted_whatever_it_opens_and_that_of_a_wrong_one_is_not() -> None:
    text, key_id, secret_hash = make_key(b"k" * KEY_CHANCE)
    keys = {key_id: KeyRecord(id=key_id, secret_hash=secret_hash, name="ci", role=Role.VIEWER)}
    noted: list[tuple[str, datetime]] = []
    guard = RoleGuard(
        methods=METHODS, keys=lambda: keys, clock=FakeClock(), note_use=lambda key, at: noted.append((key, at))
    )

    def call(method: str, text: str) -> KnownCall:
        return KnownCall(method=method, metadata={"authorization": f"Bearer {text}"})

    guard.admit(call(READ, text))
    with pytest.raises(PermissionDenied):
        guard.admit(call(COMMAND, text))
    assert noted == [(key_id, START)] * 2
    with pytest.raises(Unauthenticated):
        guard.admit(call(READ, text[:-1] + ("a" if text[-1] != "a" else "b")))
    guard.admit(incoming(READ))
    assert len(noted) == 2
