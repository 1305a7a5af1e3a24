"""Failures: types with a code and a stable reason, which one interceptor turns into a status.

A service declares its own beside these, and raises them from anywhere:

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

# Bytes of each part of a status. HTTP/2 clients take 8 KiB of trailers, in which the message stands twice, once with
# three bytes for one, and the details in base64.
_MESSAGE, _NAME, _VALUE, _ENTRIES, _FIELD, _DESCRIPTION, _VIOLATIONS, _FRAME = 512, 64, 128, 4, 128, 768, 2500, 4


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of a request that is missing or wrong."""

    field: str
    description: str


class Failure(Exception):  # noqa: N818  (house rule 9 names it; its kin are named for what happened)
    """Something that did not work, said so that a caller can act on it.

    `text`, `violations` and `metadata` reach the caller: no driver's text, no secret.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    reason: ClassVar[str] = "INTERNAL_ERROR"
    dependency: ClassVar[str] = ""
    """What the service needs and did not get, by its name in health."""
    retry_after: timedelta | None = None

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
    """The request holds fields that are missing or wrong; `violations` names each."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_REQUEST"


class MalformedMessage(Failure):
    """The bytes are not the message that the rpc takes."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "MALFORMED_MESSAGE"


class RequestTooLarge(Failure):
    """The request holds more than one call may carry."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "REQUEST_TOO_LARGE"


class Overloaded(Failure):
    """More is waiting than may be held in memory."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"
    retry_after = timedelta(seconds=1)


class StreamUnavailable(Failure):
    """Kafka does not answer."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "STREAM_UNAVAILABLE"
    dependency = "kafka"
    retry_after = timedelta(seconds=2)


class StoreUnavailable(Failure):
    """The database does not answer, or cannot do now what it was asked."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "STORE_UNAVAILABLE"
    dependency = "postgres"
    retry_after = timedelta(seconds=2)


class StoreConflict(Failure):
    """Two transactions met; the same call made again may well succeed."""

    code = grpc.StatusCode.ABORTED
    reason = "STORE_UNAVAILABLE"
    dependency = "postgres"
    retry_after = timedelta(milliseconds=100)


class StoreRefused(Failure):
    """The database refuses these very values, and would do so again; a service should have refused them before."""

    code = grpc.StatusCode.INTERNAL
    reason = "INTERNAL_ERROR"


class ShuttingDown(Failure):
    """This instance is stopping, and has not begun with the call, or ends a stream, which may be opened again."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "SHUTTING_DOWN"
    retry_after = timedelta(seconds=1)


class CallInterrupted(Failure):
    """This instance stopped before the call had ended."""

    # Not UNAVAILABLE, after which a caller may try again without anything being done twice.
    code = grpc.StatusCode.UNKNOWN
    reason = "SHUTTING_DOWN"


class InternalError(Failure):
    """Something that should not happen; the log has the details under the trace id."""

    code = grpc.StatusCode.INTERNAL
    reason = "INTERNAL_ERROR"


def is_transient(failure: Failure) -> bool:
    """Whether the same work, done again later, may succeed."""
    return failure.code in {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }


def to_status(failure: Failure) -> status_pb2.Status:
    """Put a failure into google.rpc.Status, with ErrorInfo and, where they apply, BadRequest and RetryInfo.

    It travels in trailers, whose size is limited: texts are cut, and violations that have no room are counted in the
    metadata instead.
    """
    violations = _fitting(failure.violations)
    metadata = {_cut(name, _NAME): _cut(text, _VALUE) for name, text in list(failure.metadata.items())[:_ENTRIES]}
    if left_out := len(failure.violations) - len(violations):
        metadata["violations_left_out"] = str(left_out)
    status = status_pb2.Status(code=failure.code.value[0], message=_cut(failure.text, _MESSAGE))
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=failure.reason, domain=DOMAIN, metadata=metadata))
    if violations:
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=violations))
    if failure.retry_after is not None:
        delay = Duration()
        delay.FromTimedelta(failure.retry_after)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def _fitting(violations: Sequence[Violation]) -> list[error_details_pb2.BadRequest.FieldViolation]:
    """The first violations, as many as have room."""
    found: list[error_details_pb2.BadRequest.FieldViolation] = []
    room = _VIOLATIONS
    for each in violations:
        made = error_details_pb2.BadRequest.FieldViolation(
            field=_cut(each.field, _FIELD), description=_cut(each.description, _DESCRIPTION)
        )
        room -= made.ByteSize() + _FRAME
        if room < 0:
            break
        found.append(made)
    return found


def _cut(text: str, most: int) -> str:
    """The text, or its beginning and an ellipsis when it has more than `most` bytes."""
    raw = text.encode(errors="replace")
    return (raw if len(raw) <= most else raw[: most - 3] + "…".encode()).decode(errors="ignore")
