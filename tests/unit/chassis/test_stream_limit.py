from contextlib import ExitStack

import grpc
import pytest

from services.chassis.callers import ANONYMOUS_ADMIN, Caller
from services.chassis.failures import Overloaded
from services.chassis.stream_limit import StreamLimit

ANN = Caller(name="ann", role="viewer", kind="key", id="k1")
BOB = Caller(name="bob", role="viewer", kind="key", id="k2")
OTHER_TENANT = Caller(name="ann", role="viewer", kind="key", id="k1", tenant="acme")
SERVICE = Caller(name="evaluator", role="service", kind="service", id="spiffe://tocsin/service/evaluator")


def test_each_caller_has_a_limit_of_its_own_and_a_stream_that_ended_counts_no_more() -> None:
    limit = StreamLimit(2)
    with ExitStack() as streams:
        for caller in (ANN, ANN, BOB, OTHER_TENANT, ANONYMOUS_ADMIN, ANONYMOUS_ADMIN):
            streams.enter_context(limit.held(caller))
        for caller in (ANN, ANONYMOUS_ADMIN):
            with pytest.raises(Overloaded, match="has 2 streams open") as refused, limit.held(caller):
                pass
            assert refused.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        with limit.held(BOB):
            pass
    with limit.held(ANN), limit.held(ANN):
        pass


def test_a_stream_that_failed_counts_no_more() -> None:
    limit = StreamLimit(1)
    for _ in range(3):
        with pytest.raises(RuntimeError), limit.held(ANN):
            raise RuntimeError


def test_services_have_any_number() -> None:
    limit = StreamLimit(1)
    with limit.held(SERVICE), limit.held(SERVICE), limit.held(SERVICE):
        pass
