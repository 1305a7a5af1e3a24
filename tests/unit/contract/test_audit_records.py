"""Entries of the audit log as the topic has them."""

import pytest

from services.contract.audit_records import (
    UnreadableAuditRecordError,
    audit_message,
    decode_audit_record,
    encode_audit_record,
    read_outcome,
    read_role,
    role_message,
)
from services.domain.audit_record import AuditOutcome
from services.domain.roles import Role
from tests.fakes.access import an_audit_record
from tocsin.access.v1.access_pb2 import Access
from tocsin.access.v1.audit_record_pb2 import AuditRecord


@pytest.mark.parametrize("outcome", AuditOutcome)
@pytest.mark.parametrize("role", ["", *Role])
def test_an_entry_comes_back_as_it_was(outcome: AuditOutcome, role: str) -> None:
    record = an_audit_record(
        outcome=outcome, role=str(role), resource="r", request_id="q", trace_id="t", reason="X", count=7
    )
    assert decode_audit_record(encode_audit_record(record)) == record


@pytest.mark.parametrize("role", Role)
def test_roles_have_the_names_of_the_contract(role: Role) -> None:
    assert Access.Role.Name(role_message(role)).lower() == role.value
    assert read_role(role_message(role)) is role


def test_what_this_release_does_not_know_is_nothing() -> None:
    assert read_role(Access.ROLE_UNSPECIFIED) is None
    assert read_role(99) is None
    assert read_outcome(99) is None


def test_a_resource_and_a_count_are_bounded() -> None:
    record = an_audit_record(resource="x" * 300, count=2**40)
    assert decode_audit_record(encode_audit_record(record)).resource == "x" * 256
    assert audit_message(record).count == 2**31 - 1


@pytest.mark.parametrize(
    "value",
    [
        b"\xff",
        b"",
        AuditRecord(id="a").SerializeToString(),
        AuditRecord(outcome=AuditRecord.DONE).SerializeToString(),
    ],
)
def test_what_is_no_entry_is_refused(value: bytes) -> None:
    with pytest.raises(UnreadableAuditRecordError):
        decode_audit_record(value)


def test_a_time_that_is_none_is_refused() -> None:
    message = audit_message(an_audit_record())
    message.create_time.seconds = 2**60
    with pytest.raises(UnreadableAuditRecordError):
        decode_audit_record(message.SerializeToString())
