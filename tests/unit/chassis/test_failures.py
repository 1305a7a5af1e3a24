import base64
from datetime import timedelta

import grpc
import pytest
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st

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
def test_a_transient_failure_has_a_retry_delay(kind: type[Failure]) -> None:
    assert (kind("x").retry_after is not None) == is_transient(kind("x"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_reason_is_in_the_contract(kind: type[Failure]) -> None:
    assert kind.reason in set(Error.Reason.keys())


texts = st.text(max_size=3000) | st.integers(0, 30_000).map("é".__mul__)


@given(
    texts,
    st.lists(st.builds(Violation, texts, texts), max_size=300),
    st.dictionaries(st.text(min_size=1, max_size=300), texts, max_size=20),
)
def test_trailers_never_exceed_what_clients_accept(
    text: str, violations: list[Violation], metadata: dict[str, str]
) -> None:
    failure = InvalidRequest(text, violations=violations, retry_after=timedelta(seconds=1))
    failure.metadata = metadata
    status = to_status(failure)
    message = "".join(chr(byte) if 32 <= byte < 127 else "%00" for byte in status.message.encode())
    trailers = {
        "grpc-status": "3",
        "grpc-message": message,
        "grpc-status-details-bin": base64.b64encode(status.SerializeToString()).decode(),
    }
    # RFC 9113 counts 32 bytes for each entry.
    assert sum(len(name) + len(value) + 32 for name, value in trailers.items()) < 8000


def test_long_texts_are_truncated_and_omitted_violations_counted() -> None:
    bad, info = error_details_pb2.BadRequest(), error_details_pb2.ErrorInfo()
    violations = [Violation(f"labels[{'k' * 20_000}]", "is too long"), *[Violation("a", "b" * 700)] * 9]
    status = to_status(InvalidRequest("\ud800" + "x" * 600, violations=violations, name="é" * 100))
    assert status.message == "?" + "x" * 508 + "…"
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad)
    assert dict(info.metadata) == {"name": "é" * 62 + "…", "violations_left_out": "6"}
    assert [len(each.field) for each in bad.field_violations] == [126, 1, 1, 1]
    assert bad.field_violations[0].field.startswith("labels[kkk")


def test_a_failure_may_override_the_retry_delay() -> None:
    retry = error_details_pb2.RetryInfo()
    failure = failures.Overloaded("later", retry_after=timedelta(seconds=7))
    assert to_status(failure).details[1].Unpack(retry)
    assert retry.retry_delay.ToTimedelta() == timedelta(seconds=7)
    assert failures.Overloaded("later").retry_after == timedelta(seconds=1)
