from datetime import timedelta

import grpc
import pytest
from google.rpc import error_details_pb2

from services.chassis import failures
from services.chassis.failures import Failure, InvalidRequest, Violation, is_transient, to_status
from tocsin.errors.v1.error_reason_pb2 import Error

KINDS = [kind for kind in vars(failures).values() if isinstance(kind, type) and issubclass(kind, Failure)]


class TooHot(Failure):
    """It is too hot."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "TOO_HOT"


def test_a_status_carries_code_text_reason_and_metadata() -> None:
    status = to_status(TooHot("mind your fingers", plate="2"))
    info = error_details_pb2.ErrorInfo()
    assert (status.code, status.message) == (grpc.StatusCode.FAILED_PRECONDITION.value[0], "mind your fingers")
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain, dict(info.metadata)) == ("TOO_HOT", "tocsin.dev", {"plate": "2"})
    assert len(status.details) == 1


def test_violations_become_a_bad_request() -> None:
    bad = error_details_pb2.BadRequest()
    status = to_status(InvalidRequest("no", violations=[Violation("a", "is missing"), Violation("b.c", "is wrong")]))
    assert status.details[1].Unpack(bad)
    assert [(each.field, each.description) for each in bad.field_violations] == [
        ("a", "is missing"),
        ("b.c", "is wrong"),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_what_may_be_tried_again_says_when(kind: type[Failure]) -> None:
    assert (kind("x").retry_after is not None) == is_transient(kind("x"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_reason_stands_in_the_contract(kind: type[Failure]) -> None:
    assert kind.reason in set(Error.Reason.keys())


def test_a_single_failure_may_say_another_time() -> None:
    retry = error_details_pb2.RetryInfo()
    failure = failures.Overloaded("later", retry_after=timedelta(seconds=7))
    assert to_status(failure).details[1].Unpack(retry)
    assert retry.retry_delay.ToTimedelta() == timedelta(seconds=7)
    assert failures.Overloaded("later").retry_after == timedelta(seconds=1)
