"""Who calls, and whether they may: pure functions of the call, the known keys and the time.

A call comes from Envoy, or from whoever reaches the port. Both show a certificate where TLS is on. Only what Envoy says
counts: it has verified tokens and client certificates, and removed these headers from what it was sent.

    header                          what Envoy says with it
    x-forwarded-client-cert         the SPIFFE id of the client certificate that it has verified
    x-tocsin-caller-name, -role,    of a verified token; with a role alone: what callers without credentials may do
      -tenant

The first of these that is there counts, and if it is not valid the call is refused: an API key or a token in
`authorization`, the certificate behind Envoy, what anonymous callers may do, the certificate of the connection itself.
Envoy's own certificate counts for what Envoy itself calls and routes nobody else's calls to.
"""

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from datetime import datetime

from services.access.keys import KEY_PREFIX, KeyRecord, read_key
from services.access.methods import GATEWAY_METHODS, MethodAccess
from services.chassis.callers import (
    DEFAULT_TENANT,
    Caller,
    IncomingCall,
    KeysUnavailable,
    PermissionDenied,
    Unauthenticated,
)
from services.chassis.peers import TRUST_DOMAIN, service_identity
from services.chassis.tenants import is_tenant_name
from services.domain.roles import Role

NAME_HEADER, ROLE_HEADER, TENANT_HEADER = "x-tocsin-caller-name", "x-tocsin-caller-role", "x-tocsin-caller-tenant"
CERTIFICATE_HEADER = "x-forwarded-client-cert"

GATEWAY = service_identity("gateway")
_SERVICE = re.compile(service_identity("([a-z]+)"))
_CLIENT = re.compile(rf"{TRUST_DOMAIN}/client/([a-z0-9-]{{1,63}})/([a-z]+)/([A-Za-z0-9._-]{{1,128}})")
_FORWARDED_ID = re.compile(r"(?:^|[;,])URI=(spiffe://[^;,]+)")
_BEARER = "bearer "
# Envoy finds a token anywhere in the header: no other one may stand before the one that it has verified.
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# Histories and the audit log keep it.
_MAX_NAME = 256
# As Envoy allows.
_CLOCK_SKEW_SECONDS = 60
# What a caller may be told by a header or a certificate; `service` is nobody's role but a service's.
_CLIENT_ROLES = frozenset(Role) - {Role.SERVICE}


def authenticate(call: IncomingCall, keys: Mapping[str, KeyRecord] | None, now: datetime) -> Caller:
    """Return who calls.

    `keys` are all valid keys by their id; None: not known yet. Raises Unauthenticated, and KeysUnavailable where only
    the keys could tell.
    """
    headers = call.metadata
    credentials = headers.get("authorization", "")
    scheme, text = credentials[: len(_BEARER)].lower(), credentials[len(_BEARER) :].strip()
    if scheme == _BEARER and text.startswith(KEY_PREFIX):
        # Whoever brings it: so the certificate of the connection, which takes as long again to read, is not read.
        return _holder_of(text, keys, now)
    is_from_gateway = call.peer_identity == GATEWAY
    if credentials:
        is_token = scheme == _BEARER and _TOKEN.fullmatch(text)
        if is_token and is_from_gateway and ROLE_HEADER in headers and NAME_HEADER in headers:
            if has_expired(text, now):
                raise Unauthenticated("authorization: the token has expired")
            return _named_by_gateway(headers, "token")
        raise Unauthenticated("authorization: expected `Bearer` with a valid API key or token")
    if is_from_gateway and (caller := _without_credentials(headers)):
        return caller
    if call.peer_identity and not is_from_gateway:
        return _certified(call.peer_identity)
    if is_from_gateway and call.method in GATEWAY_METHODS:
        return _certified(GATEWAY)
    raise Unauthenticated("expected an API key or a token as `authorization: Bearer …`, or a client certificate")


