"""The status of a refused call."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2


@dataclass(frozen=True, slots=True)
class Refusal:
    """Code, reason, the fields that are wrong, and whether a retry is suggested."""

    code: grpc.StatusCode
    reason: str
    fields: tuple[str, ...]
    descriptions: tuple[str, ...]
    has_retry: bool


async def refusal(call: Awaitable[Any]) -> Refusal:
    """Return the refusal of a call that must be refused."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    status = status_pb2.Status.FromString(dict(refused.value.trailing_metadata() or ())["grpc-status-details-bin"])
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    has_retry = False
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
        has_retry = detail.Unpack(retry) or has_retry
    return Refusal(
        code=refused.value.code(),
        reason=info.reason,
        fields=tuple(each.field for each in bad.field_violations),
        descriptions=tuple(each.description for each in bad.field_violations),
        has_retry=has_retry,
    )
