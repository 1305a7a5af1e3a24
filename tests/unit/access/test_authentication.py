"""Who calls, and whether they may."""

from base64 import urlsafe_b64encode
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.access.authentication import GATEWAY, authenticate, authorize
from services.access.keys import KeyRecord, hash_secret, read_key
from services.access.methods import GATEWAY_METHODS, MethodAccess
from services.chassis.callers import Caller, KeysUnavailable, KnownCall, PermissionDenied, Unauthenticated
from services.domain.roles import Role
from tests.fakes.clock import FakeClock

START = FakeClock().now()
ID, SECRET = "abcdefghijk2", "s" * 43
TEXT = f"tocsin_{ID}_{SECRET}"
KEY = KeyRecord(
    id=ID,
    secret_hash=hash_secret(SECRET),
    name="ci",
    role=Role.INGEST,
    tenant="acme",
    services=frozenset({"payment"}),
    expire_time=START + timedelta(hours=1),
)
KEYS = {ID: KEY}
METHOD = "/tocsin.alerts.v1.AlertService/ListAlerts"
CLIENT = "spiffe://tocsin/client/acme/editor/ann.lee"


def incoming(peer: str = GATEWAY, **metadata: str) -> KnownCall:
    return KnownCall(
        method=METHOD, metadata={key.replace("_", "-"): value for key, value in metadata.items()}, peer_identity=peer
    )


def bearer(text: str, peer: str = GATEWAY) -> KnownCall:
    return incoming(peer, authorization=f"Bearer {text}")


def test_the_gateway_itself_is_known_where_it_is_the_caller_and_nowhere_else() -> None:
    (reports,) = GATEWAY_METHODS
    own = replace(incoming(), method=reports)
    gateway = authenticate(own, KEYS, START)

    assert (gateway.name, gateway.kind, gateway.role) == ("gateway", "service", "service")
    authorize(gateway, reports, GATEWAY_METHODS[reports])
    for other in (incoming(), replace(own, peer_identity="")):
        with pytest.raises(Unauthenticated):
            authenticate(other, KEYS, START)
    # A service that calls through Envoy, if a route led there, or at the manager's own port.
    evaluator = "spiffe://tocsin/service/evaluator"
    for other in (incoming(x_forwarded_client_cert=f"URI={evaluator}"), incoming(evaluator)):
        with pytest.raises(PermissionDenied):
            authorize(authenticate(replace(other, method=reports), KEYS, START), reports, GATEWAY_METHODS[reports])


@pytest.mark.parametrize("peer", ["", GATEWAY, CLIENT])
@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
def test_a_key_tells_who_calls_whoever_brings_it(peer: str, scheme: str) -> None:
    caller = authenticate(incoming(peer, authorization=scheme + TEXT), KEYS, START)

    assert caller == Caller(name="ci", role="ingest", tenant="acme", services=frozenset({"payment"}), kind="key", id=ID)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"tocsin_{ID}_{'t' * 43}", "no such API key"),
        (f"tocsin_{'b' * 12}_{SECRET}", "no such API key"),
        (f"tocsin_{ID}_short", "not an API key"),
        (f"tocsin_{ID}_{SECRET}x", "not an API key"),
        ("eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "expected `Bearer`"),
        ("", "expected `Bearer`"),
    ],
)
def test_a_key_that_is_not_valid_is_refused_without_its_text(text: str, message: str) -> None:
    with pytest.raises(Unauthenticated, match=message) as refused:
        authenticate(bearer(text), KEYS, START)

    assert SECRET not in str(refused.value)


def test_a_key_is_valid_until_it_expires() -> None:
    assert authenticate(bearer(TEXT), KEYS, START + timedelta(minutes=59)).id == ID
    with pytest.raises(Unauthenticated, match=f"{ID} has expired"):
        authenticate(bearer(TEXT), KEYS, START + timedelta(hours=1))


def test_a_key_without_an_end_does_not_expire() -> None:
    key = KeyRecord(id=ID, secret_hash=hash_secret(SECRET), name="ann", role=Role.ADMIN)

    assert authenticate(bearer(TEXT), {ID: key}, START + timedelta(days=9_999)).name == "ann"


def test_without_known_keys_only_a_key_is_answered_unavailable() -> None:
    with pytest.raises(KeysUnavailable):
        authenticate(bearer(TEXT), None, START)
    with pytest.raises(Unauthenticated):
        authenticate(bearer("tocsin_nonsense"), None, START)
    assert authenticate(incoming(CLIENT), None, START).name == "ann.lee"


