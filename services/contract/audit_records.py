"""Entries of the audit log between protobuf and values; roles likewise."""

from google.protobuf.message import DecodeError

from services.contract.timestamps import datetime_of, timestamp_of
from services.domain.audit_record import MAX_RESOURCE, AuditOutcome, AuditRecord
from services.domain.roles import Role
from tocsin.access.v1.access_pb2 import Access
from tocsin.access.v1.audit_record_pb2 import AuditRecord as AuditMessage

_ROLES: dict[int, Role] = {Access.Role.Value(role.name): role for role in Role}
_OUTCOMES: dict[int, AuditOutcome] = {AuditMessage.Outcome.Value(outcome.value): outcome for outcome in AuditOutcome}
_COUNT = 2**31 - 1


class UnreadableAuditRecordError(Exception):
    """The bytes are no entry of the audit log; the text says why."""


def read_role(value: int) -> Role | None:
    """Return the role of a message; None for one that is not set, or that this release does not know."""
    return _ROLES.get(value)


def role_message(role: Role) -> Access.Role.ValueType:
    """Return the role as messages have it."""
    return Access.Role.Value(role.name)


def read_outcome(value: int) -> AuditOutcome | None:
    """Return the outcome of a message; None for one that is not set, or that this release does not know."""
    return _OUTCOMES.get(value)


def audit_message(record: AuditRecord) -> AuditMessage:
    """Return the entry as clients see it, and as the topic has it."""
    return AuditMessage(
        id=record.id,
        create_time=timestamp_of(record.create_time),
        tenant=record.tenant,
        actor=record.actor,
        actor_kind=record.actor_kind,
        actor_id=record.actor_id,
        role=role_message(Role(record.role)) if record.role else Access.ROLE_UNSPECIFIED,
        method=record.method,
        resource=record.resource,
        peer_address=record.peer_address,
        request_id=record.request_id,
        trace_id=record.trace_id,
        outcome=AuditMessage.Outcome.Value(record.outcome.value),
        code=record.code,
        reason=record.reason,
        count=min(record.count, _COUNT),
        service=record.service,
    )


def encode_audit_record(record: AuditRecord) -> bytes:
    """Return the entry as the topic has it."""
    return audit_message(record).SerializeToString()


def decode_audit_record(value: bytes) -> AuditRecord:
    """Return the entry in a record of the topic. Raises UnreadableAuditRecordError."""
    try:
        message = AuditMessage.FromString(value)
        create_time = datetime_of(message.create_time)
    except (DecodeError, ValueError) as error:
        raise UnreadableAuditRecordError("expected an AuditRecord with a time") from error
    outcome, role = read_outcome(message.outcome), read_role(message.role)
    if not message.id or outcome is None:
        raise UnreadableAuditRecordError("expected an AuditRecord with id and outcome")
    return AuditRecord(
        id=message.id,
        create_time=create_time,
        tenant=message.tenant,
        actor=message.actor,
        actor_kind=message.actor_kind,
        actor_id=message.actor_id,
        role=role.value if role else "",
        method=message.method,
        resource=message.resource[:MAX_RESOURCE],
        peer_address=message.peer_address,
        request_id=message.request_id,
        trace_id=message.trace_id,
        outcome=outcome,
        code=message.code,
        reason=message.reason,
        count=message.count,
        service=message.service,
    )
