"""Failures: exceptions with a code and a stable reason, which one interceptor translates into a status.

A service declares its own ones beside these, and raises them from anywhere:

    class RuleNotFound(Failure):
        code = grpc.StatusCode.NOT_FOUND
        reason = "RULE_NOT_FOUND"

    raise RuleNotFound("no such rule", rule=rule_id)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "tocsin.dev"

# Limits of each part of a status, in bytes. HTTP/2 clients accept 8 KiB of trailers, which carry the message twice,
# once percent-encoded (three bytes for one), and the details in base64.
_MESSAGE, _NAME, _VALUE, _ENTRIES, _FIELD, _DESCRIPTION, _VIOLATIONS, _FRAME = 512, 64, 128, 4, 128, 768, 2500, 4


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of a request that is missing or wrong."""

    field: str
    description: str


class Failure(Exception):  # noqa: N818  (the base of exceptions that are named for what happened)
    """Something that did not work, described so that a caller can act on it.

    `text`, `violations` and `metadata` are sent to the caller: no driver's message, no secret.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    reason: ClassVar[str] = "INTERNAL_ERROR"
    dependency: ClassVar[str] = ""
    """The dependency that failed, by its name in health."""
    retry_after: timedelta | None = None
    has_not_begun: ClassVar[bool] = False
    """Whether this instance has done nothing for the call, and another one may well do it: Envoy asks it then."""

    def __init__(
        self,
        text: str,
        *,
        violations: Sequence[Violation] = (),
        retry_after: timedelta | None = None,
        **metadata: str,
    ) -> None:
        super().__init__(text)
        self.text = text
        self.violations = tuple(violations)
        self.metadata = metadata
        if retry_after is not None:
            self.retry_after = retry_after


class InvalidRequest(Failure):
    """The request has fields that are missing or wrong; `violations` names each."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_REQUEST"


class MalformedMessage(Failure):
    """The bytes are not the rpc's request message."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "MALFORMED_MESSAGE"


class RequestTooLarge(Failure):
    """The request is larger than a call may be."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "REQUEST_TOO_LARGE"


class Overloaded(Failure):
    """More work is waiting than memory allows."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"
    retry_after = timedelta(seconds=1)


class TenantLimitReached(Failure):
    """The caller's tenant has used up what it may; the metadata name the limit."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "TENANT_LIMIT_REACHED"
    # Of what does not become free by itself.
    retry_after = timedelta(minutes=1)


class StreamUnavailable(Failure):
    """Kafka does not respond."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "STREAM_UNAVAILABLE"
    dependency = "kafka"
    retry_after = timedelta(seconds=2)


class StoreUnavailable(Failure):
    """The database does not respond, or cannot execute the statement now."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "STORE_UNAVAILABLE"
    dependency = "postgres"
    retry_after = timedelta(seconds=2)


class StoreConflict(Failure):
    """Two transactions met; the same call may succeed when it is repeated."""

    code = grpc.StatusCode.ABORTED
    reason = "STORE_UNAVAILABLE"
    dependency = "postgres"
    retry_after = timedelta(milliseconds=100)


class StoreRefused(Failure):
    """The database refuses these values, and would refuse them again; the service should have validated them."""

    code = grpc.StatusCode.INTERNAL
    reason = "INTERNAL_ERROR"


class ShuttingDown(Failure):
    """This instance is stopping: it has not begun the call, or ends a stream, which the caller may open again."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "SHUTTING_DOWN"
    retry_after = timedelta(seconds=1)
    has_not_begun = True


class CallInterrupted(Failure):
    """This instance stopped before the call had ended."""

    # Not UNAVAILABLE: that would mean that a retry cannot do the work twice.
    code = grpc.StatusCode.UNKNOWN
    reason = "SHUTTING_DOWN"


class InternalError(Failure):
    """An unexpected error; the log has the details under the trace id."""

    code = grpc.StatusCode.INTERNAL
    reason = "INTERNAL_ERROR"


def is_transient(failure: Failure) -> bool:
    """Return whether the same work may succeed later."""
    return failure.code in {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }


def to_status(failure: Failure) -> status_pb2.Status:
    """Convert a failure to google.rpc.Status, with ErrorInfo and, where they apply, BadRequest and RetryInfo.

    The status is sent in trailers, whose size is limited: texts are truncated, and violations that do not fit are
    counted in the metadata instead.
    """
    violations = _fitting(failure.violations)
    metadata = {
        _truncate(name, _NAME): _truncate(text, _VALUE) for name, text in list(failure.metadata.items())[:_ENTRIES]
    }
    if left_out := len(failure.violations) - len(violations):
        metadata["violations_left_out"] = str(left_out)
    status = status_pb2.Status(code=failure.code.value[0], message=_truncate(failure.text, _MESSAGE))
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=failure.reason, domain=DOMAIN, metadata=metadata))
    if violations:
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=violations))
    if failure.retry_after is not None:
        delay = Duration()
        delay.FromTimedelta(failure.retry_after)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def _fitting(violations: Sequence[Violation]) -> list[error_details_pb2.BadRequest.FieldViolation]:
    """Return as many of the first violations as fit."""
    fitting: list[error_details_pb2.BadRequest.FieldViolation] = []
    room = _VIOLATIONS
    for violation in violations:
        encoded = error_details_pb2.BadRequest.FieldViolation(
            field=_truncate(violation.field, _FIELD), description=_truncate(violation.description, _DESCRIPTION)
        )
        room -= encoded.ByteSize() + _FRAME
        if room < 0:
            break
        fitting.append(encoded)
    return fitting


def _truncate(text: str, max_bytes: int) -> str:
    """Return the text, or its beginning and an ellipsis when it has more than `max_bytes`."""
    raw = text.encode(errors="replace")
    return (raw if len(raw) <= max_bytes else raw[: max_bytes - 3] + "…".encode()).decode(errors="ignore")
