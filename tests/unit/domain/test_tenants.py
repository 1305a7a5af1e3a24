"""Tenants in messages, and limits that hold for each."""

import pytest

from services.domain.tenants import TenantLimits, read_tenant, write_tenant


def test_an_empty_name_stands_for_the_sole_tenant() -> None:
    assert (read_tenant(""), read_tenant("acme")) == ("default", "acme")
    assert (write_tenant("default"), write_tenant("acme")) == ("", "acme")


def test_a_limit_holds_for_all_tenants_that_have_none_of_their_own() -> None:
    limits = TenantLimits.parse("1000,acme=5000,free=0")
    assert [limits.of(tenant) for tenant in ("default", "acme", "free")] == [1000, 5000, 0]
    assert TenantLimits.parse("0") == TenantLimits()


@pytest.mark.parametrize("text", ["", "x", "-1", "1,", "1,acme", "1,=5", "1,acme=", "1,acme=x", "1,acme=1=2", "²"])
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(ValueError, match="must be a number"):
        TenantLimits.parse(text)