def caller_at_gateway(headers: Mapping[str, str]) -> Caller | None:
    """Return whom Envoy's headers name, of a call that it refused; None where nobody is known."""
    try:
        if ROLE_HEADER in headers and NAME_HEADER in headers:
            return _named_by_gateway(headers, "token")
        return _without_credentials(headers)
    except Unauthenticated:
        return None


def has_expired(token: str, now: datetime) -> bool:
    """Return whether a token, which Envoy has verified when the call came, has expired since: a stream goes on."""
    try:
        expiry = float(json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))["exp"])
    except (ValueError, LookupError, TypeError):
        # None that Envoy would have let through.
        return False
    return now.timestamp() > expiry + _CLOCK_SKEW_SECONDS


def authorize(caller: Caller, method: str, needed: MethodAccess | None) -> None:
    """Raise PermissionDenied unless the caller may call the method; None: no contract says what the method needs."""
    if needed is None:
        raise PermissionDenied(f"{method.lstrip('/')} may not be called")
    is_listed = caller.kind == "service" and caller.name in needed.services
    if is_listed or (needed.role is not Role.SERVICE and Role(caller.role).permits(needed.role)):
        return
    who = f"the role {caller.role}" if caller.kind != "service" else f"the service {caller.name}"
    services = " or ".join(sorted(needed.services))
    wanted = f"the service {services}" if needed.role is Role.SERVICE else f"the role {needed.role.value}"
    raise PermissionDenied(
        f"{method.rpartition('/')[2]} needs {wanted}, the caller has {who}", needed=needed.role.value
    )


def _without_credentials(headers: Mapping[str, str]) -> Caller | None:
    """Return whom Envoy's headers name where there is neither a key nor a token. Raises Unauthenticated."""
    if certificate := headers.get(CERTIFICATE_HEADER):
        found = _FORWARDED_ID.search(certificate)
        return _certified(found[1] if found else "")
    return _named_by_gateway({ROLE_HEADER: headers[ROLE_HEADER]}, "anonymous") if ROLE_HEADER in headers else None


def _holder_of(text: str, keys: Mapping[str, KeyRecord] | None, now: datetime) -> Caller:
    parts = read_key(text)
    if parts is None:
        raise Unauthenticated("authorization: this is not an API key: expected tocsin_, 12 and 43 characters")
    if keys is None:
        raise KeysUnavailable("the API keys are not known yet")
    key = keys.get(parts[0])
    if key is None or not key.is_held_with(parts[1]):
        raise Unauthenticated("authorization: there is no such API key, or it was revoked")
    if key.is_expired(now):
        raise Unauthenticated(f"authorization: the API key {key.id} has expired")
    return Caller(name=key.name, role=key.role.value, tenant=key.tenant, services=key.services, kind="key", id=key.id)


def _named_by_gateway(headers: Mapping[str, str], kind: str) -> Caller:
    role = headers[ROLE_HEADER].lower()
    if role not in _CLIENT_ROLES:
        raise Unauthenticated(f"the token's role is none of {', '.join(sorted(_CLIENT_ROLES))}")
    name, tenant = headers.get(NAME_HEADER, ""), headers.get(TENANT_HEADER) or DEFAULT_TENANT
    if len(name) > _MAX_NAME:
        raise Unauthenticated(f"the token's name is longer than {_MAX_NAME} characters")
    if not is_tenant_name(tenant):
        raise Unauthenticated("the token's tenant is none: expected lower-case letters, digits and hyphens")
    return Caller(name=name, role=role, tenant=tenant, kind=kind)


def _certified(identity: str) -> Caller:
    if service := _SERVICE.fullmatch(identity):
        return Caller(name=service[1], role=Role.SERVICE.value, kind="service", id=identity)
    client = _CLIENT.fullmatch(identity)
    if client is None or client[2] not in _CLIENT_ROLES:
        raise Unauthenticated("the client certificate has no SPIFFE id of this system with a role")
    return Caller(name=client[3], role=client[2], tenant=client[1], kind="certificate", id=identity)