@pytest.mark.parametrize("scheme", ["Basic ", "Bearer", "Token "])
def test_other_schemes_are_refused(scheme: str) -> None:
    with pytest.raises(Unauthenticated):
        authenticate(incoming(authorization=scheme + TEXT), KEYS, START)


def test_a_token_is_what_envoy_says_of_it() -> None:
    token = incoming(
        authorization="Bearer ey.ey.s",
        x_tocsin_caller_name="ann",
        x_tocsin_caller_role="Editor",
        x_tocsin_caller_tenant="acme",
    )

    assert authenticate(token, KEYS, START) == Caller(name="ann", role="editor", tenant="acme", kind="token")


@pytest.mark.parametrize(
    ("payload", "lasts"),
    [
        (f'{{"exp":{START.timestamp() - 59}}}', True),
        (f'{{"exp":{START.timestamp() - 61}}}', False),
        # Envoy lets none of these through, and knows better.
        ('{"exp":"soon"}', True),
        ('{"exp":null}', True),
        ("{}", True),
        ("[]", True),
        ("none", True),
    ],
)
def test_a_token_that_has_expired_since_envoy_saw_it_is_refused(payload: str, *, lasts: bool) -> None:
    text = f"ey.{urlsafe_b64encode(payload.encode()).decode().rstrip('=')}.s"
    token = incoming(authorization=f"Bearer {text}", x_tocsin_caller_name="ann", x_tocsin_caller_role="viewer")
    if lasts:
        assert authenticate(token, KEYS, START).name == "ann"
    else:
        with pytest.raises(Unauthenticated, match="has expired"):
            authenticate(token, KEYS, START)


@pytest.mark.parametrize("text", ["bearer {far} Bearer {own}", "Bearer {own} {far}", "Bearer {own},{far}", "x {own}"])
def test_no_other_token_stands_beside_the_one_that_envoy_has_verified(text: str) -> None:
    far, own = (f"ey.{urlsafe_b64encode(b'{%s}' % expiry).decode().rstrip('=')}.s" for expiry in (b'"exp":9e12', b""))
    found = incoming(
        authorization=text.format(far=far, own=own), x_tocsin_caller_name="ann", x_tocsin_caller_role="viewer"
    )

    with pytest.raises(Unauthenticated, match="expected `Bearer`"):
        authenticate(found, KEYS, START)


@pytest.mark.parametrize(
    ("header", "value", "message"),
    [
        ("x_tocsin_caller_name", "n" * 257, "longer than 256"),
        ("x_tocsin_caller_tenant", "Acme", "tenant is none"),
        ("x_tocsin_caller_tenant", "a" * 64, "tenant is none"),
        # As Envoy writes a claim that is a list.
        ("x_tocsin_caller_tenant", "WyJhIl0=", "tenant is none"),
    ],
)
def test_a_token_whose_name_or_tenant_is_none_is_refused(header: str, value: str, message: str) -> None:
    claims = {"x_tocsin_caller_name": "n" * 256, "x_tocsin_caller_role": "viewer"} | {header: value}

    with pytest.raises(Unauthenticated, match=message):
        authenticate(incoming(authorization="Bearer ey.ey.s", **claims), KEYS, START)


def test_a_token_without_a_tenant_is_of_the_default_one() -> None:
    token = incoming(authorization="Bearer ey.ey.s", x_tocsin_caller_name="ann", x_tocsin_caller_role="viewer")

    assert authenticate(token, KEYS, START).tenant == "default"


@pytest.mark.parametrize("role", ["service", "root", ""])
def test_a_token_with_another_role_is_refused(role: str) -> None:
    token = incoming(authorization="Bearer ey.ey.s", x_tocsin_caller_name="ann", x_tocsin_caller_role=role)

    with pytest.raises(Unauthenticated, match="role is none of"):
        authenticate(token, KEYS, START)


@pytest.mark.parametrize("peer", ["", CLIENT, "spiffe://tocsin/service/evaluator", GATEWAY + "s"])
@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer ey.ey.s", "x_tocsin_caller_name": "ann", "x_tocsin_caller_role": "admin"},
        {"x_tocsin_caller_role": "admin"},
        {"x_forwarded_client_cert": "URI=spiffe://tocsin/client/default/admin/eve"},
    ],
)
def test_nobody_but_envoy_is_believed(peer: str, headers: dict[str, str]) -> None:
    try:
        caller = authenticate(incoming(peer, **headers), KEYS, START)
    except Unauthenticated:
        return
    assert caller.id == peer


