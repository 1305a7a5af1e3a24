"""Every reason that a caller may see is in the contract."""

import inspect

import pytest

from services.chassis import failures as chassis
from services.chassis.failures import Failure
from services.manager.rpc import failures as own
from tocsin.errors.v1.error_reason_pb2 import Error

KINDS = [
    kind
    for module in (chassis, own)
    for _, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, Failure)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_failures_reason_is_in_the_contract(kind: type[Failure]) -> None:
    assert kind.reason in Error.Reason.keys()  # noqa: SIM118  (an enum wrapper, no mapping)
    assert kind.reason != "REASON_UNSPECIFIED"
