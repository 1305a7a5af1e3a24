"""What becomes of Envoy's report of a call that it has refused."""

import pytest

from services.access.gateway_refusals import refusal_at_gateway
from services.access.methods import rpc_finder
from services.domain.audit_record import AuditOutcome, AuditRecord
from tests.fakes.clock import FakeClock

START = FakeClock().now()
RPC = "/tocsin.rules.v1.AlertRuleService/CreateAlertRule"
DENIED, LIMITED = "rbac_access_denied_matched_policy[none]", "local_rate_limited"
CLIENT = "spiffe://tocsin/client/acme/viewer/ada"


def refusal(**reported: str) -> AuditRecord:
    values = {
        "verb": "POST",
        "path": RPC,
        "details": DENIED,
        "address": "192.0.2.1",
        "request_id": "request",
        "trace_id": "-",
        "x-tocsin-caller-name": "-",
        "x-tocsin-caller-role": "-",
        "x-tocsin-caller-tenant": "-",
        "x-forwarded-client-cert": "-",
    }
    return refusal_at_gateway(values | reported, at=START, record_id="1", find_rpc=rpc_finder())


def test_of_somebody_without_credentials_the_address_is_known() -> None:
    assert refusal() == AuditRecord(
        id="1",
        create_time=START,
        tenant="default",
        actor="",
        actor_kind="",
        actor_id="",
        role="",
        method=RPC.lstrip("/"),
        peer_address="192.0.2.1",
        request_id="request",
        outcome=AuditOutcome.REFUSED,
        code="UNAUTHENTICATED",
        reason="UNAUTHENTICATED",
        service="gateway",
    )


def test_the_holder_of_a_token_is_known_by_its_claims() -> None:
    found = refusal(
        **{"x-tocsin-caller-name": "ann", "x-tocsin-caller-role": "viewer", "x-tocsin-caller-tenant": "shop"}
    )

    assert (found.actor, found.actor_kind, found.role, found.tenant) == ("ann", "token", "viewer", "shop")
    assert (found.code, found.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")


@pytest.mark.parametrize(
    ("identity", "actor", "kind", "tenant"),
    [
        (CLIENT, "ada", "certificate", "acme"),
        ("spiffe://tocsin/service/notifier", "notifier", "service", "default"),
    ],
)
def test_a_certificate_tells_who_called(identity: str, actor: str, kind: str, tenant: str) -> None:
    found = refusal(**{"x-forwarded-client-cert": f"By=spiffe://tocsin/service/gateway;Hash=ab;URI={identity}"})

    assert (found.actor, found.actor_kind, found.actor_id, found.tenant) == (actor, kind, identity, tenant)
    assert found.code == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    "reported", [{"x-forwarded-client-cert": "Hash=ab"}, {"x-tocsin-caller-name": "x", "x-tocsin-caller-role": "king"}]
)
def test_who_has_no_identity_or_role_of_ours_has_no_name_here(reported: dict[str, str]) -> None:
    found = refusal(**reported)

    assert (found.actor, found.actor_kind, found.role) == ("", "", "")
    assert found.code == "PERMISSION_DENIED"


def test_what_callers_without_credentials_may_not_do_is_theirs() -> None:
    found = refusal(**{"x-tocsin-caller-role": "viewer"})

    assert (found.actor, found.actor_kind, found.role) == ("", "anonymous", "viewer")


@pytest.mark.parametrize(
    ("path", "method", "resource"),
    [
        (RPC, RPC.lstrip("/"), ""),
        ("/api/alert-rules?requestId=secret", RPC.lstrip("/"), "/api/alert-rules"),
        ("/api/nothing?matchers=secret", "", "/api/nothing"),
        ("/stats/prometheus", "", "/stats/prometheus"),
        ("/api/" + "x" * 500, "", ("/api/" + "x" * 500)[:256]),
        ("-", "", ""),
    ],
)
def test_the_rpc_is_found_by_the_path_and_a_path_of_rest_is_the_resource_without_its_query(
    path: str, method: str, resource: str
) -> None:
    found = refusal(path=path, details=LIMITED)

    assert (found.method, found.resource) == (method, resource)
    assert (found.code, found.reason) == ("RESOURCE_EXHAUSTED", "")