@pytest.mark.parametrize(
    "form", ["URI={}", "By=spiffe://tocsin/service/gateway;Hash=ab;URI={}", "Hash=ab;URI={};DNS=x"]
)
def test_a_client_certificate_behind_envoy_tells_who_calls(form: str) -> None:
    caller = authenticate(incoming(x_forwarded_client_cert=form.format(CLIENT)), KEYS, START)

    assert caller == Caller(name="ann.lee", role="editor", tenant="acme", kind="certificate", id=CLIENT)


@pytest.mark.parametrize("peer_and_header", [(CLIENT, {}), (GATEWAY, {"x_forwarded_client_cert": f"URI={CLIENT}"})])
def test_a_key_counts_before_a_certificate(peer_and_header: tuple[str, dict[str, str]]) -> None:
    peer, header = peer_and_header

    assert authenticate(incoming(peer, authorization=f"Bearer {TEXT}", **header), KEYS, START).kind == "key"


def test_a_service_is_known_by_its_certificate() -> None:
    identity = "spiffe://tocsin/service/evaluator"
    known = Caller(name="evaluator", role="service", kind="service", id=identity)

    assert authenticate(incoming(x_forwarded_client_cert=f"URI={identity}"), KEYS, START) == known
    assert authenticate(incoming(identity), KEYS, START) == known


@pytest.mark.parametrize(
    "certificate",
    [
        "Hash=ab",
        "URI=spiffe://elsewhere/service/evaluator",
        "URI=spiffe://tocsin/client/acme/service/eve",
        "URI=spiffe://tocsin/client/acme/root/eve",
        "URI=spiffe://tocsin/client/acme/admin/eve/more",
        "XURI=spiffe://tocsin/client/default/admin/eve",
    ],
)
def test_a_certificate_without_an_identity_of_ours_is_refused(certificate: str) -> None:
    with pytest.raises(Unauthenticated, match="SPIFFE id"):
        authenticate(incoming(x_forwarded_client_cert=certificate), KEYS, START)


def test_callers_without_credentials_are_what_envoy_lets_them_be() -> None:
    anonymous = authenticate(incoming(x_tocsin_caller_role="admin", x_tocsin_caller_tenant="acme"), KEYS, START)

    assert anonymous == Caller(name="", role="admin", tenant="default", kind="anonymous")
    assert anonymous.is_anonymous


@pytest.mark.parametrize("peer", ["", GATEWAY])
def test_callers_without_credentials_are_refused_where_envoy_says_nothing(peer: str) -> None:
    with pytest.raises(Unauthenticated, match="expected an API key"):
        authenticate(incoming(peer), KEYS, START)


@given(st.text(), st.text())
def test_no_text_is_a_key_by_chance(first: str, second: str) -> None:
    assert read_key(first) is None
    assert read_key(f"tocsin_{first}_{second}") in (None, (first, hash_secret(second)))


def caller(role: Role, kind: str = "key", name: str = "x") -> Caller:
    return Caller(name=name, role=role.value, kind=kind)


VIEWED = MethodAccess(role=Role.VIEWER, services=frozenset({"evaluator"}))
INTERNAL = MethodAccess(role=Role.SERVICE, services=frozenset({"evaluator", "ingest"}))


@pytest.mark.parametrize(
    ("one", "needed"),
    [
        (caller(Role.VIEWER), VIEWED),
        (caller(Role.ADMIN), VIEWED),
        (caller(Role.SERVICE, "service", "evaluator"), VIEWED),
        (caller(Role.SERVICE, "service", "evaluator"), INTERNAL),
    ],
)
def test_a_caller_may_with_the_role_or_as_a_listed_service(one: Caller, needed: MethodAccess) -> None:
    authorize(one, METHOD, needed)


@pytest.mark.parametrize(
    ("one", "needed", "message"),
    [
        (caller(Role.INGEST), VIEWED, "ListAlerts needs the role viewer, the caller has the role ingest"),
        (
            caller(Role.SERVICE, "service", "notifier"),
            VIEWED,
            "needs the role viewer, the caller has the service notifier",
        ),
        (caller(Role.ADMIN), INTERNAL, "needs the service evaluator or ingest, the caller has the role admin"),
        (caller(Role.ADMIN, "key", "evaluator"), INTERNAL, "needs the service"),
        (caller(Role.SERVICE, "service", "manager"), INTERNAL, "needs the service"),
        (caller(Role.ADMIN), None, "may not be called"),
    ],
)
def test_all_others_are_refused_with_what_is_needed(one: Caller, needed: MethodAccess | None, message: str) -> None:
    with pytest.raises(PermissionDenied, match=message):
        authorize(one, METHOD, needed)
