"""Whose data a call or a worker is about."""

import pytest

from services.chassis.callers import Caller, PermissionDenied, as_caller
from services.chassis.tenants import ALL_TENANTS, as_tenant, current_tenant, is_tenant_name, tenant_served


def caller(tenant: str, kind: str = "key") -> Caller:
    return Caller(name="a", role="viewer", tenant=tenant, kind=kind)


def test_outside_of_calls_it_is_the_default_tenant() -> None:
    assert current_tenant() == "default"


def test_a_call_is_about_its_callers_tenant_and_work_about_the_one_it_is_done_for() -> None:
    with as_caller(caller("acme")):
        assert current_tenant() == "acme"
        with as_tenant("other"):
            assert current_tenant() == "other"
            with as_tenant(ALL_TENANTS):
                assert current_tenant() == ALL_TENANTS
            assert current_tenant() == "other"
        assert current_tenant() == "acme"


@pytest.mark.parametrize("tenant", ["", ALL_TENANTS, "Acme", "-a", "a_b", "a'b", "a" * 64, "ä"])
def test_a_caller_cannot_choose_a_name_that_no_tenant_has(tenant: str) -> None:
    assert not is_tenant_name(tenant)
    with as_caller(caller(tenant)), pytest.raises(PermissionDenied):
        current_tenant()
    with pytest.raises(PermissionDenied):
        tenant_served(caller(tenant))


@pytest.mark.parametrize("tenant", ["a", "0", "acme-2", "a" * 63])
def test_names_of_tenants(tenant: str) -> None:
    assert is_tenant_name(tenant)


def test_a_service_names_the_tenant_and_anybody_else_has_one() -> None:
    assert tenant_served(caller("default", "service")) == ALL_TENANTS
    assert tenant_served(caller("default", "service"), "acme") == "acme"
    assert tenant_served(caller("mine"), "acme") == "mine"
