"""What may stand in a key, and where it stands."""

from datetime import timedelta
from typing import Any

import pytest

from services.domain.audit_record import AuditOutcome
from services.domain.roles import Role
from services.manager.core.api_keys import ApiKeyFilter, ApiKeyState, key_problems, revoke_key
from services.manager.core.audit_filter import AuditFilter
from tests.fakes.access import a_key, an_audit_record
from tests.fakes.transitions import NOW

HOUR = timedelta(hours=1)


def test_a_key_is_active_until_it_expires_or_is_revoked() -> None:
    key = a_key(expire_time=NOW + HOUR)

    assert a_key().state(NOW + 999 * HOUR) is ApiKeyState.ACTIVE
    assert key.state(NOW + HOUR - timedelta(microseconds=1)) is ApiKeyState.ACTIVE
    assert key.state(NOW + HOUR) is ApiKeyState.EXPIRED
    revoked = revoke_key(key, revoker="bob", now=NOW)
    assert (revoked.state(NOW + HOUR), revoked.revoker, revoked.revoke_time) == (ApiKeyState.REVOKED, "bob", NOW)


def test_a_key_does_not_show_the_hash_of_its_secret() -> None:
    assert "secret_hash" not in repr(a_key())


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"name": "a.b_C-9@x"},
        {"name": "n" * 128},
        {"tenant": "t" * 63},
        {"expire_time": NOW + timedelta(seconds=1)},
        {"role": Role.INGEST, "services": ("s" * 256,) * 100},
        *({"role": role} for role in Role if role is not Role.SERVICE),
    ],
)
def test_these_are_allowed(changed: dict[str, Any]) -> None:
    assert key_problems(a_key(**changed), now=NOW) == []


@pytest.mark.parametrize(
    ("changed", "field", "said"),
    [
        ({"name": ""}, "name", "1 to 128"),
        ({"name": "n" * 129}, "name", "1 to 128"),
        ({"name": "two words"}, "name", "letters"),
        ({"role": Role.SERVICE}, "role", "no key has"),
        ({"tenant": ""}, "tenant", "1 to 63"),
        ({"tenant": "t" * 64}, "tenant", "1 to 63"),
        ({"tenant": "T"}, "tenant", "lower-case"),
        ({"tenant": "-t"}, "tenant", "no hyphen first"),
        ({"expire_time": NOW}, "expireTime", "after now"),
        ({"role": Role.VIEWER, "services": ("a",)}, "services", "found viewer"),
        ({"role": Role.INGEST, "services": ("a",) * 101}, "services", "has 101 services, at most 100"),
        ({"role": Role.INGEST, "services": ("a", "")}, "services[1]", "found 0"),
        ({"role": Role.INGEST, "services": ("s" * 257,)}, "services[0]", "found 257"),
    ],
)
def test_others_are_not(changed: dict[str, Any], field: str, said: str) -> None:
    ((found, description),) = key_problems(a_key(**changed), now=NOW)
    assert found == field
    assert said in description


@pytest.mark.parametrize(
    ("filters", "is_selected"),
    [
        ({}, True),
        ({"tenant": "other"}, False),
        ({"name": "ci"}, True),
        ({"name": "c"}, False),
        ({"states": frozenset({ApiKeyState.ACTIVE})}, True),
        ({"states": frozenset({ApiKeyState.REVOKED})}, False),
    ],
)
def test_a_filter_selects_keys_for_which_all_fields_hold(filters: dict[str, Any], *, is_selected: bool) -> None:
    assert ApiKeyFilter(**{"tenant": "default"} | filters).selects(a_key(), NOW) is is_selected


@pytest.mark.parametrize(
    ("filters", "is_selected"),
    [
        ({}, True),
        ({"tenant": "other"}, False),
        ({"actor": "ci"}, True),
        ({"actor": "c"}, False),
        ({"method": "createalert"}, True),
        ({"method": "delete"}, False),
        ({"resource": "rule"}, True),
        ({"resource": "other"}, False),
        ({"outcomes": frozenset({AuditOutcome.DONE})}, True),
        ({"outcomes": frozenset({AuditOutcome.REFUSED})}, False),
        ({"after": NOW}, True),
        ({"after": NOW + HOUR}, False),
        ({"before": NOW + HOUR}, True),
        ({"before": NOW}, False),
    ],
)
def test_a_filter_selects_entries_for_which_all_fields_hold(filters: dict[str, Any], *, is_selected: bool) -> None:
    record = an_audit_record(resource="rule")
    assert AuditFilter(**{"tenant": "default"} | filters).selects(record) is is_selected
